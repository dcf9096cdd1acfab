//! The protocol between client and holder: lines of JSON over a private socket.

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
use crate::policy::{Change, LivePolicy, Scope};
use crate::primitive::{Event, ShownRequest};
use crate::session::{Failure, Invocation, KeptWorkspace, UndoRow};
use crate::sidecar::git_gate::Approval;
use crate::wire::{Reader, line};

/// How many messages may wait for a client before events that an agent can cause at will are dropped.
const MAX_WAITING: usize = 10_000;

/// Maximum length of a message, in bytes: a report can contain the patch of a whole workspace.
const MAX_LINE: usize = 1 << 30;

/// A message from a client.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToHolder {
    /// Launch a bottle; always the first message.
    Launch(Box<Launch>),
    /// The client has attached to the agent's output.
    Attached,
    /// The answer to a question; absent if nobody can be asked.
    Answer {
        /// The question's id.
        id: u64,
        /// The typed text.
        answer: Option<String>,
    },
    /// Stop. Each repetition escalates.
    Cancel,
    /// The client leaves; the bottle goes on.
    Detach,
    /// Return the policy of this bottle or of a nested one; with a change, apply it first.
    Policy {
        /// The bottle's id.
        bottle: String,
        /// The change, if any.
        change: Option<Box<Change>>,
    },
    /// Approve a push that the git gate of this bottle or of a nested one has refused.
    ApprovePush {
        /// The bottle's id.
        bottle: String,
        /// The approval.
        approval: Approval,
    },
    /// Use these values of credentials in this bottle or in a nested one.
    Renew {
        /// The bottle's id.
        bottle: String,
        /// The values, by the names of the credentials.
        values: BTreeMap<String, String>,
    },
    /// Return the agent's requests of this bottle or of a nested one, or decide about one.
    Requests {
        /// The bottle's id.
        bottle: String,
        /// What to do.
        action: RequestAction,
    },
    /// Restart a dead sidecar of this bottle or of a nested one.
    RestartSidecar {
        /// The bottle's id.
        bottle: String,
        /// The sidecar's name.
        name: String,
    },
}

/// What an operator does with requests.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestAction {
    /// Return all of them.
    List,
    /// Grant one.
    Approve {
        /// Its id.
        id: String,
        /// The hash that was shown.
        hash: String,
        /// For how long.
        scope: Scope,
    },
    /// Reject one.
    Reject {
        /// Its id.
        id: String,
        /// Why, for the agent.
        reason: String,
    },
}

/// A launch.
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
    /// The working directory: results are saved there, and host commands run there.
    pub directory: PathBuf,
    /// The credentials for an upstream proxy. They are not in the plan, because scripts can read that.
    pub proxy_credentials: Option<String>,
    /// Variables whose values only the agent receives. They are not in the plan, either.
    pub env: BTreeMap<String, String>,
    /// The values of the plan's credentials, by name. They are not in the plan, either.
    pub credentials: BTreeMap<String, String>,
    /// The environment of host commands that scripts may run, and of the commands of sources; the holder's own environment is a
    /// subset.
    pub host_env: BTreeMap<String, String>,
    /// Further agents that the recipe may launch.
    pub drafts: Drafts,
    /// Whether the report contains the workspace's changes as a patch.
    pub patch: bool,
    /// Whether a kept bottle is resumed.
    pub resume: bool,
    /// Whether its agent's home is replaced by the image's.
    #[serde(default)]
    pub fresh_home: bool,
    /// Whether the image that was built for it is removed, and the plan's used.
    #[serde(default)]
    pub fresh_image: bool,
    /// The command line that launched it.
    pub invocation: Option<Invocation>,
}

/// A message from a holder.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromHolder {
    /// An event.
    Event {
        /// Milliseconds since the launch.
        at: u64,
        /// The event.
        event: Box<Event>,
    },
    /// The state of the bottle, for a client that attaches; its first message.
    Welcome(Box<Welcome>),
    /// Acknowledges a request to stop. Stopping may take a while.
    Stopping,
    /// The policy, or why it was not changed.
    Policy(Box<Result<LivePolicy, Failure>>),
    /// Whether a push was approved.
    Approved(Box<Result<(), Failure>>),
    /// The names of the credentials whose values are new, or why they are not used.
    Renewed(Box<Result<Vec<String>, Failure>>),
    /// The requests, or the one that was decided; or why it was not.
    Requests(Box<Result<Vec<ShownRequest>, Failure>>),
    /// The result of restarting a sidecar.
    Restarted(Box<Result<(), Failure>>),
    /// The report; the last message.
    Finished(Box<Report>),
    /// The last message of a holder that exits early; the reaper unwinds.
    Dies(Box<Failure>),
}

