//! The egress service: the state that lives as long as the process, and how updates change it. Requests keep the
//! snapshot that was active when they began.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, Weak};

use tokio::sync::watch;

use super::ca::{Authority, CaKeyPair};
use super::client::Client;
use super::connect::Ways;
use super::pipelock::Pipelock;
use super::protocol::{Config, Notice, Pair, Registration};
use super::refusal::Refusal;
use super::snapshot::{self, Snapshot, Snapshots};
use super::{LoggedDecision, capacity, cookies, meter, needs, registries, responses, stats};
use crate::credential::Credential;
use crate::policy::{
    Credentials, Decision, Endpoint, EnforcedPolicy, Form, Intent, Policy, Reason, Sibling, Tls, authorize, next_call,
};
use crate::scan::{KnownSecret, PLACEHOLDER, Passed, Scanner, Warn};
use crate::sidecar::audit::Log;
use crate::sidecar::run::notify;
use crate::sync::lock;

/// The state of the process, for one of its clients.
#[derive(Clone)]
pub struct Egress {
    /// The client that it serves.
    pub(super) client: Client,
    /// The bottle's id.
    pub(super) bottle: String,
    /// Whether the agent can ask its operator.
    pub(super) supervised: bool,
    pub(super) own: Vec<String>,
    /// The bottle's own sidecars so far. The lock serializes updates.
    pub(super) sidecars: Arc<Mutex<BTreeMap<String, Sibling>>>,
    pub(super) pairs: Vec<Pair>,
    pub(super) proxy_credentials: Option<String>,
    pub(super) ways: Ways,
    /// Addresses of the user's machine.
    host_addresses: Arc<Mutex<Vec<IpAddr>>>,
    pub(super) provider: Arc<rustls::crypto::CryptoProvider>,
    pub(super) authority: Arc<Authority>,
    /// The active snapshots. A request keeps the one that was active when it began.
    pub(super) snapshots: watch::Sender<Arc<Snapshots>>,
    /// Grants for one request that were used.
    pub(super) spent: Arc<Mutex<BTreeSet<u64>>>,
    pub(super) log: Log,
    pub(super) counters: Arc<stats::Counters>,
    /// Requests with credentials.
    pub(super) meter: Arc<meter::Meter>,
    pub(super) needs: Arc<needs::Needs>,
    pub(super) cookies: Arc<cookies::HandedOut>,
    pub(super) registries: Arc<registries::Registries>,
    pub(super) capacity: Arc<capacity::Capacity>,
    pub(super) responses: Arc<responses::Responses<Weak<Egress>>>,
    /// What inspects the agent's requests behind this.
    pub(super) pipelock: Option<Arc<Pipelock>>,
}

impl Egress {
    /// The service without Pipelock.
    #[cfg(test)]
    pub(super) fn new(config: &Config, ways: Ways, times: capacity::Timeouts) -> anyhow::Result<Self> {
        Self::inspected(config, ways, times, Log::new(super::ROLE, &config.bottle), None)
    }

