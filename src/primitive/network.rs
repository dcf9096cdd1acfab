//! `network_create`: a bridge with a small address range of its own.

use std::sync::Arc;

use data_encoding::HEXLOWER;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::bottle::Bottle;
use super::handle::Network;
use super::name::check_name;
use crate::engine::labels::Kind;
use crate::engine::{ErrorKind, NetworkSpec};
use crate::session::{Class, Failure, Pending, ScriptLocation};

/// How many ranges are tried when the engine reports that one is taken.
const TRIES: usize = 32;
/// The options of `network_create`.
#[derive(Debug, Clone, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkOptions {
    /// Its name in the recipe.
    pub name: String,
    /// Whether it has no route out: the agent's own network, in a bottle that is not sealed.
    #[serde(default)]
    pub internal: bool,
}

impl Network {
    /// Disconnects the remaining containers and removes it now.
    pub fn close(&self, bottle: &Arc<Bottle>, at: Option<&ScriptLocation>) -> Pending<()> {
        let (engine, created) = (bottle.session.engine.clone(), self.created.clone());
        bottle.undo(&self.life, at, async move {
            if let Ok((id, _)) = created.get().await {
                engine.network_remove(&id).await?;
            }
            Ok(())
        })
    }

    /// The name of its device on the engine's host.
    pub(in crate::primitive) fn device(&self, bottle: &Bottle) -> String {
        bridge(&bottle.name(&self.name))
    }
}

/// The name of an internal network's bridge. It is known before the bridge exists, and fits the limit of device names
/// (`IFNAMSIZ`).
fn bridge(network: &str) -> String {
    let digest = Sha256::digest(network.as_bytes());
    format!("br-{}", &HEXLOWER.encode(&digest)[..12])
}

/// Creates a network. If a range was taken meanwhile, the next one is tried.
///
/// # Errors
/// The name is invalid.
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
    Ok(bottle.inventory.add_network(Network::new(name, internal, life, created)))
}
