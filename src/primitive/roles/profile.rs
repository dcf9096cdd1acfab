//! The launcher's description of a role: resources, configuration, what it serves the agent, which updates it takes. Pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

use serde_json::Value;

use super::relay::Relay;
use crate::credential::Credential;
use crate::engine::Resources;
use crate::layout::sidecar::SOCKET;
use crate::policy::{EnforcedPolicy, TcpTarget};
use crate::scan::{Dlp, KnownSecret};
use crate::sidecar::cred_proxy::Route;
use crate::sidecar::egress::{CaKeyPair, Pair, PipelockConfig, Registration};
use crate::sidecar::git_gate::{Approval, Repository, Sign, Signed};
use crate::sidecar::place::Uplink;
use crate::sidecar::role::Role;
use crate::sidecar::run::Process;
use crate::sidecar::supervise::Call;

/// The launcher's description of a role.
pub(in crate::primitive) trait Profile: 'static {
    /// The role.
    type Role: Role;
    /// The resource limits of its container.
    const RESOURCES: Resources = Resources { cpus: 2.0, memory: 256 << 20, pids: 128 };
    /// The networks that it is on.
    const NETWORKS: Networks;
    /// Whether it is the agent's proxy. Every network reserves an address for it.
    const IS_PROXY: bool = false;
    /// Whether its requests leave through an egress, with which it shares a volume.
    const USES_EGRESS: bool = false;
    /// The port at which it serves the agent HTTP under its name, through its relay and through egress; `None` if it does not.
    const PORT: Option<u16> = None;
    /// Whether it writes the bottle's configuration to a volume that the agent reads. A bottle has one such sidecar at most.
    const SHOWS_POLICY: bool = false;
    /// The update that registers a sidecar that became ready, for a role that leads the agent to it.
    const REGISTER: Option<fn(Registration) -> UpdateOf<Self>> = None;
    /// Its image.
    const IMAGE: SidecarImage = SidecarImage::Own;
    /// Where it has a volume of its own, for what is too large for memory. It is removed with the sidecar.
    const STATE: Option<&str> = None;
    /// Where it has a folder in memory, which only it can read.
    const MEMORY: Option<&str> = None;
    /// Whether only tests use it; it is not listed then.
    const IS_FOR_TESTS: bool = false;
    /// The update with the addresses of the machine that this process runs on, for a role that keeps away from them.
    const HOST_ADDRESSES: Option<fn(Vec<IpAddr>) -> UpdateOf<Self>> = None;
    /// The update with the policy, for a role that enforces one.
    const POLICY: Option<fn(Box<EnforcedPolicy>) -> UpdateOf<Self>> = None;
    /// The update with the bottle's secrets, for a role that needs them. No other role receives them.
    const SECRETS: Option<fn(Vec<KnownSecret>) -> UpdateOf<Self>> = None;
    /// Whether it does its work only once it has been sent the secrets, even if there are none.
    const WAITS_FOR_SECRETS: bool = false;
    /// The update with the bottle's credentials, for a role that puts them into requests. No other role receives a value.
    const CREDENTIALS: Option<fn(Vec<Credential>) -> UpdateOf<Self>> = None;

    /// The update with the operator's approval of a push, for a role that asks for one.
    const APPROVE: Option<fn(Approval) -> UpdateOf<Self>> = None;
    /// The update with a signature, for a role that asks for one.
    const SIGNED: Option<fn(Signed) -> UpdateOf<Self>> = None;

    /// The relays through which the agent reaches it.
    fn relays(serving: &Serving<'_>) -> Vec<Relay> {
        let relay = |port| Relay {
            name: serving.name.to_owned(),
            address: SocketAddrV4::new(serving.address, port),
            socket: SOCKET.to_owned(),
            port,
        };
        Self::PORT.map(relay).into_iter().collect()
    }

    /// Its configuration.
    ///
    /// # Errors
    /// A part of it is missing; the error says which.
    fn config(context: Context<'_>) -> Result<ConfigOf<Self>, &'static str>;

    /// The certificate of the bottle's CA, if its ready message has one.
    fn ca(_: <Self::Role as Role>::Ready) -> Option<String> {
        None
    }

    /// The effect of a notice, which it sends by itself.
    fn noticed(notice: <Self::Role as Role>::Notice) -> Option<NoticeEffect>;
}

