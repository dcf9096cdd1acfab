//! An engine in memory, whose n-th call can fail, hang, or lose its answer.
//!
//! Its containers behave as bottler's own executable does: a sidecar answers its configuration with a ready line, the
//! agent's `init` proves, releases, and ends with exit code 0.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use ipnet::Ipv4Net;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, duplex};
use tokio::sync::watch;

use super::labels::Identity;
use super::{
    Archive, Bounds, ContainerSpec, ContainerState, Engine, EngineDetails, EngineError, EngineInfo, ErrorKind,
    ExecSpec, Filter, ImageBuild, ImageFound, ImageLayer, NetworkSpec, Object, Output, Progress, Removal, Result,
    Streams, TerminalSize, VolumeSpec,
};

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails, and nothing has happened.
    FailsBefore,
    /// It happens, and the answer is a failure.
    FailsAfter,
    /// It never answers, and nothing has happened.
    HangsBefore,
    /// It happens, and never answers.
    HangsAfter,
    /// Nothing: only that the call was reached is noted.
    Passes,
}

#[derive(Default)]
struct World {
    containers: BTreeMap<String, Container>,
    networks: BTreeMap<String, NetworkSpec>,
    volumes: BTreeMap<String, VolumeSpec>,
    images: Vec<String>,
    /// Whether it has every image that is asked for.
    any_image: bool,
    calls: Vec<String>,
    /// Every container that was created.
    created: Vec<ContainerSpec>,
    /// Every layer that became an image, where they are kept: each has an executable.
    layers: Option<Vec<ImageLayer>>,
    removals: Vec<String>,
    /// How long each container that was stopped had to finish.
    graces: Vec<Duration>,
    fault: Option<Strike>,
    struck: bool,
    ids: u64,
}

impl World {
    fn new_id(&mut self) -> String {
        self.ids += 1;
        format!("id{}", self.ids)
    }
}

struct Strike {
    /// An operation, or a thing by its name in the recipe.
    target: String,
    /// How many more matching calls go well.
    before: usize,
    fault: Fault,
}

impl Strike {
    fn hits(&self, operation: &str, object: &str) -> bool {
        let named =
            object.strip_suffix(self.target.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('-'));
        self.target == operation || (named && !operation.ends_with("_remove"))
    }
}

struct Container {
    spec: ContainerSpec,
    status: &'static str,
    end: watch::Sender<Option<i64>>,
}

/// The engine.
#[derive(Clone, Default)]
pub struct FakeEngine {
    world: Arc<Mutex<World>>,
}

impl FakeEngine {
    /// An engine that has every image that it is asked for.
    pub fn with_any_image() -> Self {
        let engine = Self::default();
        engine.world().any_image = true;
        engine
    }

    /// An engine that keeps the layers that become images.
    pub fn keeping_layers() -> Self {
        let engine = Self::default();
        engine.world().layers = Some(Vec::new());
        engine
    }

    /// Lets the `nth` call (from 1, counted from now on) of an operation, or on a thing, go wrong. Operations are
    /// named as the trait's functions, things as in the recipe.
    pub fn strike(&self, target: &str, nth: usize, fault: Fault) {
        let mut world = self.world();
        world.fault = Some(Strike { target: target.to_owned(), before: nth.saturating_sub(1), fault });
        world.struck = false;
    }

    /// Whether the fault has struck: a test of one that has not proves nothing.
    pub fn has_struck(&self) -> bool {
        self.world().struck
    }

    /// The calls so far that make or start something, by name.
    pub fn calls(&self) -> Vec<String> {
        self.world().calls.clone()
    }

    /// Every container that was created so far, in order, as it was asked for.
    pub fn created(&self) -> Vec<ContainerSpec> {
        self.world().created.clone()
    }

    /// The layer that became the image of this tag, if layers are kept.
    pub fn layer(&self, tag: &str) -> Option<ImageLayer> {
        self.world().layers.iter().flatten().find(|layer| layer.tag == tag).cloned()
    }

    /// What was removed, in order: `container p-1-egress`.
    pub fn removals(&self) -> Vec<String> {
        self.world().removals.clone()
    }

    /// How long each container that was stopped had to finish, in order.
    pub fn graces(&self) -> Vec<Duration> {
        self.world().graces.clone()
    }

    /// The names of everything that exists, images aside.
    pub fn left(&self) -> Vec<String> {
        let world = self.world();
        let containers = world.containers.values().map(|container| container.spec.name.clone());
        let networks = world.networks.values().map(|network| network.name.clone());
        containers.chain(networks).chain(world.volumes.keys().cloned()).collect()
    }

