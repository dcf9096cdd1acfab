//! How a client starts a holder: the same executable, in a session of its own, a socket as its standard input.
//!
//! The holder and the reaper that it starts live for hours, and anybody of this user can read a process' environment and use its
//! descriptors. So they get of the user's environment what they need, by name, and no descriptor but three.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// The role's name on the command line.
pub const ROLE: &str = "holder";

/// A shorter part of a secret is in many values that are none.
const MIN_SECRET: usize = 8;

/// Variables that a holder keeps: to find its user's files and programs, the engine, and the way to it (`ssh`).
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
/// The same, by how their names begin.
const KEPT_BEGINNINGS: [&str; 4] = ["BOTTLER_", "DOCKER_", "LC_", "XDG_"];

/// Starts a holder: the client's end of the socket, and the process. It outlives its client's terminal. What it has to say beside
/// the socket goes to `log`.
///
/// # Errors
/// The process cannot be started.
#[expect(unsafe_code, reason = "the session must be its own before a terminal's signal can reach it")]
pub fn spawn(secrets: &[&String], log: File) -> std::io::Result<(UnixStream, nix::unistd::Pid)> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut command = Command::new("/proc/self/exe");
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

/// The variables that commands of the host get, where the user lets scripts run some: all but those that hold a secret.
pub fn host_env(secrets: &[&String]) -> BTreeMap<String, String> {
    let texts =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    texts.filter(|(_, value)| !holds(value, secrets)).collect()
}

fn is_kept(name: &str) -> bool {
    KEPT.contains(&name) || KEPT_BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
}

/// Whether a value holds a secret, or is a part of one.
fn holds(value: &str, secrets: &[&String]) -> bool {
    secrets.iter().any(|secret| {
        let whole = **secret == value || secret.len() >= MIN_SECRET && value.contains(secret.as_str());
        whole || value.len() >= MIN_SECRET && secret.contains(value)
    })
}

/// The holder's end. Standard input is nothing from then on: no process that the holder starts gets the socket.
pub(super) fn client_socket() -> std::io::Result<UnixStream> {
    use std::os::fd::AsFd;
    // Unlike dup, closed where a program is started.
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
