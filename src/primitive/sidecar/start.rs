//! `sidecar_start`: starts a built-in sidecar, sends its configuration on standard input, and waits until it reports ready.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::bring_up::{bring_up, register};
use super::pipelock;
use crate::engine::labels::{Identity, Kind};
use crate::engine::{ContainerSpec, HostNetwork, VolumeMount, VolumeSpec};
use crate::host;
use crate::layout::sidecar::{CTL_DIR, SERVICE_DIR, USER};
use crate::layout::{self, EXECUTABLE, dialer, loopback, pair, supervise};
use crate::policy::EgressSpec;
use crate::primitive::bottle::Bottle;
use crate::primitive::handle::{Network, Pair, Pairs, Refusal, Sidecar, SidecarInputs, SidecarOptions};
use crate::primitive::image::{git_image, pipelock_image, self_image};
use crate::primitive::name::check_name;
use crate::primitive::roles::{
    self, Context, NetworkAddresses, Networks, RoleName, RoleProfile, Serving, SidecarImage,
};
use crate::session::{Class, Failure, Pending, ScriptLocation};
use crate::sidecar::counterpart;
use crate::sidecar::egress::CaKeyPair;
use crate::sidecar::place::Uplink;

/// How long a sidecar may take from its start until it listens.
pub(in crate::primitive) const READY: Duration = Duration::from_secs(30);
/// The size of a folder in memory for keys.
const KEYS: &str = "1m";
/// How many built-in sidecars of one bottle may serve the agent. Each has its own address on the agent's loopback.
const MAX_SERVED: usize = 200;

/// The handles that `sidecar_start` takes.
pub struct SidecarHandles {
    /// The networks that it is on.
    pub networks: Vec<Arc<Network>>,
    /// For egress: sidecars that it may connect to by their addresses.
    pub reachable: BTreeMap<String, Arc<Sidecar>>,
    /// For others: the egress through which their requests leave.
    pub egress: Option<Arc<Sidecar>>,
    /// For a dialer: the name of the egress that it dials for.
    pub dials_for: Option<String>,
}

impl Sidecar {
    /// Kills and removes it, with the volumes of its sockets, now.
    pub fn close(&self, bottle: &Arc<Bottle>, at: Option<&ScriptLocation>) -> Pending<()> {
        let (engine, created) = (bottle.session.engine.clone(), self.created.clone());
        let own = self
            .volume
            .iter()
            .chain(&self.state)
            .chain(&self.shown)
            .chain(self.dialing.iter().map(|(volume, _)| volume))
            .cloned();
        let volumes: Vec<String> = own.chain(self.pairs.so_far().into_iter().map(|pair| pair.volume)).collect();
        bottle.undo(&self.life, at, async move {
            if let Ok(id) = created.get().await {
                engine.container_remove(&id).await?;
            }
            for volume in volumes {
                // A volume that is still in use is removed with the bottle.
                let _ = engine.volume_remove(&volume).await;
            }
            Ok(())
        })
    }
}

/// Creates the volume for a sidecar's sockets; returns its name, and the sidecar's mount once it exists.
pub(in crate::primitive) fn socket_volume(
    bottle: &Arc<Bottle>,
    sidecar: &str,
    owner: Option<(u32, u32)>,
    at: Option<&ScriptLocation>,
) -> Result<(String, Pending<VolumeMount>), Failure> {
    own_volume(bottle, &format!("{sidecar}-socket"), SERVICE_DIR, owner, at)
}

/// Creates a volume for one sidecar; returns its name, and the sidecar's mount once it exists.
fn own_volume(
    bottle: &Arc<Bottle>,
    name: &str,
    target: &'static str,
    owner: Option<(u32, u32)>,
    at: Option<&ScriptLocation>,
) -> Result<(String, Pending<VolumeMount>), Failure> {
    let volume = bottle.name(name);
    let identity = bottle.intend(Kind::Volume, &volume, at)?;
    let (context, name) = (bottle.clone(), volume.clone());
    let created = bottle.session.effects.start(async move {
        let spec = VolumeSpec { name: name.clone(), owner, may_be_kept: false, identity };
        context.session.engine.volume_create(&spec).await?;
        Ok(VolumeMount { volume: name, target: target.into(), read_only: false })
    });
    Ok((volume, created))
}