    fn world(&self) -> MutexGuard<'_, World> {
        crate::sync::lock(&self.world)
    }

    /// Runs an effect with whatever is to go wrong around it.
    async fn call<T>(
        &self,
        operation: &'static str,
        object: &str,
        effect: impl FnOnce(&mut World) -> Result<T> + Send,
    ) -> Result<T> {
        let fault = {
            let mut world = self.world();
            world.calls.push(operation.to_owned());
            let due = world.fault.take_if(|strike| {
                let hits = strike.hits(operation, object);
                let now = hits && strike.before == 0;
                strike.before -= usize::from(hits && !now);
                now
            });
            let fault = due.map(|strike| strike.fault);
            world.struck |= fault.is_some();
            fault
        };
        // Lets others run between the calls, as a real engine does.
        tokio::task::yield_now().await;
        match fault {
            Some(Fault::FailsBefore) => return Err(error(operation, object, ErrorKind::Other, "made to fail")),
            Some(Fault::HangsBefore) => std::future::pending().await,
            _ => {}
        }
        let result = effect(&mut self.world());
        match fault {
            Some(Fault::FailsAfter) => Err(error(operation, object, ErrorKind::Other, "made to fail")),
            Some(Fault::HangsAfter) => std::future::pending().await,
            _ => result,
        }
    }
}

fn error(operation: &'static str, object: &str, kind: ErrorKind, message: &str) -> EngineError {
    EngineError { operation, object: object.to_owned(), kind, message: message.to_owned() }
}

fn container<'a>(world: &'a World, operation: &'static str, id: &str) -> Result<&'a Container> {
    world.containers.get(id).ok_or_else(|| error(operation, id, ErrorKind::NotFound, "no such container"))
}

fn set_status(world: &mut World, operation: &'static str, id: &str, status: &'static str) -> Result<()> {
    let found = world.containers.get_mut(id);
    let found = found.ok_or_else(|| error(operation, id, ErrorKind::NotFound, "no such container"))?;
    found.status = status;
    Ok(())
}

fn removed(world: &mut World, kind: &str, name: Option<String>) -> Removal {
    match name {
        Some(name) => {
            world.removals.push(format!("{kind} {name}"));
            Removal::Removed
        }
        None => Removal::WasGone,
    }
}

#[async_trait]
impl Engine for FakeEngine {
    async fn info(&self) -> Result<EngineInfo> {
        let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let info = EngineInfo { version: "fake".into(), api: "1.41".into(), arch: arch.into(), os: "linux".into() };
        self.call("info", "engine", |_| Ok(info)).await
    }

    async fn details(&self) -> Result<EngineDetails> {
        self.call("details", "engine", |_| Ok(EngineDetails::default())).await
    }

    async fn image_find(&self, reference: &str) -> Result<Option<ImageFound>> {
        self.call("image_find", reference, |world| {
            let ours = reference.starts_with("bottler:");
            let there = world.images.iter().any(|image| image == reference) || (world.any_image && !ours);
            Ok(there.then(|| ImageFound {
                id: format!("id of {reference}"),
                triggers: Vec::new(),
                size: 0,
                command: vec!["/serve".into()],
                user: String::new(),
                workdir: String::new(),
                env: BTreeMap::new(),
                labels: BTreeMap::new(),
            }))
        })
        .await
    }

    async fn image_layer(&self, layer: &ImageLayer) -> Result<()> {
        self.call("image_build", &layer.tag, |world| {
            world.images.push(layer.tag.clone());
            if let Some(layers) = &mut world.layers {
                layers.push(layer.clone());
            }
            Ok(())
        })
        .await
    }

    async fn image_build(&self, build: &ImageBuild, _: &Progress<'_>) -> Result<()> {
        self.call("image_build", &build.tag, |world| {
            world.images.push(build.tag.clone());
            Ok(())
        })
        .await
    }

    async fn image_pull(&self, reference: &str, _: &Progress<'_>) -> Result<()> {
        let none = || error("pull image", reference, ErrorKind::NotFound, "there is no registry");
        self.call("image_pull", reference, |world| if world.any_image { Ok(()) } else { Err(none()) }).await
    }

    async fn image_cache(&self) -> Result<Vec<String>> {
        self.call("image_cache", "", |world| Ok(world.images.clone())).await
    }

    async fn image_remove(&self, tag: &str) -> Result<Removal> {
        self.call("image_remove", tag, |world| {
            let before = world.images.len();
            world.images.retain(|image| image != tag);
            Ok(if world.images.len() < before { Removal::Removed } else { Removal::WasGone })
        })
        .await
    }

    async fn network_create(&self, spec: &NetworkSpec) -> Result<String> {
        self.call("network_create", &spec.name, |world| {
            let overlap = world.networks.values().any(|other| other.subnet == spec.subnet);
            if overlap {
                return Err(error("network_create", &spec.name, ErrorKind::PoolOverlap, "pool overlaps"));
            }
            // Like engines before API 1.44: two networks may have one name.
            let id = world.new_id();
            world.networks.insert(id.clone(), spec.clone());
            Ok(id)
        })
        .await
    }

