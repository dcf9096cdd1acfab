//! The messages on egress' standard streams and its command socket.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::ca::CaKeyPair;
use super::pipelock::PipelockConfig;
use crate::credential::Credential;
use crate::policy::{EnforcedPolicy, Sibling};
use crate::scan::KnownSecret;
use crate::sidecar::place::InsideAddresses;

/// The configuration, the first line on standard input.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The bottle's id, for the CA's name.
    pub bottle: String,
    /// Its address on the network inside, in a bottle that has one: it listens there instead of on a socket.
    #[serde(default)]
    pub inside: Option<InsideAddresses>,
    /// Where the agent reaches egress, as `host:port`, by name and by address. Some clients send it as the `Host` of a
    /// `CONNECT`.
    #[serde(default)]
    pub own: Vec<String>,
    /// The bottle's own sidecars that are reached by an address, by name.
    pub sidecars: BTreeMap<String, Sibling>,
    /// The socket of the dialer, if egress has one; the network of its own container leads nowhere then.
    #[serde(default)]
    pub dialer: Option<PathBuf>,
    /// Addresses of the user's machine, which are never allowed.
    #[serde(default)]
    pub host_addresses: Vec<IpAddr>,
    /// The volumes that egress shares with sidecars.
    #[serde(default)]
    pub pairs: Vec<Pair>,
    /// The policy.
    pub policy: EnforcedPolicy,
    /// The credentials for the upstream proxy, as `name:password`.
    #[serde(default)]
    pub proxy_credentials: Option<String>,
    /// The bottle's CA; a new one if absent, as in tests.
    #[serde(default)]
    pub authority: Option<CaKeyPair>,
    /// The secrets of the bottle that are known already: after a restart, the agent may have them.
    #[serde(default)]
    pub secrets: Vec<KnownSecret>,
    /// The credentials that the agent has placeholders of.
    #[serde(default)]
    pub credentials: Vec<Credential>,
    /// Whether the agent can ask its operator: then refusals name the call.
    #[serde(default)]
    pub supervised: bool,
    /// Pipelock, if it inspects what has passed.
    #[serde(default)]
    pub pipelock: Option<PipelockConfig>,
}

impl Config {
    /// A configuration with a policy and nothing else, for a machine without a bottle.
    pub fn new(bottle: &str, policy: EnforcedPolicy) -> Self {
        Self {
            bottle: bottle.to_owned(),
            inside: None,
            own: Vec::new(),
            sidecars: BTreeMap::new(),
            dialer: None,
            host_addresses: Vec::new(),
            pairs: Vec::new(),
            supervised: false,
            pipelock: None,
            policy,
            proxy_credentials: None,
            authority: None,
            secrets: Vec::new(),
            credentials: Vec::new(),
        }
    }
}

/// A volume that egress shares with one sidecar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    /// The sidecar's name.
    pub name: String,
    /// Where the volume is mounted in egress.
    pub folder: PathBuf,
}

/// A sidecar that has become ready: the agent reaches it under its name from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// Its name.
    pub name: String,
    /// The port of the name.
    pub port: u16,
    /// Its socket, in the volume that it shares with egress.
    pub socket: PathBuf,
}

/// What egress reports when it is ready.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ready {
    /// The certificate of the bottle's CA, in PEM; never its key.
    pub ca: String,
}

/// An update.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Update {
    /// All secrets of the bottle so far.
    Secrets(Vec<KnownSecret>),
    /// All credentials of the bottle; requests in progress keep the previous ones.
    Credentials(Vec<Credential>),
    /// The new policy.
    Policy(Box<EnforcedPolicy>),
    /// All addresses of the user's machine, which are never allowed.
    HostAddresses(Vec<IpAddr>),
    /// A sidecar that has become ready.
    Register(Registration),
}

/// A question.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// The counters.
    Stats,
}

/// A notice that egress sends by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Notice {
    /// The grant with this number, for one request, was used.
    Spent(u64),
    /// A host did not accept the value of a credential (status 401). Reported at most once a minute; all credentials are
    /// expected as the answer, with a newer value where there is one.
    Need {
        /// The credential's name.
        credential: String,
    },
}
