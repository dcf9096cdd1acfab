//! Containers by the kernel alone: no daemon, no bridge, and root only where the user is root.
//!
//! The pieces: [`store`] keeps objects as folders; [`plan`] turns what the core asks for into data; a shim for each container
//! ([`shim`]) starts its first process ([`child`]), which makes the namespaces and mounts and becomes the command. The engine in the
//! holder, the command line or the reaper talks to the shim over a socket.
//!
//! What this engine does not do is refused with the reason: images that are not bottler's own, builds, networks that lead somewhere
//! for a container, `isolation: bridge`.

mod cgroup;
pub mod child;
mod client;
mod filter;
mod image;
mod log;
mod mounts;
mod plan;
mod privileges;
mod protocol;
pub mod shim;
mod store;
mod sys;

use std::collections::{BTreeMap, HashMap};
use std::io::ErrorKind as Io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use ipnet::Ipv4Net;
use tokio::io::AsyncReadExt;

use super::{
    Archive, Bounds, ContainerSpec, ContainerState, Engine, EngineDetails, EngineError, EngineInfo, ErrorKind,
    ExecSpec, Filter, ImageBuild, ImageFound, ImageLayer, NetworkSpec, Object, Output, Product, Progress, Removal,
    Result, Streams, TerminalSize, VolumeSpec,
};
use crate::host::make_private;
use crate::sync::lock;
use cgroup::Groups;
use child::{SETUP, Setup};
use client::Connection;
use image::Account;
use plan::{Mapping, Plan};
use protocol::{Frame, Reply, Request, Task};
use store::{End, NetworkRecord, Record, Store, is_name, remove_tree};

/// What an engine's address of this kind begins with; the folder of its store follows.
pub const SCHEME: &str = "native:";
/// How long a shim may take to make a container, and to answer.
const CREATE: Duration = Duration::from_secs(30);
const ANSWER: Duration = Duration::from_secs(20);
/// Pauses while the kernel takes a container apart, and how many.
const PAUSE: Duration = Duration::from_millis(2);
const PAUSES: usize = 500;

/// The engine.
pub struct NativeEngine {
    root: PathBuf,
    store: Store,
    groups: std::result::Result<Groups, String>,
    /// What keeps the containers that this process made alive: the other ends of their shims' standard inputs.
    lifelines: Mutex<HashMap<String, tokio::process::ChildStdin>>,
    /// Held while a container that is on a network is created.
    creating: tokio::sync::Mutex<()>,
    /// Exit codes of commands beside containers' own, by the ids that were given out.
    exits: Arc<Mutex<HashMap<String, i64>>>,
}

fn failure(operation: &'static str, object: &str, kind: ErrorKind, message: impl Into<String>) -> EngineError {
    EngineError { operation, object: object.to_owned(), kind, message: message.into() }
}

/// Why a call failed, by what the operating system says.
fn broken(operation: &'static str, object: &str) -> impl Fn(std::io::Error) -> EngineError {
    move |error| {
        let kind = match error.kind() {
            Io::NotFound | Io::ConnectionRefused | Io::UnexpectedEof => ErrorKind::NotFound,
            Io::AlreadyExists => ErrorKind::NameTaken,
            Io::StorageFull | Io::QuotaExceeded => ErrorKind::NoSpace,
            Io::TimedOut => ErrorKind::Deadline,
            _ => ErrorKind::Other,
        };
        failure(operation, object, kind, error.to_string())
    }
}

impl NativeEngine {
    /// Opens the store at an address.
    ///
    /// # Errors
    /// Its folders cannot be made.
    pub fn open(endpoint: &str) -> Result<Self> {
        let root = PathBuf::from(endpoint.strip_prefix(SCHEME).unwrap_or(endpoint));
        let store = Store::open(&root).map_err(broken("open", "the native engine's store"))?;
        Ok(Self {
            root,
            store,
            groups: Groups::find(),
            lifelines: Mutex::default(),
            creating: tokio::sync::Mutex::default(),
            exits: Arc::default(),
        })
    }

