//! `sidecar_start`: a built-in sidecar, configured over its standard input, ready when it says so.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::bring_up::{bring_up, register};
use super::pair::Pair;
use super::roles::{Context, Described, Networks, OnNetwork, Relay, RoleName, Serving};
use crate::engine::labels::{Identity, Kind};
use crate::engine::{ContainerSpec, VolumeMount, VolumeSpec};
use crate::layout::agent::Far;
use crate::layout::sidecar::{CTL_DIR, SERVICE_DIR, USER};
use crate::layout::{EXECUTABLE, loopback, pair};
use crate::policy::{AllowSpec, EgressSpec};
use crate::primitive::image::build::self_image;
use crate::primitive::name::check_name;
use crate::primitive::{Bottle, Life, Network};
use crate::session::{Class, Failure, Pending, ScriptLocation};
use crate::sidecar::counterpart;
use crate::sidecar::egress::{CaKeyPair, Registration};
use crate::sidecar::place::Uplink;
use crate::sync::lock;

/// How long a sidecar may take from its start until it listens.
pub(in crate::primitive) const READY: Duration = Duration::from_secs(30);
/// Built-in sidecars that serve the agent, of one bottle: each has an address of its own at the agent's loopback.
const MAX_SERVED: usize = 200;

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
    /// For egress: the names of sidecars that go out through it, and that the agent reaches through it under these names. It
    /// shares a volume with each.
    #[serde(default)]
    pub peers: Vec<String>,
}

/// The handles that `sidecar_start` takes.
pub struct SidecarHandles {
    /// The networks that it is on.
    pub networks: Vec<Arc<Network>>,
    /// For egress: sidecars that it may connect to by their addresses.
    pub reachable: BTreeMap<String, Arc<Sidecar>>,
    /// For others: the egress that they go out through.
    pub egress: Option<Arc<Sidecar>>,
}

/// A sidecar.
pub struct Sidecar {
    /// Its name.
    pub name: String,
    /// What it is; an ordinary image when absent.
    pub(in crate::primitive) role: Option<&'static Described>,
    /// Its life.
    pub life: Arc<Life>,
    /// The volume of its sockets, if it serves the agent by sockets.
    pub(in crate::primitive) volume: Option<String>,
    /// The volumes that it shares with sidecars that go out through it.
    pub(in crate::primitive) pairs: Vec<Pair>,
    /// What it serves the agent.
    pub(in crate::primitive) relays: Vec<Relay>,
    pub(in crate::primitive) places: Vec<(Arc<Network>, u32)>,
    /// What it was started with; an ordinary image is not started again.
    pub(in crate::primitive) begun: Option<Arc<Begun>>,
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

    /// Kills and removes it, with the volumes of its sockets, now.
    pub fn close(&self, bottle: &Arc<Bottle>, at: Option<&ScriptLocation>) -> Pending<()> {
        let (engine, created) = (bottle.session.engine.clone(), self.created.clone());
        let volumes: Vec<String> =
            self.volume.iter().chain(self.pairs.iter().map(|pair| &pair.volume)).cloned().collect();
        self.life.close(bottle, at, async move {
            if let Ok(id) = created.get().await {
                engine.container_remove(&id).await?;
            }
            for volume in volumes {
                // Where somebody else has it still, it goes with the bottle.
                let _ = engine.volume_remove(&volume).await;
            }
            Ok(())
        })
    }

