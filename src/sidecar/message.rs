//! The lines between a sidecar and whoever holds its standard streams, the same for every role. What one role alone says is a
//! type parameter.
//!
//! In: the configuration, before it [`Resume`] where it is started again, then commands, each with a number. Out: ready, then audit events, acknowledgements by the command's
//! number, and notices of the role's own.

use serde::{Deserialize, Serialize};

use crate::audit::Event;

/// A line that a sidecar writes. By its number, who reads it anew, from the container's log, knows what it has read before.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputLine<M> {
    /// Which line it is, from 1.
    pub n: u64,
    /// What it says.
    pub message: M,
}

/// What a sidecar says: `R` when it is ready, `A` in answers, `N` of its own accord.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message<R, A, N> {
    /// It serves.
    Ready(R),
    /// It has carried out a command.
    Acknowledged(Acknowledgement<A>),
    /// It has decided about a request.
    Audit(Box<Event>),
    /// What only this role says.
    Notice(N),
}

/// The first line to a sidecar that is started again, before its configuration: the engine has one log for all its lives.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resume {
    /// The last line of it that was read.
    pub last_line: u64,
}

/// A command: `U` are the role's updates, `Q` its questions.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command<U, Q> {
    /// Its number, which the acknowledgement repeats.
    pub n: u64,
    /// What is to be done.
    pub action: Action<U, Q>,
}

/// What is to be done.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action<U, Q> {
    /// To acknowledge.
    Ping,
    /// To write the audit events that were only counted so far.
    Flush,
    /// To take something new.
    Update(U),
    /// To answer.
    Ask(Q),
}

/// What became of a command.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acknowledgement<A> {
    /// The command's number; 0 for one that cannot be read.
    pub n: u64,
    /// What became of it.
    pub outcome: CommandOutcome<A>,
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandOutcome<A> {
    /// It is done.
    Done,
    /// It is not, nothing has changed, and why.
    Refused(String),
    /// The answer.
    Answer(A),
}

/// What a role has none of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Never {}