    async fn network_remove(&self, id: &str) -> Result<Removal> {
        self.call("network_remove", id, |world| {
            let name = world.networks.remove(id).map(|network| network.name);
            Ok(removed(world, "network", name))
        })
        .await
    }

    async fn subnets(&self) -> Result<Vec<Ipv4Net>> {
        self.call("subnets", "", |world| Ok(world.networks.values().map(|network| network.subnet).collect())).await
    }

    async fn volume_create(&self, spec: &VolumeSpec) -> Result<()> {
        self.call("volume_create", &spec.name, |world| {
            world.volumes.insert(spec.name.clone(), spec.clone());
            Ok(())
        })
        .await
    }

    async fn volume_remove(&self, name: &str) -> Result<Removal> {
        self.call("volume_remove", name, |world| {
            let used =
                world.containers.values().any(|other| other.spec.mounts.iter().any(|mount| mount.volume == name));
            if used {
                return Err(error("volume_remove", name, ErrorKind::InUse, "volume is in use"));
            }
            let name = world.volumes.remove(name).map(|volume| volume.name);
            Ok(removed(world, "volume", name))
        })
        .await
    }

    async fn container_create(&self, spec: &ContainerSpec) -> Result<String> {
        self.call("container_create", &spec.name, |world| {
            if world.containers.values().any(|other| other.spec.name == spec.name) {
                return Err(error("container_create", &spec.name, ErrorKind::NameTaken, "name is already in use"));
            }
            for mount in &spec.mounts {
                if !world.volumes.contains_key(&mount.volume) {
                    return Err(error("container_create", &spec.name, ErrorKind::NotFound, "no such volume"));
                }
            }
            let id = world.new_id();
            world.created.push(spec.clone());
            world
                .containers
                .insert(id.clone(), Container { spec: spec.clone(), status: "created", end: watch::Sender::new(None) });
            Ok(id)
        })
        .await
    }

    async fn container_attach(&self, id: &str) -> Result<Streams> {
        let role = self
            .call("container_attach", id, |world| {
                let container = container(world, "container_attach", id)?;
                Ok(container.spec.command.get(1).cloned().unwrap_or_default())
            })
            .await?;
        if role == "agent-init" {
            // An agent that writes nothing.
            return Ok(Streams { output: futures_util::stream::empty().boxed(), input: Box::pin(tokio::io::sink()) });
        }
        let told = std::sync::atomic::AtomicU64::new(2);
        // A command begins with its number.
        let acknowledged = move |line: &str| {
            let n: u64 = line.strip_prefix("{\"n\":")?.split(',').next()?.parse().ok()?;
            let next = told.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let done = format!("{{\"acknowledged\":{{\"n\":{n},\"outcome\":\"done\"}}}}");
            Some(format!("{{\"n\":{next},\"message\":{done}}}\n"))
        };
        Ok(conversation(move |line| acknowledged(line).or_else(|| Some(sidecar_answer(&role)))))
    }

    async fn container_start(&self, id: &str) -> Result<()> {
        self.call("container_start", id, |world| set_status(world, "container_start", id, "running")).await
    }

    async fn container_inspect(&self, id: &str) -> Result<ContainerState> {
        self.call("container_inspect", id, |world| {
            let container = container(world, "container_inspect", id)?;
            let exit_code = *container.end.borrow();
            Ok(ContainerState { status: container.status.into(), exit_code, out_of_memory: false })
        })
        .await
    }

    async fn container_bounds(&self, id: &str) -> Result<Bounds> {
        self.call("container_bounds", id, |world| {
            let limits = container(world, "container_bounds", id)?.spec.resources;
            Ok(Bounds { memory: limits.memory.cast_unsigned(), pids: limits.pids.cast_unsigned() })
        })
        .await
    }

