//! Children of a shim: this executable in another role, which says over a channel of its own when it is ready.
//!
//! Attack: a process of the container stops another one that is just joining it (SIGSTOP needs no privilege among processes of one
//! user), and does so before that one's exec. Whoever starts a process waits for its exec (vfork), then for ever. So each child is
//! started by a thread of its own; the shim gives both up after a while, and serves others meanwhile.

use std::convert::Infallible;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock, mpsc};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::sync::oneshot;

use crate::engine::native::child;
use crate::engine::native::users::{self, Mapping};

/// Bytes of a parent's stack.
const STACK: usize = 256 << 10;

/// The ends of a channel to a child: the shim's own, and the one that the child inherits.
pub(super) fn channel() -> std::io::Result<(UnixStream, std::os::unix::net::UnixStream)> {
    let (near, far) = std::os::unix::net::UnixStream::pair()?;
    near.set_nonblocking(true)?;
    Ok((UnixStream::from_std(near)?, far))
}

/// A child, in the container's PID namespace.
pub(super) struct Started {
    pub(super) child: Child,
    pub(super) parent: Parent,
}

/// The thread that a child was started by. The kernel kills the child at the thread's end (prctl(2), `PR_SET_PDEATHSIG`), which
/// comes when this is dropped.
pub(super) struct Parent {
    _keep: mpsc::Sender<Infallible>,
    /// The PID namespace of its children.
    pub(super) namespace: Arc<File>,
}

/// The user namespace of a container with users of its own, which every child inherits.
#[derive(Default)]
pub(super) struct Users(Option<File>);

impl Users {
    /// Makes it.
    pub(super) fn new(mapping: Mapping) -> std::io::Result<Self> {
        let namespace = users::namespace(mapping)?;
        fcntl(&namespace, FcntlArg::F_SETFD(FdFlag::empty()))?;
        Ok(Self(Some(namespace)))
    }

    /// Its descriptor, as a child's command line has it.
    pub(super) fn word(&self) -> String {
        self.0.as_ref().map_or_else(|| child::NO_USERS.to_owned(), |namespace| namespace.as_raw_fd().to_string())
    }
}

/// Starts this executable in a role, with one descriptor of its own and these streams: in a PID namespace, or, as its first process,
/// in one of its own. If this is dropped before it is done, the child is killed.
pub(super) async fn spawn(
    words: &[&str],
    descriptor: std::os::unix::net::UnixStream,
    [input, output, error]: [Stdio; 3],
    namespace: Option<Arc<File>>,
) -> anyhow::Result<Started> {
    let descriptor = OwnedFd::from(descriptor);
    fcntl(&descriptor, FcntlArg::F_SETFD(FdFlag::empty()))?;
    let mut command = Command::new("/proc/self/exe");
    command.args(words).env_clear().stdin(input).stdout(output).stderr(error);
    let mut command = tokio::process::Command::from(command);
    let (sender, started) = oneshot::channel();
    let (keep, kept) = mpsc::channel();
    let mut thread = Thread(Arc::default());
    let (number, runtime) = (thread.0.clone(), tokio::runtime::Handle::current());
    let parent = move || {
        let _ = number.set(rustix::thread::gettid().as_raw_nonzero().get());
        let start = || {
            let _in_runtime = runtime.enter();
            let _descriptor = descriptor;
            match &namespace {
                Some(namespace) => setns(namespace.as_fd(), CloneFlags::CLONE_NEWPID)?,
                None => unshare(CloneFlags::CLONE_NEWPID)?,
            }
            let child = command.spawn()?;
            // Known only when it has its first process.
            let namespace =
                namespace.map_or_else(|| File::open("/proc/thread-self/ns/pid_for_children").map(Arc::new), Ok)?;
            anyhow::Ok((child, namespace))
        };
        if let Err(Ok((mut child, _))) = sender.send(start()) {
            let _ = child.start_kill();
        }
        // Nothing is ever sent.
        let _ = kept.recv();
    };
    std::thread::Builder::new().name("parent".into()).stack_size(STACK).spawn(parent)?;
    let (child, namespace) = started.await??;
    thread.0 = Arc::default();
    Ok(Started { child, parent: Parent { _keep: keep, namespace } })
}

/// A thread that is starting a child, by its number. At its end the child is killed, so that the thread goes on.
struct Thread(Arc<OnceLock<i32>>);

impl Drop for Thread {
    fn drop(&mut self) {
        let Some(thread) = self.0.get() else { return };
        let children = std::fs::read_to_string(format!("/proc/self/task/{thread}/children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|number| number.parse().ok()) {
            let _ = kill(Pid::from_raw(child), Signal::SIGKILL);
        }
    }
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
