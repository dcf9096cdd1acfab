//! Events of a launch, sent as they happen.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::engine::labels::Kind;
use crate::probe::ProbeResult;
use crate::session::ScriptLocation;
use crate::sidecar;

/// The state of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// It has started.
    Started,
    /// It succeeded.
    Done,
    /// It failed.
    Failed,
    /// It was abandoned because another step failed.
    Abandoned,
}

/// The kind of answer that a question expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// A line of text.
    Line,
    /// A line of text that is not shown while typed.
    Secret,
    /// Yes or no.
    Confirm,
}

/// An event.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A step started or ended.
    Step {
        /// Its name, such as `network outside`.
        name: String,
        /// Its state.
        state: StepState,
    },
    /// An object is about to be created.
    Made {
        /// Its sequence number.
        seq: u64,
        /// Its kind.
        kind: Kind,
        /// Its name on the engine.
        name: String,
        /// The script line that created it.
        at: Option<ScriptLocation>,
    },
    /// A nested bottle is about to be launched.
    Bottle {
        /// Its sequence number.
        seq: u64,
        /// Its id.
        id: String,
        /// The script line that launched it.
        at: Option<ScriptLocation>,
    },
    /// A hook runs.
    Hook {
        /// `before`, `after`, `replace`, `on_failure` or `on_teardown`.
        when: String,
        /// The name that it is for; empty for the last two.
        name: String,
        /// Where it is defined.
        at: Option<ScriptLocation>,
    },
    /// The user is asked.
    Ask {
        /// The question's id, which the answer repeats.
        id: u64,
        /// The expected kind of answer.
        what: Question,
        /// The text.
        text: String,
    },
    /// The progress of a long operation.
    Progress(String),
    /// A line from a script or an image build.
    Log(String),
    /// All sidecars are ready.
    SidecarsUp,
    /// The agent's container exists: clients that want its output attach now.
    AgentCreated {
        /// The container's id.
        container: String,
    },
    /// The results of the release probe.
    Proof(Vec<ProbeResult>),
    /// The agent's command has started.
    Released,
    /// The agent's command has ended.
    Ended {
        /// Its exit code.
        code: i64,
    },
    /// A sidecar's decision about a request.
    Audit(sidecar::Event),
    /// The agent asked its operator for something, or that was decided. Nothing of it is the agent's text.
    Request {
        /// The bottle.
        bottle: String,
        /// The request's id.
        id: String,
        /// Its kind, in a word.
        kind: String,
        /// Whether it waits for the operator.
        pending: bool,
    },
    /// An urgent message, which is shown even while the agent has the terminal.
    Alarm(String),
    /// The agent was paused, with the reason; `None` when it continues.
    Paused(Option<String>),
    /// A repeated proof failed, and the agent is paused.
    NotTight {
        /// Why it was repeated.
        why: String,
        /// The failed attempts, as text.
        red: Vec<String>,
        /// Why the agent could not be paused, if so.
        unpaused: Option<String>,
    },
}

/// The receiver of events.
#[derive(Clone)]
pub struct Events(Arc<dyn Fn(Event) + Send + Sync>);

impl Events {
    /// Sends events to a function.
    pub fn new(to: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self(Arc::new(to))
    }

    /// Sends an event.
    pub fn tell(&self, event: Event) {
        (self.0)(event);
    }

    /// Sends the state of a step.
    pub fn step(&self, name: &str, state: StepState) {
        self.tell(Event::Step { name: name.to_owned(), state });
    }
}
