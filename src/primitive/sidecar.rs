//! `sidecar_start`: a built-in sidecar, configured over its standard input, ready when it says so.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::image::self_image;
use super::self_image::EXECUTABLE;
use super::stream::{Lines, write_json};
use super::{Bottle, Event, Network, check_name, lock};
use crate::engine::labels::{Identity, Kind};
use crate::engine::{ContainerSpec, Resources, VolumeMount, VolumeSpec};
use crate::policy::Rule;
use crate::session::{Class, Failure, Pending, Place};
use crate::sidecar::{Message, Ready, SERVICE_DIR, USER, egress, upstream};

/// How long a sidecar may take from its start until it listens.
const READY: Duration = Duration::from_secs(30);
/// A sidecar's bounds.
const RESOURCES: Resources = Resources { cpus: 2.0, memory: 256 << 20, pids: 128 };

/// The built-in roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The only way out.
    Egress,
    /// The probe's counterpart.
    Upstream,
}

impl Role {
    fn word(self) -> &'static str {
        match self {
            Self::Egress => egress::ROLE,
            Self::Upstream => upstream::ROLE,
        }
    }

    /// Where init relays its service in the agent's namespace.
    fn relay(self) -> Option<SocketAddrV4> {
        match self {
            Self::Egress => Some(SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 2), 8888)),
            Self::Upstream => None,
        }
    }
}

/// What `sidecar_start` takes, besides the handles of networks and of sidecars that egress may reach.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SidecarOptions {
    /// Its name: of its container, its relay and its hook.
    pub name: String,
    /// What it does.
    pub role: Role,
    /// For egress: allowed hosts.
    #[serde(default)]
    pub allow: Vec<String>,
}

/// A sidecar.
pub struct Sidecar {
    /// Its name.
    pub name: String,
    /// What it does.
    pub role: Role,
    places: Vec<(Arc<Network>, u32)>,
    created: Pending<String>,
    ready: Pending<Ready>,
}

impl Sidecar {
    /// Waits until it listens; what it said.
    ///
    /// # Errors
    /// It could not be started, or ended before it listened.
    pub async fn ready(&self) -> Result<Ready, Failure> {
        self.ready.get().await
    }

    /// Waits until its container exists; the container's id.
    ///
    /// # Errors
    /// It could not be created.
    pub async fn container(&self) -> Result<String, Failure> {
        self.created.get().await
    }

    /// Its address on its first network.
    pub(super) async fn address(&self) -> Result<Ipv4Addr, Failure> {
        match self.places.first() {
            Some((network, place)) => network.address(*place).await,
            None => Err(Failure::new(Class::Input, format!("sidecar {} has no network", self.name))),
        }
    }

    /// Its addresses on all its networks, with the networks' names.
    pub(super) async fn addresses(&self) -> Result<Vec<(String, Ipv4Addr)>, Failure> {
        let mut addresses = Vec::new();
        for (network, place) in &self.places {
            addresses.push((network.name.clone(), network.address(*place).await?));
        }
        Ok(addresses)
    }

    /// Its relay in the agent's namespace, if it serves the agent.
    pub(super) fn relay(&self) -> Option<SocketAddrV4> {
        self.role.relay()
    }
}

/// The volume that holds a sidecar's socket.
pub(super) fn volume_name(bottle: &Bottle, sidecar: &str) -> String {
    bottle.name(&format!("{sidecar}-socket"))
}

/// Starts a built-in sidecar on one or more networks. `reachable` are the sidecars that egress may connect to.
///
/// # Errors
/// A name, an allowed host or the combination of options is bad.
pub fn sidecar_start(
    bottle: &Arc<Bottle>,
    options: &SidecarOptions,
    networks: &[Arc<Network>],
    reachable: BTreeMap<String, Arc<Sidecar>>,
    at: Option<&Place>,
) -> Result<Arc<Sidecar>, Failure> {
    check(bottle, options, networks, &reachable).map_err(|failure| failure.at(at))?;
    let places: Vec<(Arc<Network>, u32)> = networks
        .iter()
        .map(|network| {
            let place = if options.role == Role::Egress { Network::egress_place() } else { network.take_place() };
            (network.clone(), place)
        })
        .collect();
    let volume = options.role.relay().map(|_| volume_name(bottle, &options.name));
    let volume =
        volume.map(|name| Ok::<_, Failure>((bottle.session.intend(Kind::Volume, &name, at)?, name))).transpose()?;
    let identity = bottle.session.intend(Kind::Sidecar, &bottle.name(&options.name), at)?;
    let image = self_image(bottle, at);
    let (context, role, name) = (bottle.clone(), options.role, options.name.clone());
    let attached = places.clone();
    let created = bottle.effect(format!("create {}", options.name), at, async move {
        let mounts = match volume {
            Some((identity, volume)) => {
                let spec = VolumeSpec { name: volume.clone(), identity };
                context.session.engine.volume_create(&spec).await?;
                vec![VolumeMount { volume, target: SERVICE_DIR.into(), read_only: false }]
            }
            None => Vec::new(),
        };
        let mut networks = Vec::new();
        for (network, place) in &attached {
            networks.push(network.attachment(*place).await?);
        }
        let spec = container(&context, &name, role, image.get().await?, identity, ContainerParts { networks, mounts });
        Ok(context.session.engine.container_create(&spec).await?)
    });
    let ready = start(bottle, options, created.clone(), places.clone(), reachable, at);
    let sidecar = Arc::new(Sidecar { name: options.name.clone(), role: options.role, places, created, ready });
    lock(&bottle.sidecars).push(sidecar.clone());
    Ok(sidecar)
}

