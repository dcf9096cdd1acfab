//! A sidecar: what it was started with, and where it is reached.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::life::Lifecycle;
use super::network::Network;
use super::pair::{Pair, Pairs};
use crate::engine::VolumeMount;
use crate::layout::agent::Far;
use crate::policy::AllowSpec;
use crate::primitive::roles::{Relay, RoleName, RoleProfile};
use crate::session::{Class, Failure, Pending};
use crate::sidecar::egress::{CaKeyPair, Registration};

/// What `sidecar_start` takes, besides the handles of networks and of sidecars that egress may reach.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SidecarOptions {
    /// Its name: of its container, its relay and its hook.
    pub name: String,
    /// What it does.
    pub role: RoleName,
    /// For egress: what it lets through.
    #[serde(default)]
    pub allow: Vec<AllowSpec>,
}

/// A sidecar.
pub struct Sidecar {
    /// Its name.
    pub name: String,
    /// What it is; an ordinary image when absent.
    pub(in crate::primitive) role: Option<&'static RoleProfile>,
    /// Its life.
    pub life: Arc<Lifecycle>,
    /// The volume of its sockets, if it serves the agent by sockets.
    pub(in crate::primitive) volume: Option<String>,
    /// The volume of a dialer's socket: its egress mounts it, and nobody else.
    pub(in crate::primitive) dialing: Option<(String, Pending<VolumeMount>)>,
    /// The volumes that it shares with sidecars that go out through it.
    pub(in crate::primitive) pairs: Arc<Pairs>,
    /// What it serves the agent.
    pub(in crate::primitive) relays: Vec<Relay>,
    pub(in crate::primitive) places: Vec<(Arc<Network>, u32)>,
    /// What it was started with; an ordinary image is not started again.
    pub(in crate::primitive) inputs: Option<Arc<SidecarInputs>>,
    pub(in crate::primitive) created: Pending<String>,
    /// What it said when it was ready.
    pub(in crate::primitive) ready: Pending<Arc<Value>>,
}

impl Sidecar {
    /// Waits until it listens.
    ///
    /// # Errors
    /// It could not be started, or ended before it listened.
    pub async fn ready(&self) -> Result<(), Failure> {
        self.ready.get().await.map(drop)
    }

    /// Whether it is a proxy: an agent's way out.
    pub(in crate::primitive) fn is_proxy(&self) -> bool {
        self.role.is_some_and(|role| role.is_proxy)
    }

    /// Waits until it listens; the certificate of the bottle's CA, where it is the one that has that.
    pub(in crate::primitive) async fn ca(&self) -> Result<Option<String>, Failure> {
        let ready = self.ready.get().await?;
        Ok(self.role.and_then(|role| (role.ca)(&ready)))
    }

    /// Waits until its container exists; the container's id.
    ///
    /// # Errors
    /// It could not be created.
    pub async fn container(&self) -> Result<String, Failure> {
        self.created.get().await
    }

    /// Its address on its first network.
    pub(in crate::primitive) async fn address(&self) -> Result<Ipv4Addr, Failure> {
        match self.places.first() {
            Some((network, place)) => network.address(*place).await,
            None => Err(Failure::new(Class::Input, format!("sidecar {} has no network", self.name))),
        }
    }

    /// Its addresses on all its networks but the one inside, with the networks' names.
    pub(in crate::primitive) async fn addresses(&self) -> Result<Vec<(String, Ipv4Addr)>, Failure> {
        let mut addresses = Vec::new();
        for (network, place) in self.places.iter().filter(|(network, _)| !network.internal) {
            addresses.push((network.name.clone(), network.address(*place).await?));
        }
        Ok(addresses)
    }

    /// Its address on the network inside, where it is on one.
    pub(in crate::primitive) async fn inside(&self) -> Result<Option<Ipv4Addr>, Failure> {
        inside(&self.places).await
    }

    /// Where its relays lead.
    pub(in crate::primitive) async fn relayed(&self) -> Result<BTreeMap<SocketAddrV4, Far>, Failure> {
        let inside = self.inside().await?;
        let far = |relay: &Relay| match inside {
            Some(address) => Far::Address(SocketAddrV4::new(address, relay.port)),
            None => Far::Socket(format!("{}/{}", self.name, relay.socket)),
        };
        Ok(self.relays.iter().map(|relay| (relay.address, far(relay))).collect())
    }
}

/// The place on the network inside, among these.
fn place_inside(places: &[(Arc<Network>, u32)]) -> Option<&(Arc<Network>, u32)> {
    places.iter().find(|(network, _)| network.internal)
}

/// The address on the network inside, of whoever has these places.
pub(in crate::primitive) async fn inside(places: &[(Arc<Network>, u32)]) -> Result<Option<Ipv4Addr>, Failure> {
    match place_inside(places) {
        Some((network, place)) => network.address(*place).await.map(Some),
        None => Ok(None),
    }
}

/// What a sidecar was started with.
pub(in crate::primitive) struct SidecarInputs {
    pub(in crate::primitive) options: SidecarOptions,
    pub(in crate::primitive) places: Vec<(Arc<Network>, u32)>,
    pub(in crate::primitive) pairs: Arc<Pairs>,
    /// What it shares with its egress.
    pub(in crate::primitive) own: Option<Pair>,
    pub(in crate::primitive) reachable: BTreeMap<String, Arc<Sidecar>>,
    pub(in crate::primitive) egress: Option<Arc<Sidecar>>,
    /// The dialer that an egress goes out through, where the engine's networks lead nowhere.
    pub(in crate::primitive) dialer: Option<Arc<Sidecar>>,
    /// The egress whose policy it enforces: itself, or the one that it dials for.
    pub(in crate::primitive) policy_of: String,
    /// What the bottle's CA is founded on, of an egress. In memory alone: it goes nowhere but over its standard input.
    pub(in crate::primitive) authority: Option<CaKeyPair>,
}

impl SidecarInputs {
    /// What an egress is told when it has come up, and which one, if it goes out through one.
    pub(in crate::primitive) fn registration(&self) -> Option<(&str, Registration)> {
        let port = self.options.role.0.port?;
        Some((&self.egress.as_ref()?.name, self.own.as_ref()?.registration(port)))
    }
}
