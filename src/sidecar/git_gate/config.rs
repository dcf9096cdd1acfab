//! The configuration of the gate, on its standard input, and its updates. Nothing of it is printed: it holds keys.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::approvals::Approval;
use super::key_agent::Signed;
use crate::credential::Credential;
use crate::policy::GitTerms;
use crate::scan::{Dlp, KnownSecret};
use crate::sidecar::place::{InsideAddresses, Uplink};

/// The configuration.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The bottle's id.
    pub bottle: String,
    /// Whether the agent can ask its operator: then a refusal names the call, not the operator's command.
    #[serde(default)]
    pub asks: bool,
    /// Its addresses on the network inside, if it is there; otherwise it creates a socket for the agent.
    #[serde(default)]
    pub inside: Option<InsideAddresses>,
    /// Its way out, and where egress hands requests over. Without one it connects by itself, as in tests.
    #[serde(default)]
    pub outward: Option<Uplink>,
    /// The programs that it runs.
    pub programs: Programs,
    /// A folder of its own: mirrors, and pushes while they are inspected.
    pub state: PathBuf,
    /// A folder of its own, in memory, for keys; `state` if absent, as in tests.
    #[serde(default)]
    pub keys: Option<PathBuf>,
    /// What is searched for in a push.
    #[serde(default)]
    pub dlp: Dlp,
    /// What must not leave, and what may although it looks like a token. Without it no push is accepted.
    #[serde(default)]
    pub known: Option<Known>,
    /// The repositories.
    pub repositories: Vec<Repository>,
}

/// Programs, by absolute paths.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Programs {
    /// git, 2.39 or later.
    pub git: PathBuf,
    /// OpenSSH's client.
    pub ssh: PathBuf,
}

/// What is known of the bottle's secrets.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// The bottle's own secrets: none leaves in a push.
    #[serde(default)]
    pub secrets: Vec<KnownSecret>,
    /// The placeholders of the bottle's credentials, which look like tokens and are none.
    #[serde(default)]
    pub placeholders: Vec<String>,
}

impl Known {
    /// Secrets, and the values and placeholders of credentials.
    pub fn of(secrets: Vec<KnownSecret>, credentials: &[Credential]) -> Self {
        let value = |credential: &Credential| KnownSecret { value: credential.value.clone(), hosts: Vec::new() };
        let placeholders = credentials.iter().map(|credential| credential.placeholder.clone()).collect();
        Self { secrets: secrets.into_iter().chain(credentials.iter().map(value)).collect(), placeholders }
    }
}

/// A repository.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repository {
    /// Its name at the gate: `git://git-gate/NAME.git`.
    pub name: String,
    /// Where it is: `ssh://`, `USER@HOST:PATH`, `https://` or `http://`.
    pub url: String,
    /// For ssh: the private key, in OpenSSH's format.
    #[serde(default)]
    pub identity: Option<String>,
    /// For ssh instead: the public key, as in a file `.pub`, of which the operator's ssh agent has the private one. The
    /// holder is asked for each signature.
    #[serde(default)]
    pub public: Option<String>,
    /// For ssh: the host's public key, as `ssh-keyscan` prints it without the name: `ssh-ed25519 AAAA…`. Several are
    /// in one line each.
    #[serde(default)]
    pub known_host_key: Option<String>,
    /// For HTTP: the value of `Authorization`, usually a placeholder that egress replaces.
    #[serde(default)]
    pub authorization: Option<String>,
    /// What may be pushed.
    #[serde(default)]
    pub terms: GitTerms,
}

/// An update.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Update {
    /// All secrets of the bottle so far. Pushes are accepted from now on.
    Secrets(Vec<KnownSecret>),
    /// All credentials of the bottle.
    Credentials(Vec<Credential>),
    /// The operator approves a refused push.
    Approve(Approval),
    /// A signature that the holder was asked for.
    Signed(Signed),
}
