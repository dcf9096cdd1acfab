//! The active configuration: policy, scanners and HTTP client. A snapshot is immutable and replaced as a whole. The
//! HTTP client, with its pooled connections, is shared by snapshots that connect in the same way.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::crypto::CryptoProvider;

use super::bodies::Body;
use super::capacity::REQUESTS;
use super::client::Client;
use super::connect::{Connector, Ways};
use super::strict::MAX_HEADERS;
use super::upstream_proxy::UpstreamProxy;
use crate::credential::Credential;
use crate::host;
use crate::layout::git_gate;
use crate::policy::{
    Allow, Credentials, EgressSpec, EnforcedPolicy, EntryError, Form, GitAccess, Intent, Mode, Policy, RequestLimits,
    Rule, Sibling,
};
use crate::scan::{Action, Actions, Direction, KnownSecret, RequestTarget, Rules, Scanner, Warn};

/// How long an idle connection to a destination is kept, and how many for each.
const IDLE: Duration = Duration::from_mins(1);
const MAX_IDLE: usize = 32;
/// Read-ahead of a response, and write buffer of a request, in bytes.
const MAX_BUFFER: usize = 128 << 10;
/// HTTP/2 windows for a response and for a connection, in bytes: enough for all concurrent requests, so that no
/// response waits for others to be read.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = REQUESTS * STREAM_WINDOW;
/// Maximum size of the headers of a response in HTTP/2, in bytes.
pub(super) const MAX_HEADER_LIST: u32 = 128 << 10;

/// The active configuration of one client.
#[derive(Clone)]
pub(super) struct Snapshot {
    /// The generation of the policy.
    pub(super) generation: u64,
    pub(super) spec: EgressSpec,
    pub(super) secrets: Vec<KnownSecret>,
    pub(super) policy: Arc<Policy>,
    pub(super) connector: Connector,
    pub(super) client: HttpClient<Connector, Body>,
    /// What the agent has placeholders of.
    pub(super) credentials: Arc<Credentials>,
    /// How many requests may use them.
    pub(super) limits: Arc<RequestLimits>,
    requests: Scanner,
    /// For each host that a secret may be sent to, the scanner of its requests: it searches for all other secrets.
    receivers: Vec<(Rule, Scanner)>,
    responses: Option<Scanner>,
}

/// The inputs besides the policy.
pub(super) struct Inputs<'a> {
    pub(super) sidecars: &'a BTreeMap<String, Sibling>,
    pub(super) credentials: Option<&'a str>,
    pub(super) ways: &'a Ways,
    /// Addresses of the user's machine.
    pub(super) host_addresses: &'a [IpAddr],
    pub(super) provider: &'a Arc<CryptoProvider>,
    /// What inspects the agent's requests behind egress.
    pub(super) inspector: Option<&'a Inspector>,
}

/// An inspector in egress' own container, which intercepts TLS.
#[derive(Debug, Clone)]
pub(super) struct Inspector {
    /// Its port on loopback.
    pub(super) port: u16,
    /// The certificate of its CA, in PEM.
    pub(super) certificate: String,
}

impl Snapshot {
    /// `previous` is the snapshot whose connections are kept, if nothing changes that they depend on.
    pub(super) fn new(
        enforced: &EnforcedPolicy,
        secrets: &[KnownSecret],
        inputs: &Inputs<'_>,
        previous: Option<&Self>,
    ) -> anyhow::Result<Self> {
        let EnforcedPolicy { generation, spec, once, limits } = enforced.clone();
        let once: Result<Vec<(u64, Allow)>, EntryError> =
            once.iter().map(|(id, entry)| Ok((*id, entry.read()?))).collect();
        let policy =
            Policy { own_host: own_host(inputs.host_addresses), once: once?, ..spec.policy(inputs.sidecars.clone())? };
        let policy = Arc::new(policy);
        let kept = previous.and_then(|previous| previous.connections(&spec, &policy));
        let (connector, client) = if let Some(kept) = kept {
            kept
        } else {
            let (ways, provider) = (inputs.ways.clone(), inputs.provider.clone());
            let mut roots = spec.roots.clone();
            let proxy = match inputs.inspector {
                Some(inspector) => {
                    roots.push(inspector.certificate.clone());
                    Some(UpstreamProxy::inspector(inspector.port, &spec)?)
                }
                None => UpstreamProxy::read(&spec, inputs.credentials)?,
            };
            connections(Connector::new(&policy, &roots, proxy.map(Arc::new), ways, provider)?)
        };
        let rules = |direction| Rules::with(&spec.dlp.rules, direction).map(Arc::new);
        let actions = Arc::new(Actions::new(&spec.dlp));
        let responses = match spec.dlp.responses {
            Action::Off => None,
            action => {
                Some(Scanner::new(&[], rules(Direction::Response)?, Arc::new(Actions::always(&spec.dlp, action))))
            }
        };
        Ok(Self {
            generation,
            connector,
            client,
            policy,
            credentials: Arc::default(),
            limits: Arc::new(limits),
            receivers: Vec::new(),
            requests: Scanner::new(&[], rules(Direction::Request)?, actions),
            responses,
            secrets: Vec::new(),
            spec,
        }
        .with_secrets(secrets))
    }

