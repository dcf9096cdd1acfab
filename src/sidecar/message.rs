//! The messages between a sidecar and the holder, on the sidecar's standard streams; the same for every role. Type
//! parameters stand for what is specific to a role.
//!
//! Input: [`Resume`] after a restart, the configuration, then numbered commands. Output: ready, then audit events,
//! acknowledgements with the command's number, and the role's notices.

use serde::{Deserialize, Serialize};

use crate::audit::Event;

/// A line of output. Its number tells a reader that resumes from the container's log which lines it has read.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputLine<M> {
    /// The line's number, from 1.
    pub n: u64,
    /// The message.
    pub message: M,
}

/// A message from a sidecar: `R` is its ready message, `A` an answer, `N` a notice.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message<R, A, N> {
    /// It is ready.
    Ready(R),
    /// A command was carried out.
    Acknowledged(Acknowledgement<A>),
    /// A decision about a request.
    Audit(Box<Event>),
    /// A notice of this role.
    Notice(N),
}

/// The first line of input after a restart: the engine keeps one log for all runs of a container.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resume {
    /// The last line of the log that was read.
    pub last_line: u64,
}

/// A command: `U` is the role's update, `Q` its question.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command<U, Q> {
    /// Its number, which the acknowledgement repeats.
    pub n: u64,
    /// The action.
    pub action: Action<U, Q>,
}

/// The action of a command.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action<U, Q> {
    /// Acknowledge.
    Ping,
    /// Write the audit events that were only counted so far.
    Flush,
    /// Apply an update.
    Update(U),
    /// Answer a question.
    Ask(Q),
}

/// The acknowledgement of a command.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acknowledgement<A> {
    /// The command's number; 0 if the command could not be parsed.
    pub n: u64,
    /// The outcome.
    pub outcome: CommandOutcome<A>,
}

/// The outcome of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandOutcome<A> {
    /// Done.
    Done,
    /// Refused, with the reason; nothing has changed.
    Refused(String),
    /// The answer to a question.
    Answer(A),
}

/// For roles without updates, questions or notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Never {}