/// The volume that a sidecar shares with the egress through which its requests leave.
fn pair(bottle: &Arc<Bottle>, name: &str, egress: &Sidecar, at: Option<&ScriptLocation>) -> Result<Pair, Failure> {
    let made = egress.pairs.get_or_add(name, |number| {
        let volume = bottle.name(&format!("{}-{name}-pair", egress.name));
        let identity = bottle.intend_at(egress.pairs.place, Kind::Volume, &volume, at)?;
        let owner = Some((USER, USER));
        let spec = VolumeSpec { name: volume.clone(), owner, may_be_kept: false, identity };
        let context = bottle.clone();
        let created = async move { Ok(context.session.engine.volume_create(&spec).await?) };
        let created = bottle.session.effects.start(created);
        Ok::<_, PairError>(Pair { name: name.to_owned(), number, volume, created })
    });
    made.map_err(|error| {
        let bad = |why: String| Failure::new(Class::Input, format!("sidecar_start {name:?}: {why}"));
        match error {
            PairError::Failed(failure) => failure,
            PairError::Refused(Refusal::Full) => {
                bad(format!("{} sidecars at most go out through {}", pair::MAX, egress.name))
            }
            PairError::Refused(Refusal::Late) => {
                bad(format!("{} is there already, and the volume that they share is mounted when it is created", egress.name))
                    .hint("start it before the script waits for anything after the start of that egress (`ready`, `exec`, `prompt`)")
            }
        }
    })
}

/// Why there is no volume.
enum PairError {
    Refused(Refusal),
    Failed(Failure),
}