    /// The service, with Pipelock behind it if there is one.
    pub(super) fn inspected(
        config: &Config,
        ways: Ways,
        times: capacity::Timeouts,
        log: Log,
        pipelock: Option<Arc<Pipelock>>,
    ) -> anyhow::Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let sidecars = config.sidecars.clone();
        let credentials = config.proxy_credentials.clone();
        let inputs = snapshot::Inputs {
            sidecars: &sidecars,
            credentials: credentials.as_deref(),
            ways: &ways,
            host_addresses: &config.host_addresses,
            provider: &provider,
            inspector: pipelock.as_ref().map(|pipelock| pipelock.inspector()),
        };
        let snapshot = Snapshot::new(&config.policy, &config.secrets, &inputs, None)?
            .with_credentials(Credentials::new(config.credentials.clone())?);
        snapshot.credentials.check_tunnels(&snapshot.policy)?;
        let founded = config.authority.clone().map_or_else(|| CaKeyPair::new(&config.bottle), Ok)?;
        Ok(Self {
            client: Client::Agent,
            authority: Arc::new(Authority::new(&config.bottle, founded, provider.clone())?),
            bottle: config.bottle.clone(),
            supervised: config.supervised,
            own: config.own.clone(),
            sidecars: Arc::new(Mutex::new(sidecars)),
            pairs: config.pairs.clone(),
            proxy_credentials: credentials,
            ways,
            host_addresses: Arc::new(Mutex::new(config.host_addresses.clone())),
            provider,
            snapshots: watch::Sender::new(Snapshots::new(snapshot, None)),
            spent: Arc::default(),
            log,
            counters: Arc::new(stats::Counters::new()),
            meter: Arc::default(),
            needs: Arc::default(),
            cookies: Arc::default(),
            registries: Arc::default(),
            capacity: Arc::new(capacity::Capacity::new(times)),
            responses: Arc::default(),
            pipelock,
        })
    }

    /// The same service for a sidecar.
    pub(super) fn of_sidecar(&self, name: &str) -> Self {
        Self { client: Client::Sidecar(name.into()), log: self.log.of_client(name), ..self.clone() }
    }

    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshots.borrow().of(&self.client)
    }

    fn change(&self, change: impl FnOnce(&Snapshot) -> Snapshot) {
        self.snapshots.send_modify(|current| *current = Snapshots::new(change(&current.agent), Some(current.as_ref())));
    }

    /// Replaces all secrets; requests in progress keep the previous ones.
    pub(super) fn set_secrets(&self, secrets: &[KnownSecret]) {
        let _taking = lock(&self.sidecars);
        self.change(|snapshot| snapshot.with_secrets(secrets));
    }

    /// Replaces all credentials; requests in progress keep the previous ones.
    ///
    /// # Errors
    /// One cannot be used; nothing is changed then.
    pub(super) fn set_credentials(&self, credentials: Vec<Credential>) -> Result<(), String> {
        let credentials = Credentials::new(credentials).map_err(|error| error.to_string())?;
        let _taking = lock(&self.sidecars);
        let policy = self.snapshots.borrow().agent.policy.clone();
        credentials.check_tunnels(&policy).map_err(|error| error.to_string())?;
        self.change(|snapshot| snapshot.with_credentials(credentials));
        self.needs.answered();
        Ok(())
    }

    /// Replaces the addresses of the user's machine, which are never allowed.
    pub(super) fn set_host_addresses(&self, addresses: Vec<IpAddr>) {
        let _taking = lock(&self.sidecars);
        let mut known = lock(&self.host_addresses);
        if *known != addresses {
            self.change(|snapshot| snapshot.with_host_addresses(&addresses));
            *known = addresses;
        }
    }

    /// Makes a sidecar reachable under its name, by a socket in the volume that it shares with egress.
    ///
    /// # Errors
    /// There is no such volume, or the socket is not in it.
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
        self.change(|snapshot| snapshot.with_sidecars(sidecars, Some(snapshot)));
        Ok(())
    }

    /// Enforces another policy from the next request on. Tunnels and streams that it forbids end.
    ///
    /// # Errors
    /// The policy cannot be read, changes what is fixed, or is older than the active one; nothing is changed then.
    pub(super) fn enforce(&self, policy: &EnforcedPolicy) -> anyhow::Result<()> {
        let sidecars = lock(&self.sidecars);
        let before = self.snapshots.borrow().agent.clone();
        if policy.generation == before.generation {
            // A repeated update, because the acknowledgement was lost.
            return Ok(());
        }
        anyhow::ensure!(policy.generation > before.generation, "generation {} is enforced already", before.generation);
        anyhow::ensure!(
            policy.spec.tcp == before.spec.tcp,
            "tcp: these destinations are fixed at the launch: the agent's container has their names and sockets"
        );
        let host_addresses = lock(&self.host_addresses).clone();
        let inputs = snapshot::Inputs {
            sidecars: &sidecars,
            credentials: self.proxy_credentials.as_deref(),
            ways: &self.ways,
            host_addresses: &host_addresses,
            provider: &self.provider,
            inspector: self.pipelock.as_ref().map(|pipelock| pipelock.inspector()),
        };
        anyhow::ensure!(
            policy.spec.host_services == before.spec.host_services,
            "host_services: these are fixed at the launch, as destinations of plain TCP are"
        );
        let fresh = Snapshot::new(policy, &before.secrets, &inputs, Some(&before))?.with_credentials_of(&before);
        fresh.credentials.check_tunnels(&fresh.policy)?;
        // Grants may have been used meanwhile.
        self.change(|_| fresh.without(&lock(&self.spent)));
        self.meter.limits_changed();
        self.end_forbidden(&before);
        Ok(())
    }

    /// Ends responses in progress that the active policy forbids, and `begun` did not.
    fn end_forbidden(&self, begun: &Snapshot) {
        let forbidden = |client: &Weak<Self>, intent: &Intent| {
            let client = client.upgrade()?;
            // Sidecars have policies of their own.
            let is_agents = client.client == Client::Agent;
            let now = self.snapshots.borrow().agent.policy.clone();
            is_agents.then(|| still_allowed(&begun.policy, &now, intent).err()).flatten()
        };
        for (client, intent, reason) in self.responses.end_forbidden(forbidden) {
            if let Some(client) = client.upgrade() {
                client.record(Some(&intent), LoggedDecision::Refuse(&reason));
            }
        }
    }

    /// Uses a grant for one request, if nothing else allows the request.
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

    /// Resolves when the policy forbids what began under an earlier one. What was granted for one request continues
    /// until it is denied.
    pub(super) async fn until_forbidden(&self, begun: &Policy, intent: &Intent) -> Reason {
        let mut snapshots = self.snapshots.subscribe();
        loop {
            let snapshot = snapshots.borrow_and_update().of(&self.client);
            if let Err(reason) = still_allowed(begun, &snapshot.policy, intent) {
                return reason;
            }
            if snapshots.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Checks a request again before it is sent: the policy may have changed while its body arrived.
    pub(super) fn recheck(&self, begun: &Snapshot, intent: &Intent) -> Result<(), Reason> {
        let now = self.snapshot();
        if now.generation == begun.generation { Ok(()) } else { still_allowed(&begun.policy, &now.policy, intent) }
    }

    /// The counters.
    pub(super) fn stats(&self) -> stats::Stats {
        let snapshot = self.snapshot();
        self.counters.read(snapshot.generation, &self.meter, &snapshot.limits)
    }

    /// Logs and counts a decision.
    pub(super) fn record(&self, intent: Option<&Intent>, outcome: LoggedDecision<'_>) {
        self.record_times(intent, outcome, 1);
    }

    /// Logs and counts equal decisions of one request, as one event.
    fn record_times(&self, intent: Option<&Intent>, outcome: LoggedDecision<'_>, times: u64) {
        let (decision, code) = outcome.words();
        self.counters.record(decision, code, times);
        let snapshot = self.snapshot();
        self.log.record(intent, outcome, times, |text| snapshot.contains_secret(text));
    }

    /// Logs and counts a refusal; returns what the response says of it besides its reason.
    pub(super) fn refuse(&self, intent: Option<&Intent>, reason: &Reason) -> Refusal<'_> {
        let (decision, code) = LoggedDecision::Refuse(reason).words();
        self.counters.record(decision, code, 1);
        let snapshot = self.snapshot();
        let id = self.log.refuse(intent, reason, |text| snapshot.contains_secret(text));
        let call = intent.filter(|_| self.asks()).and_then(|intent| next_call(reason, intent));
        // A call that repeats a secret would be worse than none.
        let call = call.map(|call| call["arguments"].to_string()).filter(|call| !snapshot.contains_secret(call));
        Refusal { bottle: &self.bottle, id, note: snapshot.policy.note(reason), call }
    }

    /// Whether the client can ask the operator.
    pub(super) fn asks(&self) -> bool {
        self.supervised && self.client == Client::Agent
    }

    /// The scanner for a request.
    pub(super) fn scanner(self: &Arc<Self>, snapshot: &Snapshot, intent: &Arc<Intent>) -> Arc<Scanner> {
        snapshot.scanner(intent, self.warn(intent, "request"))
    }

    /// The scanner for the response to a request, if responses are inspected.
    pub(super) fn response_scanner(
        self: &Arc<Self>,
        snapshot: &Snapshot,
        intent: &Arc<Intent>,
    ) -> Option<Arc<Scanner>> {
        snapshot.response_scanner(|| self.warn(intent, "answer"))
    }

    /// Records findings that are let through or masked.
    fn warn(self: &Arc<Self>, intent: &Arc<Intent>, place: &'static str) -> Warn {
        let (egress, intent) = (self.clone(), intent.clone());
        Arc::new(move |passed| match passed {
            Passed::Warned(finding) => {
                let reason = match finding.rule.as_str() {
                    PLACEHOLDER => Reason::PlaceholderPassed("body"),
                    _ => Reason::SecretFound(finding, place),
                };
                egress.record(Some(&intent), LoggedDecision::Warn(&reason));
            }
            Passed::Masked(finding, count) => {
                egress.record_times(Some(&intent), LoggedDecision::Mask(&Reason::SecretMasked(finding)), count);
            }
        })
    }
}

/// Whether a later policy still allows what an earlier one allowed. What was granted for one request continues until it
/// is denied; anything else cannot continue by such a grant.
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