    /// The same with other secrets.
    pub(super) fn with_secrets(&self, secrets: &[KnownSecret]) -> Self {
        Self { secrets: secrets.to_vec(), ..self.clone() }.searching()
    }

    /// The same with other credentials.
    pub(super) fn with_credentials(&self, credentials: Credentials) -> Self {
        Self { credentials: Arc::new(credentials), ..self.clone() }.searching()
    }

    /// The same with the credentials of another one.
    pub(super) fn with_credentials_of(&self, other: &Self) -> Self {
        Self { credentials: other.credentials.clone(), ..self.clone() }.searching()
    }

    /// The same with scanners for its secrets and the values of its credentials.
    fn searching(&self) -> Self {
        let secrets = &self.secrets;
        let more = |secret: &&Credential| !secrets.iter().any(|known| known.value == secret.value);
        let held = self.credentials.all().iter().filter(more).map(|credential| credential.value.clone());
        let held: Vec<String> = held.collect();
        let held = held.into_iter().map(|value| KnownSecret { value, hosts: Vec::new() });
        let secrets: &[KnownSecret] = &secrets.iter().cloned().chain(held).collect::<Vec<_>>();
        let placeholders = || self.credentials.all().iter().map(|credential| credential.placeholder.as_str());
        let requests = self.requests.with_placeholders(placeholders());
        let values: Vec<String> = secrets.iter().map(|secret| secret.value.clone()).collect();
        let hosts: BTreeSet<&String> = secrets.iter().flat_map(|secret| &secret.hosts).collect();
        let of_host = |host: &String| {
            let (exempt, others): (Vec<&KnownSecret>, Vec<&KnownSecret>) =
                secrets.iter().partition(|secret| secret.hosts.contains(host));
            let values =
                |secrets: Vec<&KnownSecret>| secrets.into_iter().map(|secret| secret.value.clone()).collect::<Vec<_>>();
            // A host that cannot be parsed is never requested.
            Some((host.parse::<Rule>().ok()?, requests.with_secrets(&values(others), &values(exempt))))
        };
        Self {
            receivers: hosts.into_iter().filter_map(of_host).collect(),
            requests: requests.with_secrets(&values, &[]),
            responses: self.responses.as_ref().map(|scanner| scanner.with_placeholders(placeholders())),
            ..self.clone()
        }
    }

    /// The same with other addresses of the user's machine.
    pub(super) fn with_host_addresses(&self, addresses: &[IpAddr]) -> Self {
        let policy = Arc::new(Policy { own_host: own_host(addresses), ..Policy::clone(&self.policy) });
        let (connector, client) = connections(self.connector.with_policy(&policy));
        Self { policy, connector, client, ..self.clone() }
    }

    /// The same with other sidecars; keeps the connections of `previous` as [`Self::new`] does.
    pub(super) fn with_sidecars(&self, sidecars: BTreeMap<String, Sibling>, previous: Option<&Self>) -> Self {
        self.connected(&self.connector, sidecars, previous)
    }

    fn connected(&self, connector: &Connector, sidecars: BTreeMap<String, Sibling>, previous: Option<&Self>) -> Self {
        let policy = Arc::new(Policy { sidecars, ..Policy::clone(&self.policy) });
        let kept = previous.and_then(|previous| previous.connections(&self.spec, &policy));
        let (connector, client) = kept.unwrap_or_else(|| connections(connector.with_policy(&policy)));
        Self { policy, connector, client, ..self.clone() }
    }

    /// The same for the bottle's own sidecars: without other sidecars, repositories behind the git gate, and an inspector, which
    /// would refuse the credentials that egress puts into their requests.
    fn of_sidecars(&self, previous: Option<&Self>) -> Self {
        self.connected(&self.connector.uninspected(), BTreeMap::new(), previous).without_git()
    }

    /// The same without repositories behind the git gate.
    fn without_git(&self) -> Self {
        let policy = Policy { git: GitAccess::None, ..Policy::clone(&self.policy) };
        Self { policy: Arc::new(policy), ..self.clone() }
    }

    /// The same for the git gate: it reaches the upstreams of these repositories, and nothing else.
    fn with_upstreams_of(&self, git: &GitAccess) -> Self {
        let GitAccess::HandOver(entries) = git else { return self.clone() };
        let policy = Policy {
            mode: Mode::Enforce,
            allow: Vec::new(),
            once: Vec::new(),
            tcp: Vec::new(),
            git: GitAccess::Upstream(entries.clone()),
            ..Policy::clone(&self.policy)
        };
        Self { policy: Arc::new(policy), ..self.clone() }
    }