impl From<Refusal> for PairError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Failure> for PairError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Starts a built-in sidecar.
///
/// # Errors
/// A name, an allowed host or the combination of options is invalid.
#[expect(clippy::too_many_lines, reason = "one step after another")]
pub fn sidecar_start(
    bottle: &Arc<Bottle>,
    options: &SidecarOptions,
    handles: SidecarHandles,
    at: Option<&ScriptLocation>,
) -> Result<Arc<Sidecar>, Failure> {
    check(bottle, options, &handles).map_err(|failure| failure.at(at))?;
    let role = options.role.0;
    let SidecarHandles { networks, reachable, egress, dials_for } = handles;
    let dialer = (role.is_proxy && !bottle.session.engine.routes_outside()).then(|| start_dialer(bottle, options, at));
    let dialer = dialer.transpose()?;
    let state =
        role.state.map(|target| own_volume(bottle, &format!("{}-state", options.name), target, Some((USER, USER)), at));
    let state = state.transpose()?;
    let own = egress.as_ref().map(|egress| pair(bottle, &options.name, egress, at)).transpose();
    let own = own.map_err(|failure| failure.at(at))?;
    let places: Vec<(Arc<Network>, u32)> = networks
        .iter()
        .map(|network| {
            let place = if role.is_proxy { Network::egress_place() } else { network.take_place() };
            (network.clone(), place)
        })
        .collect();
    let tcp = bottle.plan.egress.tcp_targets();
    let tcp = tcp.map_err(|error| Failure::new(Class::Input, format!("egress: {error}")).at(at))?;
    let address = loopback::sidecar(u8::try_from(bottle.inventory.served()).unwrap_or(u8::MAX) + 1);
    let relays = (role.relays)(&Serving { name: &options.name, address, tcp: &tcp });
    let serves = !relays.is_empty() && !networks.iter().any(|network| network.internal);
    let dials = dials_for.is_some();
    let socket = (serves || dials).then(|| socket_volume(bottle, &options.name, Some((USER, USER)), at)).transpose()?;
    let mount = socket.as_ref().map(|(_, mount)| mount.clone());
    let policy = format!("{}-policy", options.name);
    let owner = Some((USER, USER));
    let shown = role.shows_policy.then(|| own_volume(bottle, &policy, supervise::POLICY_DIR, owner, at)).transpose()?;
    let shown_mount = shown.as_ref().map(|(_, mount)| mount.clone());
    let (dialing, serving) = if dials { (socket, None) } else { (None, socket) };
    let volume = serving.map(|(volume, _)| volume);
    let pairs_place = bottle.session.next_seq();
    let pairs = Arc::new(Pairs::new(pairs_place, role.is_proxy && bottle.progress.is_scripted()));
    let (identity, life) = bottle.begin(Kind::Sidecar, &options.name, &bottle.name(&options.name), at)?;
    let uses = egress.iter().chain(&dialer).map(|used| used.life.seq).collect();
    let identity = Identity { role: Some(role.name.to_owned()), uses, ..identity };
    let inspected = bottle.plan.egress.image.as_ref().filter(|_| role.is_proxy);
    let pipelock = inspected.map(|source| pipelock_image(bottle, source, at));
    let image = match (&pipelock, role.image) {
        (Some(image), _) => image.clone(),
        (None, SidecarImage::Own) => self_image(bottle, at),
        (None, SidecarImage::Git) => git_image(bottle, at),
    };
    let (state, stored) = (state.as_ref().map(|(name, _)| name.clone()), state.map(|(_, mount)| mount));
    let (context, name) = (bottle.clone(), options.name.clone());
    let (attached, shared, outward) = (places.clone(), pairs.clone(), own.clone());
    let inspects = pipelock.is_some();
    let way_out = dialer.as_ref().and_then(|dialer| dialer.dialing.clone());
    let created = bottle.effect(format!("create {name}"), at, async move {
        let mut mounts = Vec::new();
        for mount in mount.into_iter().chain(stored).chain(shown_mount) {
            mounts.push(mount.get().await?);
        }
        for pair in shared.complete().await {
            mounts.push(pair.for_egress().await?);
        }
        if let Some(pair) = outward {
            mounts.push(pair.for_sidecar().await?);
        }
        if let Some((_, volume)) = way_out {
            mounts.push(VolumeMount { target: dialer::DIR.into(), read_only: true, ..volume.get().await? });
        }
        let mut networks = Vec::new();
        for (network, place) in &attached {
            networks.push(network.attachment(*place).await?);
        }
        let image = image.get().await?.tag.clone();
        let spec = container(&context, &name, role, image, identity, ContainerParts { networks, mounts, inspects });
        Ok(context.session.engine.container_create(&spec).await?)
    });
    let authority = match role.is_proxy.then(|| CaKeyPair::new(&bottle.session.id)).transpose() {
        Ok(authority) => authority,
        Err(error) => return Err(Failure::new(Class::Internal, format!("make a CA: {error:#}")).at(at)),
    };
    let (options, places_of, pairs_of) = (options.clone(), places.clone(), pairs.clone());
    let inputs = Arc::new(SidecarInputs {
        policy_of: dials_for.unwrap_or_else(|| options.name.clone()),
        options,
        places: places_of,
        pairs: pairs_of,
        own,
        reachable,
        egress,
        dialer,
        pipelock,
        authority,
    });
    let (context, id, with) = (bottle.clone(), created.clone(), inputs.clone());
    let name = inputs.options.name.clone();
    let ready = bottle.effect(format!("start {name}"), at, async move {
        let id = id.get().await?;
        let name = &with.options.name;
        if let Some(dialer) = &with.dialer {
            dialer.ready().await?;
        }
        let ready = bring_up(&context, name, &id, config(&context, &with, false), READY, Some(role)).await?;
        if let Some((egress, registration)) = with.registration() {
            register(&context, egress, registration).await?;
        }
        Ok(ready)
    });
    let inputs = Some(inputs);
    let shown = shown.map(|(volume, _)| volume);
    let sidecar = Sidecar {
        name,
        role: Some(role),
        life,
        volume,
        state,
        shown,
        dialing,
        pairs,
        relays,
        places,
        inputs,
        created,
        ready,
    };
    Ok(bottle.inventory.add_sidecar(sidecar))
}