/// A role's update.
pub(in crate::primitive) type UpdateOf<P> = <<P as Profile>::Role as Role>::Update;
/// A role's configuration.
pub(in crate::primitive) type ConfigOf<P> = <<P as Profile>::Role as Role>::Config;

/// The networks that a role is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::primitive) enum Networks {
    /// At least one, of any kind.
    Some,
    /// The network inside, in a bottle that has one, and no other: its way out is egress.
    Inside,
    /// None: the agent reaches it through a socket, and it reaches nothing.
    None,
    /// The network of the engine's host. bottler starts such a sidecar itself; a recipe cannot.
    Host,
}

/// The image of a sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::primitive) enum SidecarImage {
    /// The running executable alone.
    Own,
    /// The same with git and ssh.
    Git,
}

/// The inputs of a role's relays.
pub(in crate::primitive) struct Serving<'a> {
    /// The sidecar's name.
    pub(in crate::primitive) name: &'a str,
    /// Its own address on the agent's loopback.
    pub(in crate::primitive) address: Ipv4Addr,
    /// The bottle's destinations of plain TCP.
    pub(in crate::primitive) tcp: &'a [TcpTarget],
}

/// The inputs of a role's configuration.
pub(in crate::primitive) struct Context<'a> {
    /// The bottle's id.
    pub(in crate::primitive) bottle: &'a str,
    /// The sidecar's name.
    pub(in crate::primitive) name: &'a str,
    /// Its addresses, on each of its networks.
    pub(in crate::primitive) networks: &'a [NetworkAddresses],
    /// The initial policy, for a role that enforces one.
    pub(in crate::primitive) policy: Option<EnforcedPolicy>,
    /// Whether it connects to destinations through a dialer.
    pub(in crate::primitive) dials: bool,
    /// Addresses of the machine that this process runs on, for the role that connects to destinations.
    pub(in crate::primitive) host_addresses: Vec<IpAddr>,
    /// The volumes that it shares with sidecars whose requests leave through it.
    pub(in crate::primitive) pairs: Vec<Pair>,
    /// How its requests leave, if through an egress.
    pub(in crate::primitive) outward: Option<Uplink>,
    /// The sidecars that it may connect to by an address, by name.
    pub(in crate::primitive) reachable: BTreeMap<String, SocketAddr>,
    /// The key pair of the bottle's CA, for the role that issues certificates.
    pub(in crate::primitive) authority: Option<CaKeyPair>,
    /// The secrets that it must know before it serves its first request; `None` if they are sent later.
    pub(in crate::primitive) secrets: Option<Vec<KnownSecret>>,
    /// The credentials that it must know before it serves its first request.
    pub(in crate::primitive) credentials: Vec<Credential>,
    /// The repositories behind the git gate, with their keys, for the role that has these.
    pub(in crate::primitive) repositories: Vec<Repository>,
    /// What requests and pushes are searched for.
    pub(in crate::primitive) dlp: Dlp,
    /// Whether the agent can ask its operator.
    pub(in crate::primitive) supervised: bool,
    /// The routes of the bottle's cred-proxy.
    pub(in crate::primitive) routes: Vec<Route>,
    /// The credentials for the upstream proxy, as `name:password`.
    pub(in crate::primitive) proxy_credentials: Option<String>,
    /// How Pipelock is started, for an egress that has it.
    pub(in crate::primitive) pipelock: Option<PipelockConfig>,
}

/// Addresses on one network.
#[derive(Debug, Clone, Copy)]
pub(in crate::primitive) struct NetworkAddresses {
    /// The sidecar's own.
    pub(in crate::primitive) own: Ipv4Addr,
    /// The network's broadcast address.
    pub(in crate::primitive) broadcast: Ipv4Addr,
    /// Where egress is on it.
    pub(in crate::primitive) egress: Ipv4Addr,
    /// Where the agent is, on the network inside.
    pub(in crate::primitive) agent: Ipv4Addr,
    /// Whether it is the network inside.
    pub(in crate::primitive) internal: bool,
}

/// What follows from a notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::primitive) enum NoticeEffect {
    /// A grant for one request, by its number, was used.
    Spent(u64),
    /// A host did not accept the value of a credential, by its name.
    Need(String),
    /// The agent asks something.
    Asked(Box<Call>),
    /// A signature by a key of the operator's ssh agent is asked for.
    Sign(Sign),
}

