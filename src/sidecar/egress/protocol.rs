//! What goes over egress' standard streams and its socket for commands.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::ca::CaKeyPair;
use crate::policy::{Enforced, Sibling};
use crate::scan::KnownSecret;
use crate::sidecar::place::Inside;

/// What egress is told on its standard input.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The bottle's id, for the CA's name.
    pub bottle: String,
    /// Where it is on the network inside, in a bottle that has one: it listens there, and makes no socket.
    #[serde(default)]
    pub inside: Option<Inside>,
    /// Where the agent finds egress, as `host:port`, by its name and its address. Some clients send it as the Host of a CONNECT.
    #[serde(default)]
    pub own: Vec<String>,
    /// Those of the bottle's own sidecars that are reached by an address, by name.
    pub sidecars: BTreeMap<String, Sibling>,
    /// The volumes that it shares with sidecars.
    #[serde(default)]
    pub pairs: Vec<Pair>,
    /// What may leave.
    pub policy: Enforced,
    /// What the upstream proxy is shown, as `name:password`.
    #[serde(default)]
    pub proxy_credentials: Option<String>,
    /// What the bottle's CA is founded on; a fresh one where nothing is said, as in tests.
    #[serde(default)]
    pub authority: Option<CaKeyPair>,
    /// The secrets of the bottle that are known already: where it is started again, an agent may have them.
    #[serde(default)]
    pub secrets: Vec<KnownSecret>,
}

impl Config {
    /// Of one that has a policy and nothing else, as on a machine that has no bottle.
    pub fn new(bottle: &str, policy: Enforced) -> Self {
        Self {
            bottle: bottle.to_owned(),
            inside: None,
            own: Vec::new(),
            sidecars: BTreeMap::new(),
            pairs: Vec::new(),
            policy,
            proxy_credentials: None,
            authority: None,
            secrets: Vec::new(),
        }
    }
}

/// A volume that egress shares with one sidecar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    /// The sidecar's name.
    pub name: String,
    /// Where egress sees the volume.
    pub folder: PathBuf,
}

/// A sidecar that has come up: from now on the agent reaches it under its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// Its name.
    pub name: String,
    /// The port of its name.
    pub port: u16,
    /// Its socket, in the volume that it shares with egress.
    pub socket: PathBuf,
}

/// What egress says when it serves.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ready {
    /// The certificate of the bottle's CA, in PEM; never its key.
    pub ca: String,
}

/// What egress takes later.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Update {
    /// All secrets of the bottle, so far.
    Secrets(Vec<KnownSecret>),
    /// The policy from now on.
    Policy(Box<Enforced>),
    /// A sidecar that has come up.
    Register(Registration),
}

/// What egress is asked.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// What it has done so far.
    Stats,
}

/// What egress says of its own accord.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Notice {
    /// A grant for one request, by its number, was used.
    Spent(u64),
}