/// Starts the dialer of an egress.
fn start_dialer(
    bottle: &Arc<Bottle>,
    egress: &SidecarOptions,
    at: Option<&ScriptLocation>,
) -> Result<Arc<Sidecar>, Failure> {
    let name = format!("{}-dialer", egress.name);
    let options = SidecarOptions { name, role: RoleName(roles::dialer()), allow: egress.allow.clone() };
    let handles = SidecarHandles {
        networks: Vec::new(),
        reachable: BTreeMap::new(),
        egress: None,
        dials_for: Some(egress.name.clone()),
    };
    sidecar_start(bottle, &options, handles, at)
}

/// Refuses options that do not go together.
fn check(bottle: &Bottle, options: &SidecarOptions, handles: &SidecarHandles) -> Result<(), Failure> {
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
        Networks::None if !handles.networks.is_empty() => {
            return Err(bad(format!("a {} is on no network: the agent reaches it through a socket", role.name)));
        }
        Networks::Some | Networks::Inside | Networks::None | Networks::Host => {}
    }
    let shows = |other: &Arc<Sidecar>| other.role.is_some_and(|other| other.shows_policy);
    if role.shows_policy && bottle.inventory.open_sidecars().iter().any(shows) {
        return Err(bad(format!("the bottle has a {} already", role.name)));
    }
    if !role.takes_policy && (!options.allow.is_empty() || !handles.reachable.is_empty()) {
        return Err(bad("allow and sidecars are for the role \"egress\"".into()));
    }
    for rule in &options.allow {
        rule.read().map_err(|error| bad(format!("allow: {error}")).hint("a host, or \"*.\" and a host"))?;
        bottle.check_allowed(rule, bad)?;
    }
    if bottle.inventory.served() >= MAX_SERVED {
        return Err(bad(format!("there are {MAX_SERVED} sidecars that serve the agent already")));
    }
    bottle.check_sidecar_name(&options.name)?;
    match (&handles.egress, role.uses_egress) {
        (None, false) => Ok(()),
        (Some(egress), true) if egress.is_proxy() => Ok(()),
        (Some(other), true) => Err(bad(format!("option egress takes an egress, and {} is none", other.name))),
        (None, true) => Err(bad("option egress is missing: the sidecar that it goes out through".into())),
        (Some(_), false) => Err(bad(format!("a {} does not go out through an egress", role.name))),
    }
}

struct ContainerParts {
    networks: Vec<crate::engine::Attachment>,
    mounts: Vec<VolumeMount>,
    /// Whether Pipelock runs in it as well.
    inspects: bool,
}

fn container(
    bottle: &Bottle,
    name: &str,
    role: &RoleProfile,
    image: String,
    identity: Identity,
    parts: ContainerParts,
) -> ContainerSpec {
    let command = vec![EXECUTABLE.into(), role.name.into()];
    let memory = |path: &str, size: &str| {
        (path.to_owned(), format!("rw,nosuid,nodev,noexec,size={size},mode=0700,uid={USER},gid={USER}"))
    };
    let keys = role.memory.map(|path| memory(path, KEYS));
    let pipelock = parts.inspects.then(|| memory(layout::pipelock::DIR, pipelock::FILES));
    let mut resources = role.resources;
    if parts.inspects {
        resources.memory += pipelock::MEMORY;
    }
    ContainerSpec {
        hostname: name.to_owned(),
        networks: parts.networks,
        mounts: parts.mounts,
        host_network: (role.networks == Networks::Host).then_some(HostNetwork::Dial),
        // Only an operator's exec can see the first of these folders.
        tmpfs: [memory(CTL_DIR, "64k")].into_iter().chain(keys).chain(pipelock).collect(),
        stdin: true,
        ..ContainerSpec::closed(bottle.name(name), image, command, format!("{USER}:{USER}"), resources, identity)
    }
}