    fn container(&self, operation: &'static str, id: &str) -> Result<PathBuf> {
        let folder = self.store.container(id);
        if is_name(id) && folder.is_dir() {
            Ok(folder)
        } else {
            Err(failure(operation, id, ErrorKind::NotFound, "there is no such container"))
        }
    }

    fn record(&self, operation: &'static str, id: &str) -> Result<Record> {
        store::read(&self.container(operation, id)?.join("record.json")).map_err(broken(operation, id))
    }

    fn groups_of(&self, id: &str) -> Vec<(String, PathBuf)> {
        self.groups.as_ref().map(|groups| groups.of(id)).unwrap_or_default()
    }

    async fn ask(&self, operation: &'static str, id: &str, request: &Request) -> Result<Connection> {
        let folder = self.container(operation, id)?;
        let asked = async {
            let mut connection = Connection::open(&folder, request).await?;
            match connection.reply().await? {
                Reply::Failed { kind, message } => Ok(Err(failure(operation, id, kind, message))),
                _ => Ok(Ok(connection)),
            }
        };
        match tokio::time::timeout(ANSWER, asked).await {
            Ok(answer) => answer.map_err(broken(operation, id))?,
            Err(_) => Err(failure(operation, id, ErrorKind::Deadline, "the container's shim does not answer")),
        }
    }

    /// A copy of this executable that no user edits, for shims and first processes to start from.
    fn executable(&self) -> std::io::Result<PathBuf> {
        let own = std::fs::metadata("/proc/self/exe")?;
        let key = format!("{:x}-{:x}-{:x}-{:x}", own.dev(), own.ino(), own.len(), own.mtime_nsec() ^ own.mtime());
        let folder = self.root.join("executables");
        let path = folder.join(&key).join("bottler");
        if path.is_file() {
            return Ok(path);
        }
        make_private(&folder)?;
        let old: Vec<PathBuf> = std::fs::read_dir(&folder)?.flatten().map(|entry| entry.path()).collect();
        let made = self.store.create(&folder.join(&key), |new| {
            let copy = new.join("bottler");
            std::fs::copy("/proc/self/exe", &copy)?;
            std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o500))
        });
        match made {
            Err(error) if error.kind() == Io::AlreadyExists => {}
            made => made?,
        }
        // Processes that run from an older copy keep it.
        old.iter().try_for_each(|old| remove_tree(old))?;
        Ok(path)
    }

    /// How users are mapped here.
    fn mapping() -> Mapping {
        let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
        if user.is_root() {
            Mapping::Host
        } else {
            Mapping::One(Account { user: user.as_raw(), group: group.as_raw() })
        }
    }

    /// Gives a volume that is new the owner and the mode of the folder that it is mounted on, as other engines do.
    fn settle_volume(
        &self,
        mount: &super::VolumeMount,
        config: &image::Config,
        mapping: Mapping,
    ) -> std::io::Result<()> {
        let volume = self.store.volume(&mount.volume);
        let fresh = volume.join("fresh");
        if mount.read_only || !fresh.exists() {
            return Ok(());
        }
        if let Some(folder) = config.folder(&mount.target) {
            let data = volume.join("data");
            if mapping == Mapping::Host {
                std::os::unix::fs::chown(&data, Some(folder.account.user), Some(folder.account.group))?;
            }
            std::fs::set_permissions(&data, std::fs::Permissions::from_mode(folder.mode))?;
        }
        std::fs::remove_file(fresh)
    }

    async fn start_shim(&self, id: &str, folder: &Path) -> std::result::Result<(), String> {
        let executable = self.executable().map_err(|error| format!("copy this executable: {error}"))?;
        let mut command = tokio::process::Command::new(executable);
        command.arg(shim::ROLE).arg(folder).env_clear().process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| format!("start a shim: {error}"))?;
        let mut said = String::new();
        let mut output = child.stdout.take().ok_or("the shim has no output")?;
        let read = tokio::time::timeout(CREATE, output.read_to_string(&mut said)).await;
        if matches!(read, Ok(Ok(_))) && said == shim::READY {
            lock(&self.lifelines).extend(child.stdin.take().map(|input| (id.to_owned(), input)));
            return Ok(());
        }
        drop(child.stdin.take());
        let _ = child.wait().await;
        Err(if said.is_empty() { "the shim ended without a word".to_owned() } else { said })
    }

    fn variables(plan: &Plan, spec: &ExecSpec) -> BTreeMap<String, String> {
        let own = spec.env.iter().filter_map(|line| line.split_once('='));
        let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
        plan.process.env.clone().into_iter().chain(own).collect()
    }

    /// Runs a helper in a container that has not run yet, and gives its output.
    async fn helper(&self, operation: &'static str, id: &str, task: Task) -> Result<Connection> {
        self.ask(operation, id, &Request::Exec(task)).await
    }

    /// Removes what is left of a container whose shim has ended.
    async fn clear(&self, id: &str, folder: PathBuf) -> std::io::Result<()> {
        let groups = self.groups_of(id);
        for _ in 0..PAUSES {
            shim::kill_all(&groups);
            if cgroup::remove(&groups).is_ok() {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        cgroup::remove(&groups)?;
        tokio::task::spawn_blocking(move || remove_tree(&folder)).await.map_err(std::io::Error::other)?
    }
}

/// A frame as output.
fn output(frame: Frame) -> Option<Output> {
    match frame {
        Frame::Stdout(bytes) => Some(Output::Stdout(bytes)),
        Frame::Stderr(bytes) => Some(Output::Stderr(bytes)),
        Frame::Exit(_) => None,
    }
}

fn outputs(
    frames: BoxStream<'static, std::io::Result<Frame>>,
    operation: &'static str,
    id: &str,
) -> BoxStream<'static, Result<Output>> {
    let id = id.to_owned();
    let pieces = frames.filter_map(move |frame| {
        let piece = frame.map(output).map_err(broken(operation, &id)).transpose();
        std::future::ready(piece)
    });
    pieces.boxed()
}

