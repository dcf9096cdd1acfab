//! Children of a shim: this executable in another role, which says over a channel of its own when it is ready.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::{Command, Stdio};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::process::Child;

use crate::engine::native::child;

/// The ends of a channel to a child: the shim's own, and the one that the child inherits.
pub(super) fn channel() -> std::io::Result<(UnixStream, std::os::unix::net::UnixStream)> {
    let (near, far) = std::os::unix::net::UnixStream::pair()?;
    near.set_nonblocking(true)?;
    Ok((UnixStream::from_std(near)?, far))
}

/// Starts this executable in a role, with one descriptor of its own.
pub(super) fn spawn(
    words: &[&str],
    descriptor: std::os::unix::net::UnixStream,
    input: Stdio,
    output: Stdio,
    error: Stdio,
) -> anyhow::Result<Child> {
    let descriptor = OwnedFd::from(descriptor);
    fcntl(&descriptor, FcntlArg::F_SETFD(FdFlag::empty()))?;
    let mut command = Command::new("/proc/self/exe");
    command.args(words).env_clear().stdin(input).stdout(output).stderr(error);
    let child = tokio::process::Command::from(command).spawn();
    drop(descriptor);
    Ok(child?)
}

/// Waits until a child says that it is ready; the terminal that it opened. `network` is called when it says before that others can
/// join its network. Anything else that it says is why it is not ready. A child may be frozen before it says anything: the shim
/// serves others, and its engine's end, meanwhile.
pub(super) async fn await_ready(
    from: &UnixStream,
    network: impl Fn() -> anyhow::Result<()>,
) -> anyhow::Result<Option<OwnedFd>> {
    let mut said = Vec::new();
    loop {
        from.readable().await?;
        let terminal = match from.try_io(Interest::READABLE, || receive(from)) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            received => {
                let (more, terminal) = received?;
                anyhow::ensure!(!more.is_empty(), "it ended before it was ready");
                said.extend(more);
                terminal
            }
        };
        if said.first() == Some(&child::NETWORK) {
            said.remove(0);
            network()?;
        }
        match said.as_slice() {
            [] => {}
            [child::READY, ..] => return Ok(terminal),
            why => anyhow::bail!("{}", String::from_utf8_lossy(why)),
        }
    }
}

/// What a child says now, and the descriptor that comes with it.
fn receive(from: &UnixStream) -> std::io::Result<(Vec<u8>, Option<OwnedFd>)> {
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
    let mut buffer = [0_u8; 4096];
    let mut rights = nix::cmsg_space!(i32);
    let mut parts = [std::io::IoSliceMut::new(&mut buffer)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let received = recvmsg::<()>(from.as_raw_fd(), &mut parts, Some(&mut rights), flags)?;
    let length = received.bytes;
    let mut terminal = None;
    for message in received.cmsgs()? {
        if let ControlMessageOwned::ScmRights(descriptors) = message {
            for descriptor in descriptors {
                // SAFETY: the kernel has just made it for this process, and nothing else knows it.
                #[expect(unsafe_code, reason = "a received descriptor is a number")]
                let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
                terminal = Some(descriptor);
            }
        }
    }
    Ok((buffer[..length].to_vec(), terminal))
}