/// The addresses of this machine, which egress never connects to.
fn host_addresses(egress: &str) -> Result<Vec<IpAddr>, Failure> {
    host::own_addresses().map_err(|error| {
        let why = format!("sidecar_start {egress:?}: read the addresses of this machine, which stay closed: {error}");
        Failure::new(Class::Operation, why)
    })
}

/// A sidecar's configuration. If it is started `again`, it has the current policy and secrets.
pub(in crate::primitive) async fn config(
    bottle: &Arc<Bottle>,
    inputs: &SidecarInputs,
    again: bool,
) -> Result<Value, Failure> {
    let options = &inputs.options;
    let role = options.role.0;
    let mut networks = Vec::new();
    for (network, place) in &inputs.places {
        let (_, range) = network.ready().await?;
        networks.push(NetworkAddresses {
            own: network.address(*place).await?,
            broadcast: range.broadcast(),
            egress: network.address(Network::egress_place()).await?,
            agent: network.address(Network::agent_place()).await?,
            internal: network.internal,
        });
    }
    let mut addresses: BTreeMap<String, SocketAddr> = BTreeMap::new();
    for (name, sidecar) in &inputs.reachable {
        addresses.insert(name.clone(), counterpart::http_address(sidecar.address().await?));
    }
    let outward = match &inputs.egress {
        Some(egress) => {
            let ca = egress.ca().await?;
            let ca = ca.ok_or_else(|| Failure::new(Class::Input, format!("{} is no egress", egress.name)))?;
            let folder = PathBuf::from(pair::folder(pair::OTHERS));
            Some(Uplink { proxy: folder.join(pair::EGRESS), listen: folder.join(pair::SIDECAR), ca })
        }
        None => None,
    };
    let base = || EgressSpec { allow: options.allow.clone(), ..bottle.plan.egress.clone() };
    let policy = if role.takes_policy && again {
        Some(bottle.enforced_policy(&inputs.policy_of).await?)
    } else if role.is_proxy {
        Some(bottle.begin_policy(&options.name, &base()).await?)
    } else if role.takes_policy {
        // Its egress starts with the same policy.
        Some(bottle.initial_policy(&base()).await.0.enforced())
    } else {
        None
    };
    let pipelock = match &inputs.pipelock {
        Some(image) => Some(pipelock::config(bottle, image.get().await?.as_ref())?),
        None => None,
    };
    let config = (role.config)(Context {
        pipelock,
        bottle: &bottle.session.id,
        name: &options.name,
        networks: &networks,
        policy,
        dials: inputs.dialer.is_some(),
        host_addresses: if role.is_proxy { host_addresses(&options.name)? } else { Vec::new() },
        pairs: inputs.pairs.complete().await.iter().map(Pair::of_egress).collect(),
        outward,
        reachable: addresses,
        authority: inputs.authority.clone(),
        secrets: (role.takes_secrets && again).then(|| bottle.secrets.all()),
        credentials: if role.takes_credentials && again { bottle.credentials() } else { Vec::new() },
        repositories: if role.image == SidecarImage::Git { bottle.repositories()? } else { Vec::new() },
        dlp: bottle.plan.egress.dlp.clone(),
        supervised: bottle.plan.supervise.is_some(),
        routes: bottle.routes(),
        proxy_credentials: bottle.host.proxy_credentials.clone().filter(|_| role.is_proxy),
    });
    config.map_err(|why| Failure::new(Class::Internal, format!("write the configuration of {}: {why}", options.name)))
}
