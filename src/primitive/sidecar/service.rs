//! `sidecar_start` with an `image`: an ordinary image, such as a database, beside the agent. Its container has no
//! network except for the internal one, in a bottle that has one. Its ports are relayed, through sockets in its own
//! volume or over that network, to the agent's loopback under its name.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::bring_up::bring_up;
use super::start::socket_volume;
use crate::engine::labels::{Identity, Kind};
use crate::engine::{ContainerSpec, Resources, VolumeMount};
use crate::init::serve::{self, Condition};
use crate::layout::sidecar::INSIDE_PORTS;
use crate::layout::{EXECUTABLE, loopback};
use crate::primitive::bottle::Bottle;
use crate::primitive::handle::{Image, ImageInfo, Network, Pairs, Sidecar, Volume, inside};
use crate::primitive::name::{check_name, is_absolute};
use crate::primitive::roles::Relay;
use crate::primitive::seconds::Seconds;
use crate::session::{Class, Failure, ScriptLocation};

/// The default limits of a service.
const RESOURCES: Resources = Resources { cpus: 2.0, memory: 1 << 30, pids: 512 };
/// The default time limit until a service is ready.
const READY: Duration = Duration::from_mins(1);
/// How many ports a service may have.
const MAX_PORTS: usize = 16;
/// How many services a bottle may have: each needs its own address on the agent's loopback.
const MAX_SERVICES: usize = 200;

/// The options of `sidecar_start` for an ordinary image, except for the image, variables and volumes.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceOptions {
    /// Its name, also of its container, and the host name under which the agent reaches it.
    pub name: String,
    /// Its command and arguments; by default the image's own.
    pub command: Option<Vec<String>>,
    /// The user that it runs as, a name or `uid:gid`; by default the image's own. It has no capabilities in any case.
    pub user: Option<String>,
    /// Its working directory; by default the image's own.
    pub workdir: Option<String>,
    /// Ports on its loopback that the agent reaches under its name; by default that of `ready.tcp`.
    #[serde(default)]
    pub ports: Vec<u16>,
    /// When it is ready: `{ tcp = 5432 }`, `{ log = "text" }` or `{ exec = { "command" } }`; by default as soon as it
    /// has started.
    pub ready: Option<Condition>,
    /// How long it may take until it is ready; by default a minute.
    pub timeout: Option<Seconds>,
    /// Its limits; by default two processors, 1 GiB and 512 processes.
    pub resources: Option<Resources>,
}

/// Starts an ordinary image as a sidecar. Only its command receives `env`, which is not in the container's
/// configuration.
///
/// # Errors
/// A name, port, path or time is invalid.
pub fn service_start(
    bottle: &Arc<Bottle>,
    options: ServiceOptions,
    image: Arc<Image>,
    env: BTreeMap<String, String>,
    volumes: BTreeMap<String, Arc<Volume>>,
    at: Option<&ScriptLocation>,
) -> Result<Arc<Sidecar>, Failure> {
    let (ports, patience) = check(bottle, &options, &volumes).map_err(|failure| failure.at(at))?;
    let name = options.name.clone();
    let address = loopback::service(u8::try_from(bottle.inventory.services()).unwrap_or(u8::MAX) + 1);
    let relays = ports
        .iter()
        .zip(INSIDE_PORTS..)
        .map(|(&port, inside)| {
            let name = options.name.clone();
            Relay { name, address: SocketAddrV4::new(address, port), socket: port.to_string(), port: inside }
        })
        .collect();
    let places: Vec<(Arc<Network>, u32)> =
        bottle.inventory.inside().map(|network| (network.clone(), network.take_place())).into_iter().collect();
    let (socket, volume) = if places.is_empty() { Some(socket_volume(bottle, &name, None, at)?) } else { None }.unzip();
    let (identity, life) = bottle.begin(Kind::Sidecar, &name, &bottle.name(&name), at)?;
    let (context, wanted, base) = (bottle.clone(), options.clone(), image.built.clone());
    let attached = places.clone();
    let created = bottle.effect(format!("create {name}"), at, async move {
        let mut mounts = Vec::new();
        if let Some(volume) = volume {
            mounts.push(volume.get().await?);
        }
        for (target, volume) in volumes {
            mounts.push(VolumeMount { volume: volume.ready().await?, target, read_only: false });
        }
        let built = base.get().await?;
        let mut spec = container(&context, wanted, &built, mounts, identity);
        for (network, place) in &attached {
            spec.networks.push(network.attachment(*place).await?);
            // Nothing responds there. The container knows only the names in its command's configuration.
            spec.resolver = Some(network.address(Network::egress_place()).await?);
        }
        Ok(context.session.engine.container_create(&spec).await?)
    });
    let (context, id, attached) = (bottle.clone(), created.clone(), places.clone());
    let ready = bottle.effect(format!("start {name}"), at, async move {
        let (id, built) = (id.get().await?, image.built.get().await?);
        let name = options.name.clone();
        let config = async { config(options, &built, env, ports, inside(&attached).await?) };
        bring_up(&context, &name, &id, config, patience, None).await
    });
    let sidecar = Sidecar {
        name,
        role: None,
        life,
        volume: socket,
        state: None,
        shown: None,
        dialing: None,
        pairs: Arc::new(Pairs::new(0, false)),
        relays,
        places,
        inputs: None,
        created,
        ready,
    };
    Ok(bottle.inventory.add_sidecar(sidecar))
}

