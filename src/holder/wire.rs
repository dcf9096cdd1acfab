//! What client and holder say to each other: lines of JSON over a private socket.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

use super::draft::Drafts;
use crate::audit::LogSummary;
use crate::lua::Program;
use crate::plan::LaunchPlan;
use crate::policy::{Change, LivePolicy};
use crate::primitive::Event;
use crate::session::{Failure, Invocation, KeptWorkspace, UndoRow};
use crate::wire::{Reader, line};

/// Messages that may wait for a client before those that an agent can cause at will are left out.
const MAX_WAITING: usize = 10_000;

/// Longest message, in bytes: a report holds the patch of a whole workspace.
const MAX_LINE: usize = 1 << 30;

/// What a client says.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToHolder {
    /// First of all.
    Launch(Box<Launch>),
    /// It has the agent's output.
    Attached,
    /// The answer to a question; none where nobody can be asked.
    Answer {
        /// The question's.
        id: u64,
        /// What was typed.
        answer: Option<String>,
    },
    /// The user wants it to end; more so every time.
    Cancel,
    /// The user leaves, and it goes on.
    Detach,
    /// What is the policy of this bottle, or of one inside it; or, with a change, change it.
    Policy {
        /// Which bottle's.
        bottle: String,
        /// How.
        change: Option<Box<Change>>,
    },
    /// To start a dead sidecar of this bottle, or of one inside it, again.
    RestartSidecar {
        /// Which bottle's.
        bottle: String,
        /// Its name.
        name: String,
    },
}

/// What to launch.
#[derive(Serialize, Deserialize)]
pub struct Launch {
    /// The plan.
    pub plan: LaunchPlan,
    /// The recipe, and the project's files.
    pub program: Program,
    /// The engine's address.
    pub endpoint: String,
    /// The state directory.
    pub state: PathBuf,
    /// Where results are saved, and where commands of the host run.
    pub directory: PathBuf,
    /// What an upstream proxy is shown; not in the plan, which scripts see.
    pub proxy_credentials: Option<String>,
    /// Variables whose values only the agent is told; nor are these.
    pub env: BTreeMap<String, String>,
    /// Variables of commands that scripts may run on the host; the holder's own environment has not all of the user's.
    pub host_env: BTreeMap<String, String>,
    /// Further agents that the recipe may launch.
    pub drafts: Drafts,
    /// Whether the report is to hold how the workspace was changed.
    pub patch: bool,
    /// Whether a bottle that was kept lives again.
    pub resume: bool,
    /// How it was asked for.
    pub invocation: Option<Invocation>,
}

/// What a holder says.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromHolder {
    /// Something happened.
    Event {
        /// When, in milliseconds since the launch.
        at: u64,
        /// What.
        event: Box<Event>,
    },
    /// To one who attaches: how things are.
    Welcome(Box<Welcome>),
    /// A request to stop was heard; what it takes may take a while.
    Stopping,
    /// The policy, or why it was not changed.
    Policy(Box<Result<LivePolicy, Failure>>),
    /// A sidecar was started again, or why not.
    Restarted(Box<Result<(), Failure>>),
    /// Last of all.
    Finished(Box<Report>),
    /// Instead of that: the holder ends in the middle of it, and the reaper does the rest.
    Dies(Box<Failure>),
}

/// How things are with a bottle that somebody attaches to.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Welcome {
    /// The agent's container, where there is one.
    pub container: Option<String>,
    /// Whether its command has started.
    pub released: bool,
    /// Whether that is on a terminal.
    pub terminal: bool,
    /// Why the agent is paused, where it is.
    #[serde(default)]
    pub paused: Option<String>,
}

/// How a bottle ended.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Report {
    /// Its id.
    pub bottle: String,
    /// The agent's exit code, where its command ran.
    pub exit_code: Option<i64>,
    /// Why it failed, where it did.
    pub failure: Option<Failure>,
    /// What was undone, the latest first.
    pub undo: Vec<UndoRow>,
    /// When what happened.
    pub times: Times,
    /// How the agent changed its workspace, where it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<String>,
    /// What is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<KeptWorkspace>,
    /// What the host would execute of the folder that was mounted, and was not so before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executed: Option<Executed>,
    /// What the audit file came to, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<LogSummary>,
    /// Decisions that were left out because the client did not read; the file has them.
    pub audit_dropped: u64,
}