    /// The connector and the pooled connections, if they serve this policy as well: if it has the same trusted
    /// authorities, upstream proxy, addresses and sidecars.
    fn connections(&self, spec: &EgressSpec, policy: &Policy) -> Option<(Connector, HttpClient<Connector, Body>)> {
        let same = self.spec.roots == spec.roots
            && self.spec.upstream_proxy == spec.upstream_proxy
            && self.connector.is_for(policy);
        same.then(|| (self.connector.clone(), self.client.clone()))
    }

    /// The same without the grants for one request that were used.
    pub(super) fn without(&self, spent: &BTreeSet<u64>) -> Self {
        let mut policy = Policy::clone(&self.policy);
        policy.once.retain(|(grant, _)| !spent.contains(grant));
        Self { policy: Arc::new(policy), ..self.clone() }
    }

    /// Whether a text contains a secret, whatever its destination.
    pub(super) fn contains_secret(&self, text: &str) -> bool {
        self.requests.contains_secret(text.as_bytes())
    }

    /// The scanner for a request.
    pub(super) fn scanner(&self, intent: &Intent, warn: Warn) -> Arc<Scanner> {
        let always = self.policy.scan(intent);
        // Without TLS, others could read a token on its way: none is exempt.
        let sealed = intent.form == Form::Inside;
        let own = self
            .receivers
            .iter()
            .filter(|_| sealed)
            .find(|(rule, _)| rule.has_host(&intent.host) && rule.has_port(intent.port));
        let scanner = match own {
            // A host that has a credential accepts no other one.
            Some((_, scanner)) => scanner.for_request(always, warn),
            None if sealed && !self.credentials.has_host(&intent.host, intent.port) => {
                let target = RequestTarget::new(&intent.host.to_string(), intent.path.as_deref().unwrap_or_default());
                self.requests.for_request(always, warn).for_target(target)
            }
            None => self.requests.for_request(always, warn),
        };
        Arc::new(scanner)
    }

    /// The scanner for a response, if responses are inspected.
    pub(super) fn response_scanner(&self, warn: impl FnOnce() -> Warn) -> Option<Arc<Scanner>> {
        let scanner = self.responses.as_ref()?;
        Some(Arc::new(scanner.for_request(None, warn())))
    }
}

/// The active configuration of each client. A separate policy for a sidecar would go here.
pub(super) struct Snapshots {
    pub(super) agent: Arc<Snapshot>,
    /// For sidecars that go out through egress: the bottle's policy without the bottle's own sidecars, so that they
    /// cannot reach each other, or themselves in a loop. They hold placeholders, too, and never a value.
    pub(super) sidecars: Arc<Snapshot>,
    /// For the git gate: its upstreams, and nothing else.
    pub(super) gate: Arc<Snapshot>,
}

impl Snapshots {
    /// `previous` are the snapshots that these replace.
    pub(super) fn new(agent: Snapshot, previous: Option<&Self>) -> Arc<Self> {
        let previous = previous.map(|previous| previous.sidecars.as_ref());
        let sidecars = Arc::new(agent.of_sidecars(previous));
        let gate = Arc::new(sidecars.with_upstreams_of(&agent.policy.git));
        Arc::new(Self { agent: Arc::new(agent), sidecars, gate })
    }

    pub(super) fn of(&self, client: &Client) -> Arc<Snapshot> {
        match client {
            Client::Agent => self.agent.clone(),
            Client::Sidecar(name) if **name == *git_gate::NAME => self.gate.clone(),
            Client::Sidecar(_) => self.sidecars.clone(),
        }
    }
}

/// A connector, and a client that pools its connections.
fn connections(connector: Connector) -> (Connector, HttpClient<Connector, Body>) {
    let mut builder = HttpClient::builder(TokioExecutor::new());
    builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).pool_max_idle_per_host(MAX_IDLE);
    builder.http1_max_buf_size(MAX_BUFFER).http2_max_send_buf_size(MAX_BUFFER);
    builder.http2_initial_stream_window_size(STREAM_WINDOW).http2_initial_connection_window_size(CONNECTION_WINDOW);
    // Whatever a destination sends that browsers read.
    builder.http1_max_headers(MAX_HEADERS).http1_allow_obsolete_multiline_headers_in_responses(true);
    builder.http2_max_header_list_size(MAX_HEADER_LIST);
    let client = builder.build(connector.clone());
    (connector, client)
}

/// The gateways of this container's network, which are the host that the engine runs on, and these addresses.
fn own_host(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let routes = host::readable_routes().into_iter().filter(|route| route.to.addr().is_unspecified());
    let gateways = routes.map(|route| route.by).filter(|gateway| !gateway.is_unspecified());
    gateways.chain(addresses.iter().copied()).collect()
}