#[async_trait]
impl Engine for NativeEngine {
    async fn info(&self) -> Result<EngineInfo> {
        let arch = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Ok(EngineInfo {
            version: env!("CARGO_PKG_VERSION").into(),
            api: "native".into(),
            arch: arch.into(),
            os: "linux".into(),
        })
    }

    async fn details(&self) -> Result<EngineDetails> {
        let uname = rustix::system::uname();
        let system = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
        let name = system.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("Linux");
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let total = memory
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.trim().parse::<i64>().ok());
        Ok(EngineDetails {
            product: Product::Native,
            default_runtime: "kernel".into(),
            rootless: !nix::unistd::geteuid().is_root(),
            seccomp: true,
            storage: "overlay".into(),
            kernel: uname.release().to_string_lossy().into_owned(),
            system: name.trim_matches('"').to_owned(),
            processors: std::thread::available_parallelism().map_or(1, |count| i64::try_from(count.get()).unwrap_or(1)),
            memory: total.unwrap_or_default() << 10,
            time: humantime::format_rfc3339_nanos(std::time::SystemTime::now()).to_string(),
            ..EngineDetails::default()
        })
    }

    async fn image_find(&self, reference: &str) -> Result<Option<ImageFound>> {
        let Some(id) = self.store.find(reference) else { return Ok(None) };
        let config: image::Config =
            store::read(&self.store.image(&id).join("config.json")).map_err(broken("inspect image", reference))?;
        Ok(Some(ImageFound {
            id,
            triggers: Vec::new(),
            command: Vec::new(),
            user: String::new(),
            workdir: String::new(),
            env: config.env,
            size: config.size,
            labels: config.labels,
        }))
    }

    async fn image_layer(&self, layer: &ImageLayer) -> Result<()> {
        let operation = "make image";
        if layer.base.is_some() {
            return Err(failure(operation, &layer.tag, ErrorKind::Other, NO_IMAGES));
        }
        let id = image::id(layer);
        let (store, layer) = (self.store.clone(), layer.clone());
        let tag = layer.tag.clone();
        let made = tokio::task::spawn_blocking(move || {
            let made = store.create(&store.image(&id), |new| {
                let files = new.join("files");
                std::fs::DirBuilder::new().mode(0o755).create(&files)?;
                let owners = Self::mapping() == Mapping::Host;
                let config = image::unpack(layer.tar.as_ref(), &files, owners)?;
                store::write(&new.join("config.json"), &image::Config { labels: layer.labels.clone(), ..config })
            });
            match made {
                Err(error) if error.kind() == Io::AlreadyExists => {}
                made => made?,
            }
            store.set_tag(&layer.tag, &id)
        });
        made.await.map_err(std::io::Error::other).and_then(|made| made).map_err(broken(operation, &tag))
    }

    async fn image_build(&self, build: &ImageBuild, _: &Progress<'_>) -> Result<()> {
        Err(failure("build image", &build.tag, ErrorKind::Other, NO_IMAGES))
    }

    async fn image_pull(&self, reference: &str, _: &Progress<'_>) -> Result<()> {
        Err(failure("pull image", reference, ErrorKind::Other, NO_IMAGES))
    }

    async fn image_cache(&self) -> Result<Vec<String>> {
        Ok(self.store.tags())
    }

    async fn image_remove(&self, tag: &str) -> Result<Removal> {
        let removed = self.store.remove_tag(tag).map_err(broken("remove image", tag))?;
        Ok(if removed { Removal::Removed } else { Removal::WasGone })
    }

    async fn network_create(&self, spec: &NetworkSpec) -> Result<String> {
        let operation = "create network";
        if spec.internal.is_some() {
            let why = "the native engine has no bridges; `isolation: sealed` needs none";
            return Err(failure(operation, &spec.name, ErrorKind::Other, why));
        }
        let path = self.store.network(&spec.name);
        if !is_name(&spec.name) || path.exists() {
            return Err(failure(operation, &spec.name, ErrorKind::NameTaken, "there is a network of this name"));
        }
        let record = NetworkRecord { labels: spec.identity.to_labels(), subnet: spec.subnet };
        store::write(&path, &record).map_err(broken(operation, &spec.name))?;
        Ok(spec.name.clone())
    }

    async fn network_remove(&self, id: &str) -> Result<Removal> {
        match std::fs::remove_file(self.store.network(id)) {
            Ok(()) => Ok(Removal::Removed),
            Err(error) if error.kind() == Io::NotFound => Ok(Removal::WasGone),
            Err(error) => Err(broken("remove network", id)(error)),
        }
    }

    async fn subnets(&self) -> Result<Vec<Ipv4Net>> {
        Ok(self.store.subnets())
    }

    async fn volume_create(&self, spec: &VolumeSpec) -> Result<()> {
        let operation = "create volume";
        if !is_name(&spec.name) {
            return Err(failure(operation, &spec.name, ErrorKind::Other, "it cannot be the name of a volume"));
        }
        let made = self.store.create(&self.store.volume(&spec.name), |new| {
            let data = new.join("data");
            std::fs::DirBuilder::new().mode(0o755).create(&data)?;
            if let (Some((user, group)), Mapping::Host) = (spec.owner, Self::mapping()) {
                std::os::unix::fs::chown(&data, Some(user), Some(group))?;
            }
            std::fs::write(new.join("fresh"), "")?;
            store::write(&new.join("labels.json"), &store::Labelled { labels: spec.identity.to_labels() })
        });
        made.map_err(broken(operation, &spec.name))
    }

    async fn volume_remove(&self, name: &str) -> Result<Removal> {
        let path = self.store.volume(name);
        if !is_name(name) || !path.exists() {
            return Ok(Removal::WasGone);
        }
        let removed = tokio::task::spawn_blocking(move || remove_tree(&path)).await.map_err(std::io::Error::other);
        removed.and_then(|removed| removed).map_err(broken("remove volume", name))?;
        Ok(Removal::Removed)
    }

    async fn container_create(&self, spec: &ContainerSpec) -> Result<String> {
        let operation = "create container";
        let refused = |why: String| failure(operation, &spec.name, ErrorKind::Other, why);
        if !is_name(&spec.name) {
            return Err(refused("it cannot be the name of a container".into()));
        }
        let missing =
            || failure(operation, &spec.name, ErrorKind::NotFound, format!("there is no image {}", spec.image));
        let image = self.store.image(&self.store.find(&spec.image).ok_or_else(missing)?);
        let config: image::Config = store::read(&image.join("config.json")).map_err(broken(operation, &spec.name))?;
        let mapping = Self::mapping();
        let mut plan =
            plan::plan(spec, &image.join("files"), &config, &self.store.volumes(), mapping).map_err(refused)?;
        if let (Mapping::One(_), Some(other)) = (mapping, &spec.beside) {
            // In the other one's user namespace there is its user and no other.
            plan.process.account = self.record(operation, other)?.plan.process.account;
        }
        if let Err(why) = &self.groups {
            return Err(refused(why.clone()));
        }
        for mount in &spec.mounts {
            self.settle_volume(mount, &config, mapping).map_err(broken(operation, &spec.name))?;
        }
        let filters = filter::programs(&self.root).map_err(|error| refused(format!("{error:#}")))?;
        // Two that are created at the same moment must find each other.
        let _turn = if plan.networks.is_empty() { None } else { Some(self.creating.lock().await) };
        let beside = match &spec.beside {
            Some(other) => Some(self.first_process(other)?),
            None => plan.networks.first().and_then(|network| self.on_network(network)),
        };
        let addresses = plan.networks.iter().map(|network| self.addresses(network)).collect::<std::io::Result<_>>();
        let addresses = addresses.map_err(broken(operation, &spec.name))?;
        let setup = Setup { groups: self.groups_of(&spec.name), filters, beside, addresses, plan };
        let record = Record { labels: spec.identity.to_labels(), plan: setup.plan.clone() };
        let folder = self.store.container(&spec.name);
        let filled = self.store.create(&folder, |new| fill(new, &setup, &record));
        filled.map_err(broken(operation, &spec.name))?;
        if let Err(why) = self.start_shim(&spec.name, &folder).await {
            let _ = self.clear(&spec.name, folder).await;
            return Err(refused(why));
        }
        Ok(spec.name.clone())
    }

    async fn container_attach(&self, id: &str) -> Result<Streams> {
        self.revive("attach to container", id).await?;
        let (frames, input) = self.ask("attach to container", id, &Request::Attach).await?.split();
        Ok(Streams { output: outputs(frames, "read from container", id), input: Box::pin(input) })
    }

    async fn container_start(&self, id: &str) -> Result<()> {
        self.revive("start container", id).await?;
        self.ask("start container", id, &Request::Start).await.map(drop)
    }

    async fn container_wait(&self, id: &str, _: bool) -> Result<i64> {
        let operation = "wait for container";
        let folder = self.container(operation, id)?;
        let asked = async {
            let mut connection = Connection::open(&folder, &Request::Wait).await?;
            connection.reply().await
        };
        match asked.await {
            Ok(Reply::Ended(end)) => Ok(end.code),
            Ok(_) => Err(failure(operation, id, ErrorKind::Other, "the shim gave an unexpected answer")),
            // It has ended before, or its shim was killed, and the container with it.
            Err(_) if folder.is_dir() => Ok(store::read(&folder.join(shim::END)).map_or(137, |end: End| end.code)),
            Err(error) => Err(broken(operation, id)(error)),
        }
    }

    async fn container_upload(&self, id: &str, tar: Archive) -> Result<()> {
        let operation = "copy files into container";
        let (frames, input) = self.helper(operation, id, Task::Unpack).await?.split();
        let (fed, said) = tokio::join!(client::feed(input, tar), frames.collect::<Vec<_>>());
        let said = finish(said, operation, id);
        // What the helper says tells more than that it does not read on.
        said.and_then(|()| fed.map_err(broken(operation, id)))
    }

    async fn container_resize(&self, id: &str, size: TerminalSize) -> Result<()> {
        self.ask("resize terminal of", id, &Request::Resize(size)).await.map(drop)
    }

    async fn container_inspect(&self, id: &str) -> Result<ContainerState> {
        let operation = "inspect container";
        let folder = self.container(operation, id)?;
        if let Ok(End { code, out_of_memory }) = store::read(&folder.join(shim::END)) {
            return Ok(ContainerState { status: "exited".into(), exit_code: Some(code), out_of_memory });
        }
        let asked = async { Connection::open(&folder, &Request::State).await?.reply().await };
        let (status, exit_code) = match tokio::time::timeout(ANSWER, asked).await {
            Ok(Ok(Reply::State { started: false })) => ("created", None),
            Ok(Ok(_)) if cgroup::is_frozen(&self.groups_of(id)) => ("paused", None),
            Ok(Ok(_)) => ("running", None),
            Ok(Err(_)) => ("dead", Some(137)),
            Err(_) => return Err(failure(operation, id, ErrorKind::Deadline, "the container's shim does not answer")),
        };
        Ok(ContainerState { status: status.into(), exit_code, out_of_memory: false })
    }

    async fn container_bounds(&self, id: &str) -> Result<Bounds> {
        cgroup::bounds(&self.groups_of(id)).map_err(broken("read bounds of container", id))
    }

    async fn container_logs(
        &self,
        id: &str,
        lines: Option<usize>,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<Output>>> {
        let operation = "read log of";
        let folder = self.container(operation, id)?;
        match self.ask(operation, id, &Request::Logs { lines, follow }).await {
            Ok(connection) => Ok(outputs(connection.split().0, operation, id)),
            // It has ended: its log is complete.
            Err(error) if error.kind == ErrorKind::NotFound => {
                Ok(futures_util::stream::iter(log::read(&folder, lines).into_iter().map(Ok)).boxed())
            }
            Err(error) => Err(error),
        }
    }

    async fn container_stop(&self, id: &str, patience: Duration) -> Result<()> {
        let operation = "stop container";
        match self.ask(operation, id, &Request::Signal(nix::libc::SIGTERM)).await {
            // It has ended already.
            Err(error) if error.kind == ErrorKind::NotFound && self.store.container(id).is_dir() => return Ok(()),
            asked => drop(asked?),
        }
        if tokio::time::timeout(patience, self.container_wait(id, true)).await.is_err() {
            self.ask(operation, id, &Request::Signal(nix::libc::SIGKILL)).await?;
            let _ = tokio::time::timeout(ANSWER, self.container_wait(id, true)).await;
        }
        Ok(())
    }

    async fn container_pause(&self, id: &str, paused: bool) -> Result<()> {
        let operation = if paused { "pause container" } else { "unpause container" };
        self.container(operation, id)?;
        let groups = self.groups_of(id);
        cgroup::freeze(&groups, paused).map_err(broken(operation, id))?;
        for _ in 0..PAUSES {
            if cgroup::is_frozen(&groups) == paused {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(failure(operation, id, ErrorKind::Deadline, "its processes do not stop"))
    }

    async fn container_download(&self, id: &str, path: &str) -> Result<BoxStream<'static, Result<Bytes>>> {
        let operation = "copy files out of";
        let connection = self.helper(operation, id, Task::Pack(path.to_owned())).await?;
        let (frames, input) = connection.split();
        drop(input);
        let (id, mut said) = (id.to_owned(), Vec::new());
        let pieces = frames.filter_map(move |frame| {
            let piece = match frame {
                Ok(Frame::Stdout(bytes)) => Some(Ok(bytes)),
                Ok(Frame::Stderr(bytes)) => {
                    said.extend_from_slice(&bytes);
                    None
                }
                Ok(Frame::Exit(0)) => None,
                Ok(Frame::Exit(_)) => Some(Err(helper_failed(&said, operation, &id))),
                Err(error) => Some(Err(broken(operation, &id)(error))),
            };
            std::future::ready(piece)
        });
        Ok(pieces.boxed())
    }

    async fn container_remove(&self, id: &str) -> Result<Removal> {
        let operation = "remove container";
        let Ok(folder) = self.container(operation, id) else { return Ok(Removal::WasGone) };
        let groups = self.groups_of(id);
        if cgroup::is_frozen(&groups) {
            // What is frozen does not die in the first version.
            let _ = cgroup::freeze(&groups, false);
        }
        if self.ask(operation, id, &Request::Signal(nix::libc::SIGKILL)).await.is_ok()
            && tokio::time::timeout(ANSWER, self.container_wait(id, true)).await.is_err()
        {
            return Err(failure(operation, id, ErrorKind::Deadline, "its first process does not end"));
        }
        self.clear(id, folder).await.map_err(broken(operation, id))?;
        lock(&self.lifelines).remove(id);
        Ok(Removal::Removed)
    }

    async fn exec(&self, id: &str, spec: &ExecSpec) -> Result<(String, Streams)> {
        let operation = "run command in container";
        let Record { plan, .. } = self.record(operation, id)?;
        let refused = |why: String| failure(operation, id, ErrorKind::Other, why);
        let account = match &spec.user {
            Some(user) => plan::account(user).map_err(refused)?,
            None => plan.process.account,
        };
        if matches!(plan.mapping, Mapping::One(_)) && account != plan.process.account {
            return Err(refused(format!("user {}: without root, a container has one user", account.user)));
        }
        let process = plan::Process {
            command: spec.command.clone(),
            env: Self::variables(&plan, spec),
            account,
            workdir: spec.workdir.clone().unwrap_or(plan.process.workdir),
            tty: spec.tty,
        };
        let folder = self.container(operation, id)?;
        let asked = async {
            let mut connection = Connection::open(&folder, &Request::Exec(Task::Command(process))).await?;
            let reply = connection.reply().await?;
            Ok((connection, reply))
        };
        let (connection, reply) = tokio::time::timeout(ANSWER, asked)
            .await
            .map_err(|_| failure(operation, id, ErrorKind::Deadline, "the container's shim does not answer"))?
            .map_err(broken(operation, id))?;
        let number = match reply {
            Reply::Exec(number) => number,
            Reply::Failed { kind, message } => return Err(failure(operation, id, kind, message)),
            _ => return Err(refused("the shim gave an unexpected answer".into())),
        };
        let (frames, input) = connection.split();
        let exec = format!("{id}/{number}");
        let (exits, key) = (self.exits.clone(), exec.clone());
        let noted = frames.inspect(move |frame| {
            if let Ok(Frame::Exit(code)) = frame {
                lock(&exits).insert(key.clone(), i64::from(*code));
            }
        });
        Ok((exec, Streams { output: outputs(noted.boxed(), "read from command", id), input: Box::pin(input) }))
    }

    async fn exec_resize(&self, exec: &str, size: TerminalSize) -> Result<()> {
        let (id, number) = exec.rsplit_once('/').unwrap_or((exec, ""));
        let request = Request::ResizeExec(number.parse().unwrap_or(u64::MAX), size);
        self.ask("resize terminal of", id, &request).await.map(drop)
    }

    async fn exec_exit_code(&self, exec: &str) -> Result<i64> {
        Ok(lock(&self.exits).remove(exec).unwrap_or(-1))
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<Object>> {
        let all = self.store.labelled().into_iter().filter_map(|(name, labels)| {
            let identity = store::identity(&name, &labels)?;
            Some(Object { id: name.clone(), name, identity })
        });
        let fits = |object: &Object| match filter {
            Filter::Session(session) => object.identity.session == *session,
            Filter::Owner(owner) => object.identity.owner == *owner,
        };
        Ok(all.filter(fits).collect())
    }
}

impl NativeEngine {
    /// Makes a container that has ended ready to be started again, from its image as it is.
    async fn revive(&self, operation: &'static str, id: &str) -> Result<()> {
        let folder = self.container(operation, id)?;
        if !folder.join(shim::END).exists() {
            return Ok(());
        }
        let _turn = self.creating.lock().await;
        let fresh = || -> std::io::Result<()> {
            let mut setup: Setup = store::read(&folder.join(SETUP))?;
            if setup.plan.beside.is_none() {
                setup.beside = setup.plan.networks.first().and_then(|network| self.on_network(network));
            }
            store::write(&folder.join(SETUP), &setup)?;
            for file in [protocol::SOCKET, shim::FIRST_PROCESS, shim::END] {
                std::fs::remove_file(folder.join(file)).or_else(|error| match error.kind() {
                    Io::NotFound => Ok(()),
                    _ => Err(error),
                })?;
            }
            make_layers(&folder)
        };
        fresh().map_err(broken(operation, id))?;
        self.start_shim(id, &folder).await.map_err(|why| failure(operation, id, ErrorKind::Other, why))
    }

    /// The first process of a container that is on a network.
    fn on_network(&self, network: &str) -> Option<i32> {
        let containers = self.store.labelled().into_iter().map(|(name, _)| name);
        let mut on = containers.filter(|name| {
            let record: std::io::Result<Record> = store::read(&self.store.container(name).join("record.json"));
            record.is_ok_and(|record| record.plan.networks.first().is_some_and(|first| first == network))
        });
        on.find_map(|name| {
            let first = self.first_process(&name).ok()?;
            // A number that another process has by now is in none of the container's groups.
            cgroup::processes(&self.groups_of(&name)).contains(&first).then_some(first)
        })
    }

    /// The source of connections on a network, and its range's mask. The one address of a range that is assigned is egress', so
    /// that whoever it connects to sees it as on other engines.
    fn addresses(&self, network: &str) -> std::io::Result<(std::net::Ipv4Addr, std::net::Ipv4Addr)> {
        let NetworkRecord { subnet, .. } = store::read(&self.store.network(network))?;
        Ok(((u32::from(subnet.network()) + 2).into(), subnet.netmask()))
    }

    fn first_process(&self, container: &str) -> Result<i32> {
        let operation = "join the network of";
        let none = || failure(operation, container, ErrorKind::NotFound, "it does not run");
        store::read(&self.container(operation, container)?.join(shim::FIRST_PROCESS)).map_err(|_| none())
    }
}

/// What this engine cannot do yet, and what can.
const NO_IMAGES: &str = "the native engine runs bottler's own images only; an image or a Dockerfile needs Docker or Podman (--engine docker)";

/// Makes the folders that an overlay is mounted by, empty.
fn make_layers(container: &Path) -> std::io::Result<()> {
    for name in ["upper", "work", "root"] {
        let folder = container.join(name);
        remove_tree(&folder)?;
        std::fs::create_dir(&folder)?;
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// Fills the folder of a container.
fn fill(new: &Path, setup: &Setup, record: &Record) -> std::io::Result<()> {
    let Plan { hosts, resolver, hostname, image, .. } = &setup.plan;
    for (name, content) in
        [("hosts", hosts.as_str()), ("resolv.conf", resolver), ("hostname", &format!("{hostname}\n"))]
    {
        std::fs::write(new.join(name), content)?;
        std::fs::set_permissions(new.join(name), std::fs::Permissions::from_mode(0o644))?;
    }
    make_layers(new)?;
    // By a link: the options of a mount have no room for every path.
    symlink(image, new.join("image"))?;
    store::write(&new.join(SETUP), setup)?;
    store::write(&new.join("record.json"), record)
}

/// What a helper that has ended has said.
fn finish(frames: Vec<std::io::Result<Frame>>, operation: &'static str, id: &str) -> Result<()> {
    let mut said = Vec::new();
    for frame in frames {
        match frame.map_err(broken(operation, id))? {
            Frame::Stderr(bytes) => said.extend_from_slice(&bytes),
            Frame::Exit(0) => return Ok(()),
            Frame::Exit(_) => break,
            Frame::Stdout(_) => {}
        }
    }
    Err(helper_failed(&said, operation, id))
}

fn helper_failed(said: &[u8], operation: &'static str, id: &str) -> EngineError {
    let why = String::from_utf8_lossy(said).trim().trim_start_matches("bottler: ").to_owned();
    let kind = if why.contains("No such file") { ErrorKind::NotFound } else { ErrorKind::Other };
    failure(operation, id, kind, if why.is_empty() { "the helper ended without a word".into() } else { why })
}
