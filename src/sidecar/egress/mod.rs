//! `egress`: the only way out. An adapter parses a request into an intent, [`crate::policy::authorize`] decides, the
//! request is looked at, [`connect`] resolves, checks and pins the addresses, and the answer comes back. No form of
//! request has another path.

mod answers;
mod begun;
mod body;
mod ca;
mod client;
mod connect;
mod drain;
mod forward;
mod frames;
mod gather;
mod http;
mod inside;
mod load;
mod memory;
mod passing;
mod pieces;
mod refusal;
mod role;
mod serve;
mod state;
mod stats;
mod strict;
mod tcp;
mod via;
mod websocket;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Weak};

use hickory_resolver::TokioResolver;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::audit::{Log, Outcome};
use super::run::notify;
use crate::layout::egress::TCP_PORTS;
use crate::policy::{Decision, Endpoint, Enforced, Form, Intent, Policy, Reason, Sibling, Tls, authorize};
use crate::scan::Known;
use crate::sync::lock;
use ca::Authority;
pub use ca::Foundation;
use client::Client;
use state::{State, States};
pub use stats::{Decisions, Stats};

pub use super::place::Inside;

/// The role's name.
pub const ROLE: &str = "egress";

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
    pub authority: Option<Foundation>,
    /// The secrets of the bottle that are known already: where it is started again, an agent may have them.
    #[serde(default)]
    pub secrets: Vec<Known>,
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
    Secrets(Vec<Known>),
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

/// What lives as long as the process, as one of its clients has it.
#[derive(Clone)]
pub struct Egress {
    /// Whose requests it serves.
    client: Client,
    /// The bottle's id.
    bottle: String,
    own: Vec<String>,
    /// The bottle's own sidecars, so far. Held while something new is taken.
    sidecars: Arc<Mutex<BTreeMap<String, Sibling>>>,
    pairs: Vec<Pair>,
    proxy_credentials: Option<String>,
    resolver: Arc<TokioResolver>,
    provider: Arc<rustls::crypto::CryptoProvider>,
    authority: Arc<Authority>,
    /// What it goes by now, for each client. A request goes by what was there when it came.
    states: watch::Sender<Arc<States>>,
    /// Grants for one request that were used.
    spent: Arc<Mutex<BTreeSet<u64>>>,
    log: Log,
    counters: Arc<stats::Counters>,
    load: Arc<load::Load>,
    answers: Arc<answers::Answers<Weak<Egress>>>,
}