/// A role in the table.
pub(super) struct Entry {
    /// Its name.
    pub(super) name: &'static str,
    /// Its process.
    pub(super) process: Process,
    /// Its profile, if recipes start it.
    pub(super) profile: Option<RoleProfile>,
}

/// A [`Profile`] without its types.
pub(in crate::primitive) struct RoleProfile {
    /// The role's name.
    pub(in crate::primitive) name: &'static str,
    pub(in crate::primitive) resources: Resources,
    pub(in crate::primitive) networks: Networks,
    pub(super) is_for_tests: bool,
    pub(in crate::primitive) is_proxy: bool,
    pub(in crate::primitive) uses_egress: bool,
    pub(in crate::primitive) shows_policy: bool,
    pub(in crate::primitive) port: Option<u16>,
    pub(in crate::primitive) image: SidecarImage,
    pub(in crate::primitive) state: Option<&'static str>,
    pub(in crate::primitive) memory: Option<&'static str>,
    pub(in crate::primitive) takes_secrets: bool,
    pub(in crate::primitive) waits_for_secrets: bool,
    pub(in crate::primitive) takes_credentials: bool,
    pub(in crate::primitive) takes_approvals: bool,
    pub(in crate::primitive) register: fn(Registration) -> Option<Value>,
    pub(in crate::primitive) takes_policy: bool,
    pub(in crate::primitive) relays: fn(&Serving<'_>) -> Vec<Relay>,
    pub(in crate::primitive) config: fn(Context<'_>) -> Result<Value, String>,
    pub(in crate::primitive) ca: fn(&Value) -> Option<String>,
    pub(in crate::primitive) host_addresses: fn(Vec<IpAddr>) -> Option<Value>,
    pub(in crate::primitive) policy: fn(Box<EnforcedPolicy>) -> Option<Value>,
    pub(in crate::primitive) secrets: fn(Vec<KnownSecret>) -> Option<Value>,
    pub(in crate::primitive) credentials: fn(Vec<Credential>) -> Option<Value>,
    pub(in crate::primitive) approve: fn(Approval) -> Option<Value>,
    pub(in crate::primitive) signed: fn(Signed) -> Option<Value>,
    pub(in crate::primitive) noticed: fn(Value) -> Option<NoticeEffect>,
}

impl Entry {
    /// A role that recipes start.
    pub(super) const fn of<P: Profile>() -> Self {
        let profile = RoleProfile {
            name: P::Role::NAME,
            resources: P::RESOURCES,
            networks: P::NETWORKS,
            is_for_tests: P::IS_FOR_TESTS,
            is_proxy: P::IS_PROXY,
            uses_egress: P::USES_EGRESS,
            shows_policy: P::SHOWS_POLICY,
            port: P::PORT,
            register: |registration| serde_json::to_value(P::REGISTER?(registration)).ok(),
            takes_policy: P::POLICY.is_some(),
            image: P::IMAGE,
            state: P::STATE,
            memory: P::MEMORY,
            takes_secrets: P::SECRETS.is_some(),
            waits_for_secrets: P::WAITS_FOR_SECRETS,
            takes_credentials: P::CREDENTIALS.is_some(),
            takes_approvals: P::APPROVE.is_some(),
            relays: P::relays,
            config: |context| serde_json::to_value(P::config(context)?).map_err(|error| error.to_string()),
            ca: |ready| P::ca(serde_json::from_value(ready.clone()).ok()?),
            host_addresses: |addresses| serde_json::to_value(P::HOST_ADDRESSES?(addresses)).ok(),
            policy: |policy| serde_json::to_value(P::POLICY?(policy)).ok(),
            secrets: |secrets| serde_json::to_value(P::SECRETS?(secrets)).ok(),
            credentials: |credentials| serde_json::to_value(P::CREDENTIALS?(credentials)).ok(),
            approve: |approval| serde_json::to_value(P::APPROVE?(approval)).ok(),
            signed: |signed| serde_json::to_value(P::SIGNED?(signed)).ok(),
            noticed: |notice| P::noticed(serde_json::from_value(notice).ok()?),
        };
        Self { name: P::Role::NAME, process: Process::of::<P::Role>(), profile: Some(profile) }
    }

    /// A role that bottler starts itself.
    pub(super) const fn of_its_own<R: Role>() -> Self {
        Self { name: R::NAME, process: Process::of::<R>(), profile: None }
    }
}
