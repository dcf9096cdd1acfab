//! A sidecar: the options it was started with, and its addresses.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::image::ImageInfo;
use super::life::Lifecycle;
use super::network::Network;
use super::pair::{Pair, Pairs};
use crate::engine::VolumeMount;
use crate::layout::agent::Far;
use crate::policy::{AllowSpec, allow_list};
use crate::primitive::roles::{Relay, RoleName, RoleProfile};
use crate::session::{Class, Failure, Pending};
use crate::sidecar::egress::{CaKeyPair, Registration};

/// The options of `sidecar_start`, except for networks and the sidecars that egress may reach.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SidecarOptions {
    /// Its name, also of its container, its relay and its hooks.
    pub name: String,
    /// Its role.
    pub role: RoleName,
    /// For egress: what the agent may reach: hosts, tables, presets such as "@pypi".
    #[serde(default, deserialize_with = "allow_list")]
    pub allow: Vec<AllowSpec>,
}

/// A sidecar.
pub struct Sidecar {
    /// Its name.
    pub name: String,
    /// Its role; an ordinary image has none.
    pub(in crate::primitive) role: Option<&'static RoleProfile>,
    /// Its lifecycle.
    pub life: Arc<Lifecycle>,
    /// The volume with its sockets, if it serves the agent through sockets.
    pub(in crate::primitive) volume: Option<String>,
    /// The volume of its own, if its role has one.
    pub(in crate::primitive) state: Option<String>,
    /// The volume with the bottle's configuration, if it writes that.
    pub(in crate::primitive) shown: Option<String>,
    /// The volume of a dialer's socket: its egress mounts it, and nobody else.
    pub(in crate::primitive) dialing: Option<(String, Pending<VolumeMount>)>,
    /// The volumes that it shares with sidecars that use it as their way out.
    pub(in crate::primitive) pairs: Arc<Pairs>,
    /// Its relays for the agent.
    pub(in crate::primitive) relays: Vec<Relay>,
    pub(in crate::primitive) places: Vec<(Arc<Network>, u32)>,
    /// What is needed to restart it; absent for an ordinary image, which is not restarted.
    pub(in crate::primitive) inputs: Option<Arc<SidecarInputs>>,
    pub(in crate::primitive) created: Pending<String>,
    /// The content of its ready message.
    pub(in crate::primitive) ready: Pending<Arc<Value>>,
}

impl Sidecar {
    /// Waits until it is ready.
    ///
    /// # Errors
    /// It could not be started, or ended before it was ready.
    pub async fn ready(&self) -> Result<(), Failure> {
        self.ready.get().await.map(drop)
    }

    /// Whether it is a proxy, the agent's way out.
    pub(in crate::primitive) fn is_proxy(&self) -> bool {
        self.role.is_some_and(|role| role.is_proxy)
    }

    /// Waits until it is ready; returns the certificate of the bottle's CA, if it is the sidecar that has it.
    pub(in crate::primitive) async fn ca(&self) -> Result<Option<String>, Failure> {
        let ready = self.ready.get().await?;
        Ok(self.role.and_then(|role| (role.ca)(&ready)))
    }

    /// Waits until its container exists; returns the container's id.
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

    /// Its addresses on all its networks except for an internal one, with the networks' names.
    pub(in crate::primitive) async fn addresses(&self) -> Result<Vec<(String, Ipv4Addr)>, Failure> {
        let mut addresses = Vec::new();
        for (network, place) in self.places.iter().filter(|(network, _)| !network.internal) {
            addresses.push((network.name.clone(), network.address(*place).await?));
        }
        Ok(addresses)
    }

    /// Its address on the internal network, if it is attached to one.
    pub(in crate::primitive) async fn inside(&self) -> Result<Option<Ipv4Addr>, Failure> {
        inside(&self.places).await
    }

    /// The destinations of its relays.
    pub(in crate::primitive) async fn relayed(&self) -> Result<BTreeMap<SocketAddrV4, Far>, Failure> {
        let inside = self.inside().await?;
        let far = |relay: &Relay| match inside {
            Some(address) => Far::Address(SocketAddrV4::new(address, relay.port)),
            None => Far::Socket(format!("{}/{}", self.name, relay.socket)),
        };
        Ok(self.relays.iter().map(|relay| (relay.address, far(relay))).collect())
    }
}

/// The address number on the internal network, if any.
fn place_inside(places: &[(Arc<Network>, u32)]) -> Option<&(Arc<Network>, u32)> {
    places.iter().find(|(network, _)| network.internal)
}

/// The address on the internal network, if any.
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
    /// The volume that it shares with its egress.
    pub(in crate::primitive) own: Option<Pair>,
    pub(in crate::primitive) reachable: BTreeMap<String, Arc<Sidecar>>,
    pub(in crate::primitive) egress: Option<Arc<Sidecar>>,
    /// The dialer that an egress goes out through, where the engine's networks lead nowhere.
    pub(in crate::primitive) dialer: Option<Arc<Sidecar>>,
    /// The image with Pipelock, for an egress that has it.
    pub(in crate::primitive) pipelock: Option<Pending<Arc<ImageInfo>>>,
    /// The egress whose policy it enforces: itself, or the one that it dials for.
    pub(in crate::primitive) policy_of: String,
    /// The key pair of the bottle's CA, for an egress. It is in memory only, and is sent only over egress' standard
    /// input.
    pub(in crate::primitive) authority: Option<CaKeyPair>,
}

impl SidecarInputs {
    /// The registration for its egress, and the egress' name, if it has one.
    pub(in crate::primitive) fn registration(&self) -> Option<(&str, Registration)> {
        let port = self.options.role.0.port?;
        Some((&self.egress.as_ref()?.name, self.own.as_ref()?.registration(port)))
    }
}