    async fn container_logs(&self, id: &str, _: Option<usize>, _: bool) -> Result<BoxStream<'static, Result<Output>>> {
        self.call("container_logs", id, |world| container(world, "container_logs", id).map(drop)).await?;
        Ok(futures_util::stream::iter([Ok(Output::Stdout(Bytes::from_static(b"a log line\n")))]).boxed())
    }

    async fn container_stop(&self, id: &str, grace: Duration) -> Result<()> {
        self.call("container_stop", id, |world| {
            world.graces.push(grace);
            set_status(world, "container_stop", id, "exited")?;
            container(world, "container_stop", id)?.end.send_if_modified(|end| end.replace(143).is_none());
            Ok(())
        })
        .await
    }

    async fn container_pause(&self, id: &str, paused: bool) -> Result<()> {
        let status = if paused { "paused" } else { "running" };
        self.call("container_pause", id, |world| set_status(world, "container_pause", id, status)).await
    }

    async fn container_download(&self, id: &str, _: &str) -> Result<BoxStream<'static, Result<Bytes>>> {
        self.call("container_download", id, |world| container(world, "container_download", id).map(drop)).await?;
        // Two blocks of zeros: an archive with nothing in it.
        Ok(futures_util::stream::iter([Ok(Bytes::from_static(&[0; 1024]))]).boxed())
    }

    async fn container_wait(&self, id: &str, _: bool) -> Result<i64> {
        let mut end = container(&self.world(), "container_wait", id)?.end.subscribe();
        match end.wait_for(Option::is_some).await {
            Ok(code) => Ok(code.unwrap_or_default()),
            Err(_) => Err(error("container_wait", id, ErrorKind::NotFound, "removed")),
        }
    }

    async fn container_resize(&self, id: &str, _: TerminalSize) -> Result<()> {
        self.call("container_resize", id, |world| container(world, "container_resize", id).map(drop)).await
    }

    async fn container_upload(&self, id: &str, mut tar: Archive) -> Result<()> {
        while tar.next().await.is_some() {}
        self.call("container_upload", id, |world| container(world, "container_upload", id).map(drop)).await
    }

    async fn container_remove(&self, id: &str) -> Result<Removal> {
        self.call("container_remove", id, |world| {
            let name = world.containers.remove(id).map(|container| container.spec.name);
            Ok(removed(world, "container", name))
        })
        .await
    }

    async fn exec(&self, id: &str, spec: &ExecSpec) -> Result<(String, Streams)> {
        let (is_init, end) = self
            .call("exec", id, |world| {
                let end = container(world, "exec", id)?.end.clone();
                Ok((spec.command.get(1).is_some_and(|word| word == "ctl"), end))
            })
            .await?;
        let streams = conversation(move |line| is_init.then(|| init_answer(line, &end)));
        Ok((format!("exec of {id}"), streams))
    }

    async fn exec_resize(&self, exec: &str, _: TerminalSize) -> Result<()> {
        self.call("exec_resize", exec, |_| Ok(())).await
    }

    async fn exec_exit_code(&self, exec: &str) -> Result<i64> {
        self.call("exec_exit_code", exec, |_| Ok(0)).await
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<Object>> {
        let wanted = |identity: &Identity| match filter {
            Filter::Session(id) => identity.session == *id,
            Filter::Owner(owner) => identity.owner == *owner,
        };
        let object = |id: &str, name: &str, identity: &Identity| Object {
            id: id.to_owned(),
            name: name.to_owned(),
            identity: identity.clone(),
        };
        self.call("list", "", |world| {
            let containers = world
                .containers
                .iter()
                .map(|(id, container)| object(id, &container.spec.name, &container.spec.identity));
            let networks = world.networks.iter().map(|(id, network)| object(id, &network.name, &network.identity));
            let volumes = world.volumes.iter().map(|(name, volume)| object(name, name, &volume.identity));
            Ok(containers.chain(networks).chain(volumes).filter(|object| wanted(&object.identity)).collect())
        })
        .await
    }
}

fn sidecar_answer(role: &str) -> String {
    let ca = if role == "egress" { r#"{"ca":"certificate"}"# } else { "null" };
    format!("{{\"n\":1,\"message\":{{\"ready\":{ca}}}}}\n")
}

/// Speaks the part of init: every proof is green, and the command ends at once.
fn init_answer(line: &str, end: &watch::Sender<Option<i64>>) -> String {
    if line.starts_with("{\"prove\"") {
        return r#"{"proof":[{"attempt":"fake","expected":"yes","happened":"yes","ok":true}]}"#.to_owned() + "\n";
    }
    end.send_replace(Some(0));
    "\"released\"\n".to_owned()
}

/// Streams to something that answers lines with lines, until it has nothing to say.
fn conversation(answer: impl Fn(&str) -> Option<String> + Send + 'static) -> Streams {
    let (near, far) = duplex(1 << 20);
    let (from, to) = duplex(1 << 20);
    crate::task::spawn(async move {
        let mut lines = BufReader::new(far).lines();
        let mut to = to;
        while let Ok(Some(line)) = lines.next_line().await {
            let Some(answer) = answer(&line) else { break };
            if to.write_all(answer.as_bytes()).await.is_err() {
                break;
            }
        }
    });
    Streams { output: pieces(from).boxed(), input: Box::pin(near) }
}

fn pieces(from: DuplexStream) -> impl futures_util::Stream<Item = Result<Output>> {
    let lines = BufReader::new(from).lines();
    futures_util::stream::unfold(lines, async |mut lines| {
        let line = lines.next_line().await.ok().flatten()?;
        Some((Ok(Output::Stdout(Bytes::from(line + "\n"))), lines))
    })
}