    pub(in crate::primitive) fn add_to(self, bottle: &Bottle) -> Arc<Self> {
        let sidecar = Arc::new(self);
        lock(&bottle.sidecars).push(sidecar.clone());
        sidecar
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

/// Creates the volume that holds a sidecar's sockets: its name, and the mount for its writer once it is there.
pub(in crate::primitive) fn socket_volume(
    bottle: &Arc<Bottle>,
    sidecar: &str,
    owner: Option<(u32, u32)>,
    at: Option<&ScriptLocation>,
) -> Result<(String, Pending<VolumeMount>), Failure> {
    let volume = bottle.name(&format!("{sidecar}-socket"));
    let identity = bottle.intend(Kind::Volume, &volume, at)?;
    let (context, name) = (bottle.clone(), volume.clone());
    let created = bottle.session.effects.start(async move {
        context.session.engine.volume_create(&VolumeSpec { name: name.clone(), owner, identity }).await?;
        Ok(VolumeMount { volume: name, target: SERVICE_DIR.into(), read_only: false })
    });
    Ok((volume, created))
}

/// Creates the volumes that an egress shares with sidecars.
fn pairs(bottle: &Arc<Bottle>, options: &SidecarOptions, at: Option<&ScriptLocation>) -> Result<Vec<Pair>, Failure> {
    let pair = |(number, name): (u8, &String)| {
        let volume = bottle.name(&format!("{}-{name}-pair", options.name));
        let identity = bottle.intend(Kind::Volume, &volume, at)?;
        let spec = VolumeSpec { name: volume.clone(), owner: Some((USER, USER)), identity };
        let context = bottle.clone();
        let created = async move { Ok(context.session.engine.volume_create(&spec).await?) };
        Ok(Pair { name: name.clone(), number, volume, created: bottle.session.effects.start(created) })
    };
    (1..).zip(&options.peers).map(pair).collect()
}

/// Starts a built-in sidecar.
///
/// # Errors
/// A name, an allowed host or the combination of options is bad.
pub fn sidecar_start(
    bottle: &Arc<Bottle>,
    options: &SidecarOptions,
    handles: SidecarHandles,
    at: Option<&ScriptLocation>,
) -> Result<Arc<Sidecar>, Failure> {
    let own = check(bottle, options, &handles).map_err(|failure| failure.at(at))?;
    let role = options.role.0;
    let SidecarHandles { networks, reachable, egress } = handles;
    let places: Vec<(Arc<Network>, u32)> = networks
        .iter()
        .map(|network| {
            let place = if role.is_proxy { Network::egress_place() } else { network.take_place() };
            (network.clone(), place)
        })
        .collect();
    let tcp = bottle.plan.egress.tcp_targets();
    let tcp = tcp.map_err(|error| Failure::new(Class::Input, format!("egress: {error}")).at(at))?;
    let address = loopback::sidecar(u8::try_from(bottle.served()).unwrap_or(u8::MAX) + 1);
    let relays = (role.relays)(&Serving { name: &options.name, address, tcp: &tcp });
    let serves = !relays.is_empty() && !networks.iter().any(|network| network.internal);
    let socket = if serves { Some(socket_volume(bottle, &options.name, Some((USER, USER)), at)?) } else { None };
    let (volume, mount) = socket.unzip();
    let pairs = pairs(bottle, options, at)?;
    let (identity, life) = bottle.begin(Kind::Sidecar, &options.name, &bottle.name(&options.name), at)?;
    let uses = egress.iter().map(|egress| egress.life.seq).collect();
    let identity = Identity { role: Some(role.name.to_owned()), uses, ..identity };
    let image = self_image(bottle, at);
    let (context, name) = (bottle.clone(), options.name.clone());
    let (attached, shared, outward) = (places.clone(), pairs.clone(), own.clone());
    let created = bottle.effect(format!("create {name}"), at, async move {
        let mut mounts = Vec::new();
        if let Some(mount) = mount {
            mounts.push(mount.get().await?);
        }
        for pair in &shared {
            mounts.push(pair.for_egress().await?);
        }
        if let Some(pair) = outward {
            mounts.push(pair.for_sidecar().await?);
        }
        let mut networks = Vec::new();
        for (network, place) in &attached {
            networks.push(network.attachment(*place).await?);
        }
        let image = image.get().await?.tag.clone();
        let spec = container(&context, &name, role, image, identity, ContainerParts { networks, mounts });
        Ok(context.session.engine.container_create(&spec).await?)
    });
    let authority = match role.is_proxy.then(|| CaKeyPair::new(&bottle.session.id)).transpose() {
        Ok(authority) => authority,
        Err(error) => return Err(Failure::new(Class::Internal, format!("make a CA: {error:#}")).at(at)),
    };
    let (options, places_of, pairs_of) = (options.clone(), places.clone(), pairs.clone());
    let begun = Begun { options, places: places_of, pairs: pairs_of, own, reachable, egress, authority };
    let begun = Arc::new(begun);
    let (context, id, with) = (bottle.clone(), created.clone(), begun.clone());
    let name = begun.options.name.clone();
    let ready = bottle.effect(format!("start {name}"), at, async move {
        let id = id.get().await?;
        let name = &with.options.name;
        let ready = bring_up(&context, name, &id, config(&context, &with, false), READY, Some(role)).await?;
        if let Some((egress, registration)) = with.registration() {
            register(&context, egress, registration).await?;
        }
        Ok(ready)
    });
    let begun = Some(begun);
    Ok(Sidecar { name, role: Some(role), life, volume, pairs, relays, places, begun, created, ready }.add_to(bottle))
}

/// The volume that the sidecar shares with the egress that it goes out through, if it does.
fn check(bottle: &Bottle, options: &SidecarOptions, handles: &SidecarHandles) -> Result<Option<Pair>, Failure> {
    let bad = |message: String| Failure::new(Class::Input, format!("sidecar_start {:?}: {message}", options.name));
    let role = options.role.0;
    check_name("sidecar_start", &options.name)?;
    match role.networks {
        Networks::Some if handles.networks.is_empty() => {
            return Err(bad("it needs a network".into()).hint("network = network_create { name = \"outside\" }"));
        }
        Networks::Inside if handles.networks.iter().any(|network| !network.internal) => {
            return Err(bad(format!("its way out is egress: a {} is on the network inside, or on none", role.name)));
        }
        Networks::Some | Networks::Inside => {}
    }
    if !role.takes_policy && (!options.allow.is_empty() || !handles.reachable.is_empty()) {
        return Err(bad("allow and sidecars are for the role \"egress\"".into()));
    }
    for rule in &options.allow {
        rule.read().map_err(|error| bad(format!("allow: {error}")).hint("a host, or \"*.\" and a host"))?;
        bottle.check_allowed(rule, bad)?;
    }
    if !role.is_proxy && !options.peers.is_empty() {
        return Err(bad("peers are for the role \"egress\"".into()));
    }
    let most = usize::from(pair::MAX);
    if options.peers.len() > most {
        return Err(bad(format!("peers: there are {most} at most")));
    }
    for (index, peer) in options.peers.iter().enumerate() {
        check_name("sidecar_start", peer)?;
        if options.peers[..index].contains(peer) || *peer == options.name {
            return Err(bad(format!("peers: {peer} is named twice")));
        }
    }
    if bottle.served() >= MAX_SERVED {
        return Err(bad(format!("there are {MAX_SERVED} sidecars that serve the agent already")));
    }
    bottle.check_sidecar_name(&options.name)?;
    match (&handles.egress, role.uses_egress) {
        (None, false) => Ok(None),
        (None, true) => Err(bad("option egress is missing: the sidecar that it goes out through".into())),
        (Some(_), false) => Err(bad(format!("a {} does not go out through an egress", role.name))),
        (Some(egress), true) => {
            let pair = egress.pairs.iter().find(|pair| pair.name == options.name).cloned();
            let hint = format!("start {} with `peers = {{ \"{}\" }}`", egress.name, options.name);
            let missing = || bad(format!("{} shares no volume with it", egress.name)).hint(hint);
            pair.ok_or_else(missing).map(Some)
        }
    }
}

/// What a sidecar was started with.
pub(in crate::primitive) struct Begun {
    pub(in crate::primitive) options: SidecarOptions,
    places: Vec<(Arc<Network>, u32)>,
    pairs: Vec<Pair>,
    /// What it shares with its egress.
    own: Option<Pair>,
    reachable: BTreeMap<String, Arc<Sidecar>>,
    egress: Option<Arc<Sidecar>>,
    /// What the bottle's CA is founded on, of an egress. In memory alone: it goes nowhere but over its standard input.
    authority: Option<CaKeyPair>,
}

impl Begun {
    /// What an egress is told when it has come up, and which one, if it goes out through one.
    pub(in crate::primitive) fn registration(&self) -> Option<(&str, Registration)> {
        let port = self.options.role.0.port?;
        Some((&self.egress.as_ref()?.name, self.own.as_ref()?.registration(port)))
    }
}

struct ContainerParts {
    networks: Vec<crate::engine::Attachment>,
    mounts: Vec<VolumeMount>,
}

fn container(
    bottle: &Bottle,
    name: &str,
    role: &Described,
    image: String,
    identity: Identity,
    parts: ContainerParts,
) -> ContainerSpec {
    let command = vec![EXECUTABLE.into(), role.name.into()];
    ContainerSpec {
        hostname: name.to_owned(),
        networks: parts.networks,
        mounts: parts.mounts,
        // Nobody but the operator, by an exec, sees what is in there.
        tmpfs: [(CTL_DIR.to_owned(), format!("rw,nosuid,nodev,noexec,size=64k,mode=0700,uid={USER},gid={USER}"))]
            .into(),
        stdin: true,
        ..ContainerSpec::closed(bottle.name(name), image, command, format!("{USER}:{USER}"), role.resources, identity)
    }
}

/// A sidecar's configuration; where it is started `again`, with what is enforced and known by now.
pub(in crate::primitive) async fn config(bottle: &Arc<Bottle>, begun: &Begun, again: bool) -> Result<Value, Failure> {
    let options = &begun.options;
    let role = options.role.0;
    let mut networks = Vec::new();
    for (network, place) in &begun.places {
        let (_, range) = network.ready().await?;
        networks.push(OnNetwork {
            own: network.address(*place).await?,
            broadcast: range.broadcast(),
            egress: network.address(Network::egress_place()).await?,
            agent: network.address(Network::agent_place()).await?,
            internal: network.internal,
        });
    }
    let mut addresses: BTreeMap<String, SocketAddr> = BTreeMap::new();
    for (name, sidecar) in &begun.reachable {
        addresses.insert(name.clone(), counterpart::http_address(sidecar.address().await?));
    }
    let outward = match &begun.egress {
        Some(egress) => {
            let ca = egress.ca().await?;
            let ca = ca.ok_or_else(|| Failure::new(Class::Input, format!("{} is no egress", egress.name)))?;
            let folder = PathBuf::from(pair::folder(pair::OTHERS));
            Some(Uplink { proxy: folder.join(pair::EGRESS), listen: folder.join(pair::SIDECAR), ca })
        }
        None => None,
    };
    let policy = if role.takes_policy && again {
        Some(bottle.enforced_policy(&options.name).await?)
    } else if role.takes_policy {
        let base = EgressSpec { allow: options.allow.clone(), ..bottle.plan.egress.clone() };
        Some(bottle.begin_policy(&options.name, &base).await?)
    } else {
        None
    };
    let config = (role.config)(Context {
        bottle: &bottle.session.id,
        name: &options.name,
        networks: &networks,
        policy,
        pairs: begun.pairs.iter().map(Pair::of_egress).collect(),
        outward,
        reachable: addresses,
        authority: begun.authority.clone(),
        secrets: if role.takes_secrets && again { lock(&bottle.secrets).clone() } else { Vec::new() },
        proxy_credentials: bottle.setting.proxy_credentials.clone().filter(|_| role.is_proxy),
    });
    config.map_err(|why| Failure::new(Class::Internal, format!("write the configuration of {}: {why}", options.name)))
}
