//! What lives as long as egress' process, and how it changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, Weak};

use hickory_resolver::TokioResolver;
use tokio::sync::watch;

use super::ca::{Authority, CaKeyPair};
use super::client::Client;
use super::protocol::{Config, Notice, Pair, Registration};
use super::snapshot::{self, Snapshot, Snapshots};
use super::{Outcome, ROLE, capacity, responses, stats};
use crate::policy::{Decision, Endpoint, Enforced, Form, Intent, Policy, Reason, Sibling, Tls, authorize};
use crate::scan::{KnownSecret, Scanner, Warn};
use crate::sidecar::audit::Log;
use crate::sidecar::run::notify;
use crate::sync::lock;

/// What lives as long as the process, as one of its clients has it.
#[derive(Clone)]
pub struct Egress {
    /// Whose requests it serves.
    pub(super) client: Client,
    /// The bottle's id.
    pub(super) bottle: String,
    pub(super) own: Vec<String>,
    /// The bottle's own sidecars, so far. Held while something new is taken.
    pub(super) sidecars: Arc<Mutex<BTreeMap<String, Sibling>>>,
    pub(super) pairs: Vec<Pair>,
    pub(super) proxy_credentials: Option<String>,
    pub(super) resolver: Arc<TokioResolver>,
    pub(super) provider: Arc<rustls::crypto::CryptoProvider>,
    pub(super) authority: Arc<Authority>,
    /// What it goes by now, for each client. A request goes by what was there when it came.
    pub(super) states: watch::Sender<Arc<Snapshots>>,
    /// Grants for one request that were used.
    pub(super) spent: Arc<Mutex<BTreeSet<u64>>>,
    pub(super) log: Log,
    pub(super) counters: Arc<stats::Counters>,
    pub(super) capacity: Arc<capacity::Capacity>,
    pub(super) responses: Arc<responses::Responses<Weak<Egress>>>,
}

