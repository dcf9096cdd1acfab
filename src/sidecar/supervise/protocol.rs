//! What the holder and this sidecar tell each other.

use serde::{Deserialize, Serialize};

use crate::policy::{AllowSpec, DenySpec, Grant, Mode, Wanted};

/// The configuration, on standard input.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The bottle's id.
    pub bottle: String,
    /// The names that the agent may call it by, in `Host`.
    pub hosts: Vec<String>,
}

/// A question of the agent, as a notice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// Its number in this run, which the answer repeats.
    pub n: u64,
    /// The question.
    pub ask: Ask,
}

/// What an agent asks. Its texts are an agent's: bounded here and in the holder, and escaped wherever a person sees them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// To reach a host.
    Egress {
        /// What.
        wanted: Wanted,
        /// Why, in its words.
        reason: String,
    },
    /// To use a credential.
    Credential {
        /// Its name, or what it is for.
        name: String,
        /// The host that it is for.
        host: String,
        /// Why, in its words.
        reason: String,
    },
    /// Something of git that its gate refused.
    Git {
        /// The repository.
        repository: String,
        /// The ref, if it is about one.
        reference: String,
        /// What: `push`, `fetch`, or the id of a finding.
        operation: String,
        /// Why, in its words.
        reason: String,
    },
    /// Packages, or another image.
    Capability {
        /// Packages by name.
        packages: Vec<String>,
        /// Or a Dockerfile.
        dockerfile: String,
        /// Why, in its words.
        reason: String,
    },
    /// What became of a request.
    Request {
        /// Its id.
        id: String,
    },
    /// Why something was refused: one refusal by its id, or the last ten.
    Denials {
        /// The id.
        id: Option<String>,
    },
}

/// The state of a request, in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The operator has granted it, and it is in effect.
    Approved,
    /// It was granted, and the grant has ended.
    Expired,
    /// The operator, or a rule, has refused it.
    Rejected,
    /// Nobody has decided yet.
    Pending,
    /// It was allowed before it was asked for.
    AlreadyAllowed,
    /// It stays refused, whatever anybody decides.
    Refused,
    /// It cannot be read.
    Invalid,
    /// There is no such request.
    Unknown,
    /// An answer to a question that is not a request.
    Answer,
}

impl Status {
    /// Whether the agent has made a mistake.
    pub(super) fn is_error(self) -> bool {
        matches!(self, Self::Invalid | Self::Unknown)
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reply {
    /// The state.
    pub status: Status,
    /// The request's id, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// In words.
    pub message: String,
    /// What to do now.
    pub next_steps: String,
    /// The refused requests that were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub denials: Vec<DeniedRequest>,
}

impl Reply {
    /// Without an id.
    pub fn new(status: Status, message: impl Into<String>, next_steps: impl Into<String>) -> Self {
        Self { status, id: None, message: message.into(), next_steps: next_steps.into(), denials: Vec::new() }
    }

    /// About a request.
    #[must_use]
    pub fn about(mut self, id: &str) -> Self {
        self.id = Some(id.to_owned());
        self
    }
}

/// A refused request, for `explain_denial`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeniedRequest {
    /// The refusal's id, as its response has it.
    pub id: String,
    /// Milliseconds since 1970, of the last one.
    pub time: u64,
    /// The sidecar that refused.
    pub sidecar: String,
    /// The stable code of the reason.
    pub code: String,
    /// The reason.
    pub reason: String,
    /// `METHOD host:port`.
    pub request: String,
    /// The next call, if asking may help.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_call: Option<serde_json::Value>,
}

/// An update.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Update {
    /// The answer to a call.
    Answer {
        /// The call's number.
        n: u64,
        /// The answer.
        reply: Reply,
    },
    /// A request was decided.
    Decided(Reply),
    /// The bottle's configuration as it is now.
    View(Box<View>),
}

/// The bottle's configuration, as the agent may read it: no value of a credential, no placeholder, no address of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct View {
    /// The generation of the policy.
    pub generation: u64,
    /// Whether what is not allowed is refused.
    pub mode: Mode,
    /// What is allowed, without grants for one request.
    pub allow: Vec<AllowSpec>,
    /// What is denied, whatever is allowed.
    pub deny: Vec<DenySpec>,
    /// Destinations of plain TCP.
    pub tcp: Vec<String>,
    /// What the operator has granted since the launch.
    pub grants: Vec<Grant>,
    /// The routes of the cred-proxy.
    pub routes: Vec<RouteView>,
    /// The repositories behind the git gate, with what may be pushed to each.
    pub git: Vec<serde_json::Value>,
    /// How the agent's image is built; empty if it is not.
    pub dockerfile: String,
}

/// A route of the cred-proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteView {
    /// Where the agent finds it.
    pub url: String,
    /// Where it leads.
    pub upstream: String,
    /// The only methods; all where it is empty.
    pub methods: Vec<String>,
    /// The only paths; all where it is empty.
    pub paths: Vec<String>,
}
