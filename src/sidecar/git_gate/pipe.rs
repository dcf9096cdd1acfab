//! The pipe that git talks through. git starts it as its ssh: `bottler git-pipe "git-upload-pack '…'"`; it connects to
//! the gate's socket, and the gate converses with the upstream. So git has no key, no network and no shell, and one way
//! serves every upstream.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use super::conversation::{Service, Task, Trouble};
use super::git::Git;
use super::pkt;
use super::splice::splice;
use super::upstream::Target;
use crate::sidecar::socket;
use crate::sync::lock;

/// The name of the process on the command line, and of the host in the URL that git is given.
pub const PIPE: &str = "git-pipe";
/// How long to wait for the end of a conversation that failed.
const PATIENCE: Duration = Duration::from_secs(5);
/// The variable that names the socket.
const SOCKET: &str = "BOTTLER_GIT_PIPE";

/// The URL that git is given.
pub(super) fn url() -> String {
    format!("ssh://{PIPE}/upstream")
}

/// A socket of the gate that leads to one upstream.
pub(super) struct Pipe {
    path: PathBuf,
    /// Of the conversation of the current operation.
    trouble: Arc<Mutex<Trouble>>,
    _task: Task,
}

impl Pipe {
    /// Listens; each connection is a conversation of its own, for fetching only.
    ///
    /// # Errors
    /// It cannot listen.
    pub(super) fn listen(path: PathBuf, target: Arc<Target>) -> anyhow::Result<Self> {
        let listener = socket::listen_again(&path, socket::OWN)?;
        let trouble: Arc<Mutex<Trouble>> = Arc::default();
        let told = trouble.clone();
        let task = crate::task::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let told = lock(&told).clone();
                crate::task::spawn(converse(stream, target.clone(), told));
            }
        });
        Ok(Self { path, trouble, _task: Task(task) })
    }

    /// git, whose transport is this pipe.
    ///
    /// # Errors
    /// This program does not know where it is.
    pub(super) fn transport(&self, git: &Git) -> anyhow::Result<Git> {
        let program = std::env::current_exe().context("find this program")?;
        *lock(&self.trouble) = Trouble::default();
        let git = git.env("GIT_SSH", program).env("GIT_SSH_VARIANT", "simple").env(SOCKET, &self.path);
        Ok(git.env("GIT_ALLOW_PROTOCOL", "ssh"))
    }

    /// Why the conversation failed; empty if nobody knows. git may end before its transport does.
    pub(super) async fn trouble(&self) -> String {
        let trouble = lock(&self.trouble).clone();
        tokio::time::timeout(PATIENCE, trouble.ended()).await.unwrap_or_default()
    }
}

async fn converse(near: UnixStream, target: Arc<Target>, told: Trouble) {
    let (reader, mut writer) = near.into_split();
    match target.open(Service::UploadPack).await {
        Ok(far) => {
            let copied = splice((reader, writer), (far.reader, far.writer)).await;
            let why = far.trouble.ended().await;
            told.set(if why.is_empty() {
                copied.err().map(|error| error.to_string()).unwrap_or_default()
            } else {
                why
            });
        }
        Err(error) => {
            let why = format!("{error:#}");
            let _ = writer.write_all(&pkt::line(format!("ERR {}", super::visible::reason(&why)))).await;
            told.set(why);
        }
    }
}

/// The process that git starts.
///
/// # Errors
/// The gate cannot be reached.
pub fn run() -> anyhow::Result<()> {
    let path = std::env::var_os(SOCKET).with_context(|| format!("{PIPE} is started by the gate's git only"))?;
    let mut from = BlockingStream::connect(Path::new(&path)).context("connect to the gate")?;
    let mut to = from.try_clone()?;
    std::thread::spawn(move || {
        let _ = copy(&mut std::io::stdin().lock(), &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    copy(&mut from, &mut std::io::stdout().lock()).context("copy what the upstream says")
}

/// Copies, and passes on every piece at once.
fn copy(from: &mut impl Read, to: &mut impl Write) -> std::io::Result<()> {
    let mut piece = vec![0; 64 << 10];
    loop {
        let length = match from.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        to.write_all(&piece[..length])?;
        to.flush()?;
    }
}
