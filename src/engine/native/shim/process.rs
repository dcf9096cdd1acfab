//! Children of a shim: this executable in another role, which says over a channel of its own when it is ready.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use tokio::process::Child;

use crate::engine::native::child;

/// Starts this executable in a role, with one descriptor of its own.
pub(super) fn spawn(
    words: &[&str],
    descriptor: UnixStream,
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

/// Waits until a child says that it is ready; the terminal that it opened. Anything else that it says is why it is not.
pub(super) fn await_ready(from: &UnixStream) -> anyhow::Result<Option<OwnedFd>> {
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
    let mut buffer = [0_u8; 4096];
    let mut rights = nix::cmsg_space!(i32);
    let mut parts = [std::io::IoSliceMut::new(&mut buffer)];
    let received = recvmsg::<()>(from.as_raw_fd(), &mut parts, Some(&mut rights), MsgFlags::MSG_CMSG_CLOEXEC)?;
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
    match &buffer[..length] {
        [] => anyhow::bail!("it ended before it was ready"),
        [child::READY, ..] => Ok(terminal),
        why => anyhow::bail!("{}", String::from_utf8_lossy(why)),
    }
}