/// What was made or changed in a mounted folder that tools of the host execute or obey.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Executed {
    /// The folder.
    pub folder: PathBuf,
    /// What git takes for a repository, or for its settings and hooks, below the folder.
    pub repositories: Vec<String>,
    /// Other files.
    pub files: Vec<String>,
    /// Why it is not known, if it is not.
    pub unknown: Option<String>,
}

/// Milliseconds since the launch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// All sidecars listened.
    pub sidecars_up: Option<u64>,
    /// The agent's command started.
    pub released: Option<u64>,
    /// The agent's command ended.
    pub ended: Option<u64>,
    /// Nothing was left.
    pub gone: Option<u64>,
}

/// The sending half; clones queue into the same socket.
#[derive(Clone)]
pub struct Wire {
    queue: mpsc::UnboundedSender<Vec<u8>>,
    waiting: Arc<AtomicUsize>,
    done: Arc<tokio::sync::Mutex<Option<oneshot::Receiver<()>>>>,
}

/// The receiving half.
pub struct Receiver<T> {
    values: Reader<OwnedReadHalf>,
    kind: std::marker::PhantomData<T>,
}

/// Takes a socket apart.
pub fn split<T>(stream: UnixStream) -> (Receiver<T>, Wire) {
    let (reader, writer) = stream.into_split();
    let (queue, lines) = mpsc::unbounded_channel();
    let (finished, done) = oneshot::channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let counter = waiting.clone();
    tokio::spawn(async move {
        write(writer, lines, &counter).await;
        let _ = finished.send(());
    });
    let receiver = Receiver { values: Reader::new(reader, MAX_LINE), kind: std::marker::PhantomData };
    (receiver, Wire { queue, waiting, done: Arc::new(tokio::sync::Mutex::new(Some(done))) })
}

/// Writes what is queued; an empty line ends it. A peer that is gone is found out by the receiving half.
async fn write(mut writer: OwnedWriteHalf, mut lines: mpsc::UnboundedReceiver<Vec<u8>>, waiting: &AtomicUsize) {
    while let Some(line) = lines.recv().await {
        waiting.fetch_sub(1, Ordering::Relaxed);
        if line.is_empty() || writer.write_all(&line).await.is_err() {
            break;
        }
    }
    let _ = writer.shutdown().await;
}

impl Wire {
    /// Queues a message that may hold what cannot be written as text.
    ///
    /// # Errors
    /// It cannot be written as JSON: a path that is no UTF-8.
    pub fn try_send(&self, message: &impl Serialize) -> serde_json::Result<()> {
        self.push(line(message)?);
        Ok(())
    }

    /// Queues a message.
    pub fn send(&self, message: &impl Serialize) {
        let _ = self.try_send(message);
    }

    /// Whether so much is waiting that what an agent can cause at will must be left out: a client that has stopped
    /// reading would otherwise fill the holder's memory.
    pub fn is_full(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > MAX_WAITING
    }

    /// Whether nobody is there any more to write to.
    pub fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    fn push(&self, line: Vec<u8>) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _ = self.queue.send(line);
    }

    /// Queues nothing more and waits until everything has been written.
    pub async fn close(&self) {
        self.push(Vec::new());
        if let Some(done) = self.done.lock().await.take() {
            let _ = done.await;
        }
    }
}

impl<T: DeserializeOwned> Receiver<T> {
    /// The next message; `None` when the peer is gone. Dropped while it waits, it loses nothing.
    ///
    /// # Errors
    /// The socket breaks, or a line is no such message.
    pub async fn next(&mut self) -> anyhow::Result<Option<T>> {
        Ok(self.values.value().await?)
    }
}