impl Egress {
    pub(super) fn new(config: &Config, resolver: TokioResolver, times: capacity::Timeouts) -> anyhow::Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let (resolver, sidecars) = (Arc::new(resolver), config.sidecars.clone());
        let credentials = config.proxy_credentials.clone();
        let parts = snapshot::Inputs {
            sidecars: &sidecars,
            credentials: credentials.as_deref(),
            resolver: &resolver,
            provider: &provider,
        };
        let snapshot = Snapshot::new(&config.policy, &config.secrets, &parts)?;
        let founded = config.authority.clone().map_or_else(|| CaKeyPair::new(&config.bottle), Ok)?;
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
            states: watch::Sender::new(Snapshots::new(snapshot)),
            spent: Arc::default(),
            log: Log::new(ROLE, &config.bottle),
            counters: Arc::new(stats::Counters::new()),
            capacity: Arc::new(capacity::Capacity::new(times)),
            responses: Arc::default(),
        })
    }

    /// The same for a sidecar.
    pub(super) fn of_sidecar(&self, name: &str) -> Self {
        Self { client: Client::Sidecar(name.into()), log: self.log.of_client(name), ..self.clone() }
    }

    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.states.borrow().of(&self.client)
    }

    fn change(&self, change: impl FnOnce(&Snapshot) -> Snapshot) {
        self.states.send_modify(|states| *states = Snapshots::new(change(&states.agent)));
    }

    /// Takes other secrets, whole: requests under way keep what they began with.
    pub(super) fn set_secrets(&self, secrets: &[KnownSecret]) {
        let _taking = lock(&self.sidecars);
        self.change(|snapshot| snapshot.with_secrets(secrets));
    }

    /// Lets the agent reach a sidecar under its name: by the socket of its pair, and by nothing else.
    ///
    /// # Errors
    /// There is no such pair, or the socket is elsewhere.
    pub(super) fn register(&self, registration: Registration) -> Result<(), String> {
        let Registration { name, port, socket } = registration;
        let pair = self.pairs.iter().find(|pair| pair.name == name);
        let pair = pair.ok_or_else(|| format!("egress shares no volume with {name}"))?;
        if socket.parent() != Some(&pair.folder) || socket.file_name().is_none() {
            return Err(format!("{} is not in the volume that egress shares with {name}", socket.display()));
        }
        let mut sidecars = lock(&self.sidecars);
        sidecars.insert(name, Sibling { port, at: Endpoint::Socket(socket) });
        let sidecars = sidecars.clone();
        self.change(|snapshot| snapshot.with_sidecars(sidecars));
        Ok(())
    }

    /// Enforces another policy from the next request on; what is carried for longer, and is not allowed any more, ends.
    ///
    /// # Errors
    /// It cannot be read, changes what is fixed, or is older than what is enforced: then nothing is changed.
    pub(super) fn enforce(&self, policy: &Enforced) -> anyhow::Result<()> {
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
        let parts = snapshot::Inputs {
            sidecars: &sidecars,
            credentials: self.proxy_credentials.as_deref(),
            resolver: &self.resolver,
            provider: &self.provider,
        };
        let fresh = Snapshot::new(policy, &before.secrets, &parts)?;
        // Grants may have been used meanwhile.
        self.change(|_| fresh.without(&lock(&self.spent)));
        Ok(())
    }

    /// Uses up a grant for one request, where nothing else allows this one.
    ///
    /// # Errors
    /// Another request has used it.
    pub(super) fn spend(&self, snapshot: &Snapshot, intent: &Intent) -> Result<(), Reason> {
        let grants = snapshot.policy.granted_once(intent);
        if grants.is_empty() {
            return Ok(());
        }
        let spent = {
            let mut spent = lock(&self.spent);
            let granted = grants.into_iter().find(|grant| spent.insert(*grant));
            granted.ok_or_else(|| Reason::HostNotAllowed(intent.host.clone()))?
        };
        self.change(|snapshot| snapshot.without(&lock(&self.spent)));
        notify::<Self>(Notice::Spent(spent));
        Ok(())
    }

    /// Resolves once the policy forbids what has begun under a policy: for ever, while it does not. What was granted for one
    /// request goes on until it is denied.
    pub(super) async fn until_forbidden(&self, begun: &Policy, intent: &Intent) -> Reason {
        let mut states = self.states.subscribe();
        loop {
            let snapshot = states.borrow_and_update().of(&self.client);
            if let Err(reason) = still_allowed(begun, &snapshot.policy, intent) {
                return reason;
            }
            if states.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Looks again before a request goes out: its body may have taken long, and the policy changed meanwhile.
    pub(super) fn recheck(&self, begun: &Snapshot, intent: &Intent) -> Result<(), Reason> {
        let now = self.snapshot();
        if now.generation == begun.generation { Ok(()) } else { still_allowed(&begun.policy, &now.policy, intent) }
    }

    /// Tells and counts a decision.
    pub(super) fn record(&self, intent: Option<&Intent>, outcome: Outcome<'_>) {
        let (decision, code) = outcome.words();
        self.counters.record(decision, code);
        let snapshot = self.snapshot();
        self.log.tell(intent, outcome, |text| snapshot.contains_secret(text));
    }

    /// What a request is looked at with; the same for the whole of one.
    pub(super) fn scanner(self: &Arc<Self>, snapshot: &Snapshot, intent: &Arc<Intent>) -> Arc<Scanner> {
        snapshot.scanner(intent, self.warn(intent, "request"))
    }

    /// What the answer to a request is looked at with, if anybody looks.
    pub(super) fn response_scanner(
        self: &Arc<Self>,
        snapshot: &Snapshot,
        intent: &Arc<Intent>,
    ) -> Option<Arc<Scanner>> {
        snapshot.response_scanner(|| self.warn(intent, "answer"))
    }

    /// Tells of findings that are let through.
    fn warn(self: &Arc<Self>, intent: &Arc<Intent>, place: &'static str) -> Warn {
        let (egress, intent) = (self.clone(), intent.clone());
        Arc::new(move |finding| egress.record(Some(&intent), Outcome::Warn(&Reason::SecretFound(finding, place))))
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
