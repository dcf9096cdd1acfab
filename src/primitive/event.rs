//! What happens during a launch, told as it happens.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::engine::labels::Kind;
use crate::probe::ProbeResult;
use crate::session::ScriptLocation;
use crate::sidecar;

/// How far a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// It has begun.
    Started,
    /// It succeeded.
    Done,
    /// It failed.
    Failed,
    /// It came to nothing, because of something else that failed.
    Abandoned,
}

/// What is expected as an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// A line.
    Line,
    /// A line that is not shown.
    Secret,
    /// Yes or no.
    Confirm,
}

/// Something that happened.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A step began or ended.
    Step {
        /// Its name: `network outside`.
        name: String,
        /// How far it is.
        state: StepState,
    },
    /// A thing is about to be made.
    Made {
        /// Its place in program order.
        seq: u64,
        /// What it is.
        kind: Kind,
        /// Its name on the engine.
        name: String,
        /// The script line that asked for it.
        at: Option<ScriptLocation>,
    },
    /// A further bottle is about to be launched.
    Bottle {
        /// Its place in program order.
        seq: u64,
        /// Its id.
        id: String,
        /// The script line that asked for it.
        at: Option<ScriptLocation>,
    },
    /// A hook runs.
    Hook {
        /// `before`, `after`, `replace`, `on_failure`, `on_teardown`.
        when: String,
        /// The thing that it is for; empty for the last two.
        name: String,
        /// Where it is written.
        at: Option<ScriptLocation>,
    },
    /// A person is asked.
    Ask {
        /// Names the question in the answer.
        id: u64,
        /// What is expected.
        what: Question,
        /// The question.
        text: String,
    },
    /// How far a long piece of work is.
    Progress(String),
    /// A line of a script's own, or of an image build.
    Log(String),
    /// All sidecars listen.
    SidecarsUp,
    /// The agent's container exists: whoever wants its output attaches now.
    AgentCreated {
        /// The container's id.
        container: String,
    },
    /// The release probe's lines.
    Proof(Vec<ProbeResult>),
    /// The agent's command has started.
    Released,
    /// The agent's command has ended.
    Ended {
        /// Its exit code.
        code: i64,
    },
    /// A sidecar decided about a request.
    Audit(sidecar::Event),
    /// What cannot wait, be the terminal the agent's, in words.
    Alarm(String),
    /// The agent was paused, and why; or it goes on.
    Paused(Option<String>),
    /// The proof was repeated and is red: the agent is paused.
    NotTight {
        /// Why it was repeated.
        why: String,
        /// The red lines, in words.
        red: Vec<String>,
        /// Why the agent could not be paused, where it could not.
        unpaused: Option<String>,
    },
}

/// Where events go.
#[derive(Clone)]
pub struct Events(Arc<dyn Fn(Event) + Send + Sync>);

impl Events {
    /// Sends events to a function.
    pub fn new(to: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self(Arc::new(to))
    }

    /// Tells an event.
    pub fn tell(&self, event: Event) {
        (self.0)(event);
    }

    /// Tells how far a step is.
    pub fn step(&self, name: &str, state: StepState) {
        self.tell(Event::Step { name: name.to_owned(), state });
    }
}
