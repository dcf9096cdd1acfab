//! How a client starts a holder: the same executable, in a session of its own, a socket as its standard input.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// The role's name on the command line.
pub const ROLE: &str = "holder";

/// A shorter part of a secret is in many values that are none.
const MIN_SECRET: usize = 8;

/// Starts a holder; the client's end of the socket. It outlives its client's terminal. Variables of the host that hold one
/// of these secrets are not its: it is told them, and anybody of this user can read a process' environment.
///
/// # Errors
/// The process cannot be started.
#[expect(unsafe_code, reason = "the session must be its own before a terminal's signal can reach it")]
pub fn spawn(secrets: &[&String]) -> std::io::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut command = Command::new("/proc/self/exe");
    command.arg(ROLE).stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::null()).stderr(Stdio::null());
    for (name, value) in std::env::vars_os() {
        let value = value.to_string_lossy();
        if secrets.iter().any(|secret| **secret == value || value.len() >= MIN_SECRET && secret.contains(&*value)) {
            command.env_remove(name);
        }
    }
    // SAFETY: setsid is async-signal-safe and takes nothing.
    unsafe { command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(Into::into)) };
    command.spawn()?;
    Ok(ours)
}

/// The holder's end.
pub(super) fn client_socket() -> std::io::Result<UnixStream> {
    let socket = UnixStream::from(nix::unistd::dup(std::io::stdin())?);
    socket.set_nonblocking(true)?;
    Ok(socket)
}