fn check(
    bottle: &Bottle,
    options: &SidecarOptions,
    networks: &[Arc<Network>],
    reachable: &BTreeMap<String, Arc<Sidecar>>,
) -> Result<(), Failure> {
    let bad = |message: String| Failure::new(Class::Input, format!("sidecar_start {:?}: {message}", options.name));
    check_name("sidecar_start", &options.name)?;
    if networks.is_empty() {
        return Err(bad("it needs a network".into()).hint("network = network_create { name = \"outside\" }"));
    }
    if options.role != Role::Egress && (!options.allow.is_empty() || !reachable.is_empty()) {
        return Err(bad("allow and sidecars are for the role \"egress\"".into()));
    }
    for rule in &options.allow {
        rule.parse::<Rule>().map_err(|error| bad(format!("allow: {error}")).hint("a host, or \"*.\" and a host"))?;
    }
    if lock(&bottle.sidecars).iter().any(|other| other.name == options.name) {
        return Err(bad("there is a sidecar of this name already".into()));
    }
    Ok(())
}

struct ContainerParts {
    networks: Vec<crate::engine::Attachment>,
    mounts: Vec<VolumeMount>,
}

fn container(
    bottle: &Bottle,
    name: &str,
    role: Role,
    image: String,
    identity: Identity,
    parts: ContainerParts,
) -> ContainerSpec {
    ContainerSpec {
        name: bottle.name(name),
        image,
        command: vec![EXECUTABLE.into(), role.word().into()],
        env: BTreeMap::new(),
        user: format!("{USER}:{USER}"),
        workdir: "/".into(),
        hostname: name.to_owned(),
        hosts: Vec::new(),
        networks: parts.networks,
        mounts: parts.mounts,
        tmpfs: BTreeMap::new(),
        read_only: true,
        tty: false,
        stdin: true,
        auto_remove: false,
        resources: RESOURCES,
        identity,
    }
}

/// Attaches, starts, configures, and waits for the first line.
fn start(
    bottle: &Arc<Bottle>,
    options: &SidecarOptions,
    created: Pending<String>,
    places: Vec<(Arc<Network>, u32)>,
    reachable: BTreeMap<String, Arc<Sidecar>>,
    at: Option<&Place>,
) -> Pending<Ready> {
    let (context, options) = (bottle.clone(), options.clone());
    bottle.effect(format!("start {}", options.name), at, async move {
        let id = created.get().await?;
        let engine = &context.session.engine;
        let mut streams = engine.container_attach(&id).await?;
        engine.container_start(&id).await?;
        let config = config(&context, &options, &places, &reachable).await?;
        let mut lines = Lines::new(streams.output);
        let said = async {
            write_json(&mut streams.input, &config).await.ok()?;
            lines.next_json::<Message>().await
        };
        match tokio::time::timeout(READY, said).await {
            Ok(Some(Message::Ready(ready))) => {
                tokio::spawn(listen(context.clone(), lines));
                Ok(ready)
            }
            Ok(_) => Err(not_ready(&options.name, "it ended before it listened", &lines.errors)),
            Err(_) => {
                Err(not_ready(&options.name, &format!("it did not listen within {} s", READY.as_secs()), &lines.errors))
            }
        }
    })
}

fn not_ready(name: &str, why: &str, errors: &str) -> Failure {
    let failure = Failure::new(Class::Operation, format!("start sidecar {name}: {why}"));
    if errors.trim().is_empty() { failure } else { failure.cause(format!("it wrote: {}", errors.trim())) }
}

/// Passes on what a sidecar decides, as long as it lives.
async fn listen(bottle: Arc<Bottle>, mut lines: Lines) {
    while let Some(message) = lines.next_json::<Message>().await {
        if let Message::Audit(event) = message {
            bottle.events.tell(Event::Audit(event));
        }
    }
}

async fn config(
    bottle: &Bottle,
    options: &SidecarOptions,
    places: &[(Arc<Network>, u32)],
    reachable: &BTreeMap<String, Arc<Sidecar>>,
) -> Result<serde_json::Value, Failure> {
    let json = match options.role {
        Role::Egress => {
            let mut sidecars: BTreeMap<String, SocketAddr> = BTreeMap::new();
            for (name, sidecar) in reachable {
                sidecars.insert(name.clone(), upstream::http_address(sidecar.address().await?));
            }
            serde_json::to_value(egress::Config {
                bottle: bottle.session.id.clone(),
                allow: options.allow.clone(),
                sidecars,
            })
        }
        Role::Upstream => {
            let mut listen = Vec::new();
            for (network, place) in places {
                let (_, range) = network.ready().await?;
                listen.push((network.address(*place).await?, range.broadcast()));
            }
            let egress = match places.first() {
                Some((network, _)) => Some(network.address(Network::egress_place()).await?),
                None => None,
            };
            serde_json::to_value(upstream::Config { listen, egress })
        }
    };
    json.map_err(|error| Failure::new(Class::Internal, format!("write the configuration of {}: {error}", options.name)))
}