impl Egress {
    fn new(config: &Config, resolver: TokioResolver, times: load::Times) -> anyhow::Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let (resolver, sidecars) = (Arc::new(resolver), config.sidecars.clone());
        let credentials = config.proxy_credentials.clone();
        let parts = state::Parts {
            sidecars: &sidecars,
            credentials: credentials.as_deref(),
            resolver: &resolver,
            provider: &provider,
        };
        let state = State::new(&config.policy, &config.secrets, &parts)?;
        let founded = config.authority.clone().map_or_else(|| Foundation::new(&config.bottle), Ok)?;
        Ok(Self {
            client: Client::Agent,
            authority: Arc::new(Authority::new(&config.bottle, founded, provider.clone())?),
            bottle: config.bottle.clone(),
            own: config.own.clone(),
            sidecars: Arc::new(Mutex::new(sidecars)),
            pairs: config.pairs.clone(),
            proxy_credentials: credentials,
            resolver,
            provider,
            states: watch::Sender::new(States::new(state)),
            spent: Arc::default(),
            log: Log::new(ROLE, &config.bottle),
            counters: Arc::new(stats::Counters::new()),
            load: Arc::new(load::Load::new(times)),
            answers: Arc::default(),
        })
    }

    /// The same for a sidecar.
    fn of_sidecar(&self, name: &str) -> Self {
        Self { client: Client::Sidecar(name.into()), log: self.log.of_client(name), ..self.clone() }
    }

    fn state(&self) -> Arc<State> {
        self.states.borrow().of(&self.client)
    }

    fn change(&self, change: impl FnOnce(&State) -> State) {
        self.states.send_modify(|states| *states = States::new(change(&states.agent)));
    }

    /// Takes other secrets, whole: requests under way keep what they began with.
    fn take_secrets(&self, secrets: &[Known]) {
        let _taking = lock(&self.sidecars);
        self.change(|state| state.with_secrets(secrets));
    }

    /// Lets the agent reach a sidecar under its name: by the socket of its pair, and by nothing else.
    ///
    /// # Errors
    /// There is no such pair, or the socket is elsewhere.
    fn register(&self, registration: Registration) -> Result<(), String> {
        let Registration { name, port, socket } = registration;
        let pair = self.pairs.iter().find(|pair| pair.name == name);
        let pair = pair.ok_or_else(|| format!("egress shares no volume with {name}"))?;
        if socket.parent() != Some(&pair.folder) || socket.file_name().is_none() {
            return Err(format!("{} is not in the volume that egress shares with {name}", socket.display()));
        }
        let mut sidecars = lock(&self.sidecars);
        sidecars.insert(name, Sibling { port, at: Endpoint::Socket(socket) });
        let sidecars = sidecars.clone();
        self.change(|state| state.with_sidecars(sidecars));
        Ok(())
    }

    /// Enforces another policy from the next request on; what is carried for longer, and is not allowed any more, ends.
    ///
    /// # Errors
    /// It cannot be read, changes what is fixed, or is older than what is enforced: then nothing is changed.
    fn enforce(&self, policy: &Enforced) -> anyhow::Result<()> {
        let sidecars = lock(&self.sidecars);
        let before = self.states.borrow().agent.clone();
        if policy.generation == before.generation {
            // Told again, because the answer was not heard.
            return Ok(());
        }
        anyhow::ensure!(policy.generation > before.generation, "generation {} is enforced already", before.generation);
        anyhow::ensure!(
            policy.spec.tcp == before.spec.tcp,
            "tcp: these destinations are fixed at the launch: the agent's container has their names and sockets"
        );
        let parts = state::Parts {
            sidecars: &sidecars,
            credentials: self.proxy_credentials.as_deref(),
            resolver: &self.resolver,
            provider: &self.provider,
        };
        let fresh = State::new(policy, &before.secrets, &parts)?;
        // Grants may have been used meanwhile.
        self.change(|_| fresh.without(&lock(&self.spent)));
        Ok(())
    }

    /// Uses up a grant for one request, where nothing else allows this one.
    ///
    /// # Errors
    /// Another request has used it.
    fn spend(&self, state: &State, intent: &Intent) -> Result<(), Reason> {
        let grants = state.policy.granted_once(intent);
        if grants.is_empty() {
            return Ok(());
        }
        let spent = {
            let mut spent = lock(&self.spent);
            let granted = grants.into_iter().find(|grant| spent.insert(*grant));
            granted.ok_or_else(|| Reason::HostNotAllowed(intent.host.clone()))?
        };
        self.change(|state| state.without(&lock(&self.spent)));
        notify::<Self>(Notice::Spent(spent));
        Ok(())
    }

    /// Resolves once the policy forbids what has begun under a policy: for ever, while it does not. What was granted for one
    /// request goes on until it is denied.
    async fn forbidden(&self, begun: &Policy, intent: &Intent) -> Reason {
        let mut states = self.states.subscribe();
        loop {
            let state = states.borrow_and_update().of(&self.client);
            if let Err(reason) = still_allowed(begun, &state.policy, intent) {
                return reason;
            }
            if states.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Looks again before a request goes out: its body may have taken long, and the policy changed meanwhile.
    fn check_again(&self, begun: &State, intent: &Intent) -> Result<(), Reason> {
        let now = self.state();
        if now.generation == begun.generation { Ok(()) } else { still_allowed(&begun.policy, &now.policy, intent) }
    }

    /// Tells and counts a decision.
    fn decided(&self, intent: Option<&Intent>, outcome: Outcome<'_>) {
        let (decision, code) = outcome.words();
        self.counters.decided(decision, code);
        let state = self.state();
        self.log.tell(intent, outcome, |text| state.holds(text));
    }
}

/// Whether what was allowed by one policy still is by a later one. What was granted for one request goes on until it is denied;
/// what was not, is not carried on by such a grant.
fn still_allowed(begun: &Policy, now: &Policy, intent: &Intent) -> Result<(), Reason> {
    let once = !begun.granted_once(intent).is_empty();
    let lasting = Policy { once: Vec::new(), ..now.clone() };
    if let Decision::Refuse(reason) = authorize(&lasting, intent)
        && (!once || matches!(reason, Reason::Denied(..)))
    {
        return Err(reason);
    }
    let was_tunnel = intent.form == Form::Connect && begun.tls(&intent.host, intent.port) == Tls::Tunnel;
    if was_tunnel && lasting.tls(&intent.host, intent.port) != Tls::Tunnel {
        return Err(Reason::NotTls(intent.host.clone(), "the policy does not let it through unread any more"));
    }
    Ok(())
}

/// The socket of a named destination of plain TCP, by its place in the list.
pub fn tcp_socket(index: usize) -> String {
    format!("tcp-{index}")
}

/// The port of such a destination, on the network inside.
pub fn tcp_port(index: usize) -> u16 {
    TCP_PORTS.saturating_add(u16::try_from(index).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod inside_tests;
#[cfg(test)]
mod patience_tests;
#[cfg(test)]
mod tests;
