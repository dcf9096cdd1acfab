//! Starts a holder: the same executable in its own session, with a socket as its standard input.
//!
//! The holder and its reaper live for hours, and any process of this user can read their environment and use their
//! descriptors. So they get only the variables that they need, by name, and only three descriptors.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use crate::engine::native::executable;

/// The role's name on the command line.
pub const ROLE: &str = "holder";

/// Shorter parts of a secret occur in many harmless values.
const MIN_SECRET: usize = 8;

/// Variables that a holder keeps: to find the user's files and programs, the engine, and the way to the engine
/// (`ssh`).
const KEPT: [&str; 17] = [
    "DBUS_SESSION_BUS_ADDRESS",
    "HOME",
    "LANG",
    "LANGUAGE",
    "LOGNAME",
    "PATH",
    "RUST_BACKTRACE",
    "SHELL",
    "SSH_AGENT_PID",
    "SSH_AUTH_SOCK",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TEMP",
    "TMP",
    "TMPDIR",
    "TZ",
    "USER",
];
/// Prefixes of further variables that it keeps.
const KEPT_BEGINNINGS: [&str; 4] = ["BOTTLER_", "DOCKER_", "LC_", "XDG_"];

/// Starts a holder that outlives its client's terminal, for a bottle on the engine at this address. Returns the client's end of the
/// socket, and the process id. The holder's standard error goes to `log`.
///
/// # Errors
/// The process cannot be started.
#[expect(unsafe_code, reason = "the session must be its own before a terminal's signal can reach it")]
pub fn spawn(secrets: &[&String], endpoint: &str, log: File) -> std::io::Result<(UnixStream, nix::unistd::Pid)> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut command = Command::new(executable(endpoint).unwrap_or_else(|| "/proc/self/exe".into()));
    command.arg(ROLE).stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::null()).stderr(log);
    command.env_clear().envs(std::env::vars_os().filter(|(name, value)| {
        let (name, value) = (name.to_string_lossy(), value.to_string_lossy());
        is_kept(&name) && !holds(&value, secrets)
    }));
    // SAFETY: setsid is async-signal-safe and takes nothing.
    unsafe { command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(Into::into)) };
    let child = command.spawn()?;
    Ok((ours, nix::unistd::Pid::from_raw(child.id().cast_signed())))
}

/// The environment of host commands that scripts may run: the user's, without variables that contain a secret.
pub fn host_env(secrets: &[&String]) -> BTreeMap<String, String> {
    let texts =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    texts.filter(|(_, value)| !holds(value, secrets)).collect()
}

fn is_kept(name: &str) -> bool {
    KEPT.contains(&name) || KEPT_BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
}

/// Whether a value contains a secret, or is a part of one.
fn holds(value: &str, secrets: &[&String]) -> bool {
    secrets.iter().any(|secret| {
        let whole = **secret == value || secret.len() >= MIN_SECRET && value.contains(secret.as_str());
        whole || value.len() >= MIN_SECRET && secret.contains(value)
    })
}

/// Takes the holder's end of the socket. Standard input becomes `/dev/null`, so that no child process inherits the
/// socket.
pub(super) fn client_socket() -> std::io::Result<UnixStream> {
    use std::os::fd::AsFd;
    // The clone is close-on-exec, unlike the result of dup.
    let socket = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    nix::unistd::dup2_stdin(File::open("/dev/null")?)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_keeps_what_it_needs_and_no_variable_with_a_secret() {
        for (name, kept) in
            [("PATH", true), ("DOCKER_HOST", true), ("LC_ALL", true), ("GH_TOKEN", false), ("EDITOR", false)]
        {
            assert_eq!(is_kept(name), kept, "{name}");
        }
        let (long, short) = ("s3cret-value-1".to_owned(), "abc".to_owned());
        for (value, held) in [
            ("s3cret-value-1", true),
            ("https://user:s3cret-value-1@host", true),
            ("s3cret-value", true),
            ("s3cret", false),
            ("abc", true),
            ("abcdefghij", false),
            ("/usr/bin", false),
        ] {
            assert_eq!(holds(value, &[&long, &short]), held, "{value}");
        }
    }
}
