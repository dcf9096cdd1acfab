//! Waits for input, with a timeout.

use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Waits until a socket is readable. Some kernels ignore a timeout on the socket itself (gVisor, for the host's
/// sockets).
pub(super) fn readable(socket: &impl AsFd, patience: Duration) -> std::io::Result<()> {
    let patience = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
    let mut polled = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    match poll(&mut polled, patience)? {
        0 => Err(std::io::ErrorKind::TimedOut.into()),
        _ => Ok(()),
    }
}