fn check(
    bottle: &Bottle,
    options: &ServiceOptions,
    volumes: &BTreeMap<String, Arc<Volume>>,
) -> Result<(Vec<u16>, Duration), Failure> {
    let bad = |message: String| Failure::new(Class::Input, format!("sidecar_start {:?}: {message}", options.name));
    check_name("sidecar_start", &options.name)?;
    bottle.check_sidecar_name(&options.name)?;
    let ports = match &options.ready {
        Some(Condition::Tcp(port)) if options.ports.is_empty() => vec![*port],
        _ => options.ports.clone(),
    };
    if ports.contains(&0) || ports.len() > MAX_PORTS {
        return Err(bad(format!("ports are from 1 to 65535, and at most {MAX_PORTS}")));
    }
    if let Some(Condition::Exec(command)) = &options.ready
        && command.is_empty()
    {
        return Err(bad("ready.exec is empty".into()));
    }
    if options.command.as_ref().is_some_and(Vec::is_empty) {
        return Err(bad("command is empty".into()).hint("leave it out to run the image's own"));
    }
    if let Some(path) = volumes.keys().find(|path| !is_absolute(path)) {
        return Err(
            bad(format!("volumes: {path:?} is not an absolute path")).hint("volumes = { [\"/data\"] = volume }")
        );
    }
    if let Some(resources) = &options.resources {
        bottle.check_resources(resources).map_err(bad)?;
    }
    if bottle.inventory.services() >= MAX_SERVICES {
        return Err(bad(format!("there are {MAX_SERVICES} services already")));
    }
    let patience = options.timeout.as_ref().map_or(Ok(READY), |timeout| timeout.duration("sidecar_start"))?;
    Ok((ports, patience))
}

fn container(
    bottle: &Bottle,
    options: ServiceOptions,
    built: &ImageInfo,
    mounts: Vec<VolumeMount>,
    identity: Identity,
) -> ContainerSpec {
    let command = vec![EXECUTABLE.into(), serve::ROLE.into()];
    let user = options.user.unwrap_or_else(|| built.user.clone());
    let (name, resources) = (bottle.name(&options.name), options.resources.unwrap_or(RESOURCES));
    ContainerSpec {
        hostname: options.name,
        mounts,
        read_only: false,
        stdin: true,
        ..ContainerSpec::closed(name, built.tag.clone(), command, user, resources, identity)
    }
}

fn config(
    options: ServiceOptions,
    built: &ImageInfo,
    env: BTreeMap<String, String>,
    ports: Vec<u16>,
    inside: Option<Ipv4Addr>,
) -> Result<serde_json::Value, Failure> {
    let command = options.command.unwrap_or_else(|| built.command.clone());
    if command.is_empty() {
        let message = format!("sidecar_start {:?}: the image has no command", options.name);
        return Err(Failure::new(Class::Input, message).hint("command = { … }"));
    }
    let workdir = options.workdir.unwrap_or_else(|| built.workdir.clone());
    let workdir = if workdir.is_empty() { "/".to_owned() } else { workdir };
    serde_json::to_value(serve::Config { command, workdir, env, ports, inside, ready: options.ready })
        .map_err(|error| Failure::new(Class::Internal, format!("write the configuration of {}: {error}", options.name)))
}
