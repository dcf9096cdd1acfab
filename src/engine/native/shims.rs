//! The engine's end of shims: it starts them, keeps them alive, and knows which of them are ready.
//!
//! A shim starts in the background, so that the containers of a bottle come up beside each other: creating a container takes its
//! name and writes its record, and whatever is asked of it afterwards waits until its shim is ready ([`Shims::settled`]). Where a shim
//! fails, what there was of its container is removed, and the reason is the answer to whatever is asked of it.

use std::collections::HashMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin};
use tokio::sync::watch;

use super::{shim, store};
use crate::sync::lock;

/// How long a shim may take to make a container.
const CREATE: Duration = Duration::from_secs(30);

/// How far a shim is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Progress {
    Starting,
    /// Others can join its container's network.
    Network,
    Ready,
    Failed(String),
}

/// The shims that this process has started.
#[derive(Default)]
pub(super) struct Shims {
    /// The other ends of their standard inputs: a container lives as long as its own is open.
    lifelines: Mutex<HashMap<String, ChildStdin>>,
    starts: Mutex<HashMap<String, watch::Receiver<Progress>>>,
}

/// A shim whose container is ready.
pub(super) struct Running {
    pub(super) lifeline: ChildStdin,
    pub(super) child: Child,
}

impl Shims {
    /// Starts a container's shim in the background. `setup` completes its folder; `command` is the shim; `clear` removes what there
    /// is of the container if it fails.
    pub(super) fn start<C>(
        self: &Arc<Self>,
        container: &str,
        setup: impl Future<Output = Result<(), String>> + Send + 'static,
        command: tokio::process::Command,
        clear: impl FnOnce() -> C + Send + 'static,
    ) where
        C: Future<Output = ()> + Send + 'static,
    {
        let (sender, progress) = watch::channel(Progress::Starting);
        lock(&self.starts).insert(container.to_owned(), progress);
        let (shims, name) = (self.clone(), container.to_owned());
        crate::task::spawn(async move {
            let started = async {
                setup.await?;
                run(command, || drop(sender.send_replace(Progress::Network))).await
            };
            match started.await {
                Ok(Running { lifeline, .. }) => {
                    lock(&shims.lifelines).insert(name, lifeline);
                    sender.send_replace(Progress::Ready);
                }
                Err(why) => {
                    clear().await;
                    sender.send_replace(Progress::Failed(why));
                }
            }
        });
    }

    /// Keeps a shim alive that was started otherwise.
    pub(super) fn keep(&self, container: &str, lifeline: ChildStdin) {
        lock(&self.lifelines).insert(container.to_owned(), lifeline);
    }

    /// Forgets a container that has been removed.
    pub(super) fn forget(&self, container: &str) {
        lock(&self.lifelines).remove(container);
        lock(&self.starts).remove(container);
    }

    /// Whether a container's shim is being started.
    pub(super) fn is_starting(&self, container: &str) -> bool {
        let starts = lock(&self.starts);
        starts.get(container).is_some_and(|start| matches!(*start.borrow(), Progress::Starting | Progress::Network))
    }

    /// Waits until a container's shim is ready; one that another process has started is.
    ///
    /// # Errors
    /// Why it is not, as text.
    pub(super) async fn settled(&self, container: &str) -> Result<(), String> {
        self.reached(container, |progress| matches!(progress, Progress::Ready | Progress::Failed(_))).await
    }

    /// The first process of a container, once its network can be joined.
    ///
    /// # Errors
    /// It does not run; why, as text.
    pub(super) async fn first_process(&self, container: &str, folder: &Path) -> Result<i32, String> {
        self.reached(container, |progress| *progress != Progress::Starting).await?;
        store::read(&folder.join(shim::FIRST_PROCESS)).map_err(|_| "it does not run".to_owned())
    }

    async fn reached(&self, container: &str, enough: impl Fn(&Progress) -> bool) -> Result<(), String> {
        let Some(mut progress) = lock(&self.starts).get(container).cloned() else { return Ok(()) };
        let reached = progress.wait_for(|progress| enough(progress)).await;
        match reached.as_deref() {
            Ok(Progress::Failed(why)) => Err(why.clone()),
            Ok(_) => Ok(()),
            Err(_) => Err("its start was given up".to_owned()),
        }
    }
}

/// The command of a container's shim.
pub(super) fn command(executable: PathBuf, folder: &Path, more: &[&str]) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(executable);
    command.arg(shim::ROLE).arg(folder).args(more).env_clear().process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

/// Starts a shim, and waits until its container is ready. `network` is called once others can join its network.
///
/// # Errors
/// What the shim says, as text.
pub(super) async fn run(mut command: tokio::process::Command, network: impl Fn()) -> Result<Running, String> {
    let mut child = command.spawn().map_err(|error| format!("start a shim: {error}"))?;
    let lifeline = child.stdin.take().ok_or("the shim has no input")?;
    let mut output = BufReader::new(child.stdout.take().ok_or("the shim has no output")?);
    let mut why = String::new();
    let listening = async {
        let mut line = String::new();
        while output.read_line(&mut line).await? > 0 {
            match line.as_str() {
                shim::NETWORK => network(),
                shim::READY => return std::io::Result::Ok(true),
                said => why.push_str(said),
            }
            line.clear();
        }
        Ok(false)
    };
    if let Ok(Ok(true)) = tokio::time::timeout(CREATE, listening).await {
        return Ok(Running { lifeline, child });
    }
    drop(lifeline);
    let _ = child.wait().await;
    Err(if why.is_empty() { "the shim ended without a word".to_owned() } else { why })
}
