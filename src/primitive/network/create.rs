//! `network_create`: a bridge with a small address range of its own.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use data_encoding::HEXLOWER;
use ipnet::Ipv4Net;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::engine::labels::Kind;
use crate::engine::{Attachment, ErrorKind, NetworkSpec};
use crate::primitive::name::check_name;
use crate::primitive::{Bottle, Life};
use crate::session::{Class, Failure, Pending, ScriptLocation};
use crate::sync::lock;

/// Ranges that are tried when the engine says that one is taken.
const TRIES: usize = 32;
/// The places in every range that are egress' own and, on a network inside, the agent's; the gateway is at 1.
const EGRESS: u32 = 2;
const AGENT: u32 = 3;

/// What `network_create` takes.
#[derive(Debug, Clone, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkOptions {
    /// Its name in the recipe.
    pub name: String,
    /// No route to anywhere else: the agent's own network, in a bottle that is not sealed.
    #[serde(default)]
    pub internal: bool,
}

/// A network.
pub struct Network {
    /// Its name in the recipe.
    pub name: String,
    /// Whether it leads nowhere else: then sidecars serve the agent at their addresses on it.
    pub internal: bool,
    /// Its life.
    pub life: Arc<Life>,
    created: Pending<(String, Ipv4Net)>,
    next: AtomicU32,
}

impl Network {
    /// Waits until the engine has it; its id and address range.
    ///
    /// # Errors
    /// It could not be created.
    pub async fn ready(&self) -> Result<(String, Ipv4Net), Failure> {
        self.created.get().await
    }

    /// Disconnects whatever is left on it and removes it now.
    pub fn close(&self, bottle: &Arc<Bottle>, at: Option<&ScriptLocation>) -> Pending<()> {
        let (engine, created) = (bottle.session.engine.clone(), self.created.clone());
        self.life.close(bottle, at, async move {
            if let Ok((id, _)) = created.get().await {
                engine.network_remove(&id).await?;
            }
            Ok(())
        })
    }

    /// The device that it is on the engine's host.
    pub(in crate::primitive) fn device(&self, bottle: &Bottle) -> String {
        bridge(&bottle.name(&self.name))
    }

    /// Takes the next place in its range, in program order.
    pub(in crate::primitive) fn take_place(&self) -> u32 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Egress' place.
    pub(in crate::primitive) const fn egress_place() -> u32 {
        EGRESS
    }

    /// The agent's place, on a network inside.
    pub(in crate::primitive) const fn agent_place() -> u32 {
        AGENT
    }

    /// The address at a place.
    pub(in crate::primitive) async fn address(&self, place: u32) -> Result<Ipv4Addr, Failure> {
        let (_, range) = self.ready().await?;
        let address = Ipv4Addr::from(u32::from(range.network()) + place);
        if address < range.broadcast() {
            Ok(address)
        } else {
            Err(Failure::new(Class::Input, format!("network {}: its range {range} is full", self.name)))
        }
    }

    /// A container's attachment at a place.
    pub(in crate::primitive) async fn attachment(&self, place: u32) -> Result<Attachment, Failure> {
        let (network, _) = self.ready().await?;
        Ok(Attachment { network, address: self.address(place).await? })
    }
}

/// The name of an internal network's bridge: known before there is one, and as long as a device's may be (`IFNAMSIZ`).
fn bridge(network: &str) -> String {
    let digest = Sha256::digest(network.as_bytes());
    format!("br-{}", &HEXLOWER.encode(&digest)[..12])
}

/// Creates a network. A range that was taken in the same moment is retried with the next.
///
/// # Errors
/// The name cannot be one.
pub fn network_create(
    bottle: &Arc<Bottle>,
    options: &NetworkOptions,
    at: Option<&ScriptLocation>,
) -> Result<Arc<Network>, Failure> {
    check_name("network_create", &options.name).map_err(|failure| failure.at(at))?;
    let name = bottle.name(&options.name);
    let (identity, life) = bottle.begin(Kind::Network, &options.name, &name, at)?;
    let (context, internal) = (bottle.clone(), options.internal);
    let created = bottle.effect(format!("network {}", options.name), at, async move {
        let engine = context.session.engine.as_ref();
        for _ in 1..TRIES {
            let subnet = context.addresses.next(engine).await?;
            let bridge = internal.then(|| bridge(&name));
            let spec = NetworkSpec { name: name.clone(), subnet, internal: bridge, identity: identity.clone() };
            match engine.network_create(&spec).await {
                Err(error) if error.kind == ErrorKind::PoolOverlap => {}
                answer => return Ok((answer?, subnet)),
            }
        }
        Err(Failure::new(Class::Operation, format!("create network {name}: {TRIES} address ranges were all taken"))
            .hint("name others in BOTTLER_POOLS, as CIDR separated by commas"))
    });
    let (name, internal) = (options.name.clone(), options.internal);
    let network = Arc::new(Network { name, internal, life, created, next: AtomicU32::new(AGENT + 1) });
    lock(&bottle.networks).push(network.clone());
    Ok(network)
}