/// The state of a bottle, for a client that attaches.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Welcome {
    /// The agent's container, if it exists.
    pub container: Option<String>,
    /// Whether its command has started.
    pub released: bool,
    /// Whether the command has a terminal.
    pub terminal: bool,
    /// Why the agent is paused, if it is.
    #[serde(default)]
    pub paused: Option<String>,
}

/// How a bottle ended.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Report {
    /// Its id.
    pub bottle: String,
    /// The agent's exit code, if its command ran.
    pub exit_code: Option<i64>,
    /// Why the launch failed, if it did.
    pub failure: Option<Failure>,
    /// What was undone, the latest first.
    pub undo: Vec<UndoRow>,
    /// The times of the main events.
    pub times: Times,
    /// The workspace's changes as a patch, if requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<String>,
    /// The kept workspace, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<KeptWorkspace>,
    /// Files in the mounted folder that the host would execute and that are new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executed: Option<Executed>,
    /// The summary of the audit file, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<LogSummary>,
    /// How many decisions were dropped because the client did not read; the audit file contains them.
    pub audit_dropped: u64,
}

/// Files in a mounted folder that tools of the host execute or obey, and that the agent created or changed.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Executed {
    /// The folder.
    pub folder: PathBuf,
    /// Paths below the folder that git takes for a repository, or for a repository's settings and hooks.
    pub repositories: Vec<String>,
    /// Other files.
    pub files: Vec<String>,
    /// Why the comparison failed, if it did.
    pub unknown: Option<String>,
}

/// The times of the main events, in milliseconds since the launch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// When all sidecars listened.
    pub sidecars_up: Option<u64>,
    /// When the agent's command started.
    pub released: Option<u64>,
    /// When the agent's command ended.
    pub ended: Option<u64>,
    /// When everything was removed.
    pub gone: Option<u64>,
}

/// The sending half. Clones write to the same socket.
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

/// Splits a socket into its halves.
pub fn split<T>(stream: UnixStream) -> (Receiver<T>, Wire) {
    let (reader, writer) = stream.into_split();
    let (queue, lines) = mpsc::unbounded_channel();
    let (finished, done) = oneshot::channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let counter = waiting.clone();
    crate::task::spawn(async move {
        write(writer, lines, &counter).await;
        let _ = finished.send(());
    });
    let receiver = Receiver { values: Reader::new(reader, MAX_LINE), kind: std::marker::PhantomData };
    (receiver, Wire { queue, waiting, done: Arc::new(tokio::sync::Mutex::new(Some(done))) })
}

/// Writes queued lines until an empty line. A lost peer is detected by the receiving half.
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
    /// Queues a message that may not be representable in JSON.
    ///
    /// # Errors
    /// It cannot be serialised, because it contains a path that is not UTF-8.
    pub fn try_send(&self, message: &impl Serialize) -> serde_json::Result<()> {
        self.push(line(message)?);
        Ok(())
    }

    /// Queues a message.
    pub fn send(&self, message: &impl Serialize) {
        let _ = self.try_send(message);
    }

    /// Whether so many messages are waiting that events that an agent can cause at will must be dropped. A client
    /// that stops reading would otherwise fill the holder's memory.
    pub fn is_full(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > MAX_WAITING
    }

    /// Whether the peer has disconnected.
    pub fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    fn push(&self, line: Vec<u8>) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _ = self.queue.send(line);
    }

    /// Closes the queue, and waits until everything has been written.
    pub async fn close(&self) {
        self.push(Vec::new());
        if let Some(done) = self.done.lock().await.take() {
            let _ = done.await;
        }
    }
}

impl<T: DeserializeOwned> Receiver<T> {
    /// The next message; `None` if the peer has disconnected. Cancel-safe: dropping the future loses no data.
    ///
    /// # Errors
    /// The socket fails, or a line is not a valid message.
    pub async fn next(&mut self) -> anyhow::Result<Option<T>> {
        Ok(self.values.value().await?)
    }
}
