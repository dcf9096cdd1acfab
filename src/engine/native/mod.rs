//! Containers by the kernel alone: no daemon, no bridge, and root only where the user is root.
//!
//! The pieces: [`store`] keeps objects as folders; [`plan`] turns what the core asks for into data; a shim for each container
//! ([`shim`]) starts its first process ([`child`]), which makes the namespaces and mounts and becomes the command. The engine in the
//! holder, the command line or the reaper talks to the shim over a socket.
//!
//! What this engine does not do is refused with the reason: images that are not bottler's own, builds, networks that lead somewhere
//! for a container, `isolation: bridge`.

mod answer;
mod cgroup;
pub mod child;
mod client;
mod create;
mod executable;
mod filter;
mod host;
mod image;
mod log;
mod mounts;
mod plan;
mod privileges;
mod protocol;
pub mod shim;
mod shims;
mod store;
mod subordinates;
mod sys;
pub mod trial;
mod user_namespace;
mod users;
mod volume;

use std::collections::{BTreeMap, HashMap};
use std::io::ErrorKind as Io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use ipnet::Ipv4Net;

use super::{
    Archive, Bounds, ContainerSpec, ContainerState, Engine, EngineDetails, EngineInfo, ErrorKind, ExecSpec, Filter,
    ImageBuild, ImageFound, ImageLayer, NetworkSpec, Object, Output, Progress, Removal, Result, Streams, TerminalSize,
    VolumeSpec,
};
use crate::sync::lock;
use answer::{broken, failure, finish, helper_failed, outputs};
use cgroup::Groups;
use client::Connection;
use plan::Plan;
pub use plan::preview;
use protocol::{Frame, Reply, Request, Task};
use shims::{Running, Shims};
use store::{End, NetworkRecord, Record, Store, is_name};
use users::Mapping;

/// What an engine's address of this kind begins with; the folder of its store follows.
pub const SCHEME: &str = "native:";
/// How long a shim may take to answer.
const ANSWER: Duration = Duration::from_secs(20);
/// Pauses while the kernel takes a container apart, and how many.
const PAUSE: Duration = Duration::from_millis(2);
const PAUSES: usize = 500;

/// What a bottle's own processes on the host start from: the copy of this executable in the store at an address. They share its pages
/// in memory, with the containers' shims. None for an address of another engine, or if the copy cannot be made.
pub fn executable(endpoint: &str) -> Option<PathBuf> {
    if !endpoint.starts_with(SCHEME) {
        return None;
    }
    NativeEngine::open(endpoint).ok()?.executable().ok()
}

/// The engine.
pub struct NativeEngine {
    root: PathBuf,
    store: Store,
    groups: std::result::Result<Groups, String>,
    /// The containers that this process made.
    shims: Arc<Shims>,
    /// Whether containers may be without bounds.
    best_effort_bounds: bool,
    /// What shims are started from.
    executable: PathBuf,
    /// Whether containers can have users of their own, once that has been tried.
    has_users: OnceLock<bool>,
    /// How an ordinary user's containers have several users, where they can.
    delegated: OnceLock<Option<Mapping>>,
    /// Held while files are copied out of a container that has ended.
    copying: Arc<tokio::sync::Mutex<()>>,
    /// Held while a container that is on a network is created.
    creating: tokio::sync::Mutex<()>,
    /// Exit codes of commands beside containers' own, by the ids that were given out.
    exits: Arc<Mutex<HashMap<String, i64>>>,
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
            best_effort_bounds: false,
            executable: "/proc/self/exe".into(),
            has_users: OnceLock::new(),
            delegated: OnceLock::new(),
            copying: Arc::default(),
            shims: Arc::default(),
            creating: tokio::sync::Mutex::default(),
            exits: Arc::default(),
        })
    }

    /// Starts shims from another executable of bottler's than this process': for programs that only use this library.
    #[must_use]
    pub fn with_executable(self, executable: PathBuf) -> Self {
        Self { executable, ..self }
    }

    /// Makes containers without bounds where this user may make no control groups.
    #[must_use]
    pub fn with_best_effort_bounds(self) -> Self {
        Self { best_effort_bounds: true, ..self }
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

    /// The control groups of a container: where they were made, which may not be where this process' own are.
    fn groups_of(&self, id: &str) -> Vec<(String, PathBuf)> {
        match store::read(&self.store.container(id).join(child::SETUP)) {
            Ok(child::Grouped { groups }) => groups,
            Err(_) => self.groups.as_ref().map(|groups| groups.of(id)).unwrap_or_default(),
        }
    }

    async fn ask(&self, operation: &'static str, id: &str, request: &Request) -> Result<Connection> {
        Ok(self.ask_for(operation, id, request).await?.0)
    }

    /// The same with the answer.
    async fn ask_for(&self, operation: &'static str, id: &str, request: &Request) -> Result<(Connection, Reply)> {
        self.settle(id).await?;
        let folder = self.container(operation, id)?;
        let asked = async {
            let mut connection = Connection::open(&folder, request).await?;
            match connection.reply().await? {
                Reply::Failed { kind, message } => Ok(Err(failure(operation, id, kind, message))),
                reply => Ok(Ok((connection, reply))),
            }
        };
        match tokio::time::timeout(ANSWER, asked).await {
            Ok(answer) => answer.map_err(broken(operation, id))?,
            Err(_) => Err(failure(operation, id, ErrorKind::Deadline, "the container's shim does not answer")),
        }
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
        Ok(host::details())
    }

    fn routes_outside(&self) -> bool {
        false
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
        let own = self.executable().map_err(broken(operation, &tag))?;
        let made = crate::task::blocking(move || {
            let made = store.create(&store.image(&id), |new| {
                let files = new.join("files");
                std::fs::DirBuilder::new().mode(0o755).create(&files)?;
                let owners = host::is_privileged();
                let config = image::unpack(layer.tar.as_ref(), &files, owners)?;
                Self::share(&layer.tar, &files, &own)?;
                // Once for an image: half of it after a power loss would be every launch's image from then on.
                rustix::fs::syncfs(std::fs::File::open(&files)?)?;
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
        store::note(&path, &record).map_err(broken(operation, &spec.name))?;
        Ok(spec.name.clone())
    }

    async fn network_remove(&self, id: &str) -> Result<Removal> {
        // A bottle's networks go last: by now, who was killed while it removed something has ended.
        self.store.sweep();
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
        self.make_volume(spec)
    }

    async fn volume_check(&self, name: &str) -> Result<()> {
        self.check_volume(name)
    }

    async fn volume_remove(&self, name: &str) -> Result<Removal> {
        self.remove_volume(name).await
    }

    async fn container_create(&self, spec: &ContainerSpec) -> Result<String> {
        self.create(spec).await
    }

    fn executable_digest(&self) -> Option<String> {
        self.own_digest()
    }

    async fn container_settled(&self, id: &str) -> Result<()> {
        self.settle(id).await
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
        self.settle(id).await?;
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
        self.settle(id).await?;
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
        self.settle(id).await?;
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
            // An agent can keep its shim from answering, but not from ending.
            Err(error) if error.kind == ErrorKind::Deadline => cgroup::kill_all(&self.groups_of(id)),
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
        self.settle(id).await?;
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
        self.settle(id).await?;
        let folder = self.container(operation, id)?;
        let has_ended = folder.join(shim::END).exists() || Connection::open(&folder, &Request::State).await.is_err();
        // For as long as the copy is read.
        let opened = if has_ended {
            let turn = self.copying.clone().lock_owned().await;
            // Of a container whose shim was killed, something may be left.
            cgroup::kill_all(&self.groups_of(id));
            let copy = self.start_copy(&folder).await;
            Some((turn, copy.map_err(|why| failure(operation, id, ErrorKind::Other, why))?))
        } else {
            None
        };
        let connection = self.helper(operation, id, Task::Pack(path.to_owned())).await?;
        let (frames, input) = connection.split();
        drop(input);
        let closed = futures_util::stream::once(async move {
            if let Some((turn, Running { lifeline, child: mut shim })) = opened {
                drop(lifeline);
                // Its end is bounded by the kernel's: everything in it is being killed.
                let _ = shim.wait().await;
                drop(turn);
            }
            None
        });
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
        Ok(pieces.chain(closed.filter_map(std::future::ready)).boxed())
    }

    async fn container_remove(&self, id: &str) -> Result<Removal> {
        let operation = "remove container";
        // One whose shim has failed is gone.
        let _ = self.settle(id).await;
        let Ok(folder) = self.container(operation, id) else {
            // A shim that was killed while it removed itself has left the rest in `new/`.
            self.store.sweep();
            self.shims.forget(id);
            return Ok(Removal::WasGone);
        };
        // Before its shim is asked, which may be waiting for one of them.
        cgroup::kill_all(&self.groups_of(id));
        if self.ask(operation, id, &Request::Signal(nix::libc::SIGKILL)).await.is_ok()
            && tokio::time::timeout(ANSWER, self.container_wait(id, true)).await.is_err()
        {
            return Err(failure(operation, id, ErrorKind::Deadline, "its first process does not end"));
        }
        self.clear(id, folder).await.map_err(broken(operation, id))?;
        // Its shim may have begun to remove it, and have been killed.
        self.store.sweep();
        self.shims.forget(id);
        Ok(Removal::Removed)
    }

    async fn exec(&self, id: &str, spec: &ExecSpec) -> Result<(String, Streams)> {
        let operation = "run command in container";
        if let Ok(groups) = &self.groups {
            groups.prepare();
        }
        let Record { plan, .. } = self.record(operation, id)?;
        let refused = |why: String| failure(operation, id, ErrorKind::Other, why);
        let account = match &spec.user {
            Some(user) => plan::account(user).map_err(refused)?,
            None => plan.process.account,
        };
        if !plan.mapping.has_users() && account != plan.process.account {
            return Err(refused(format!("user {}: without root, a container has one user", account.user)));
        }
        if plan.mapping != Mapping::Host && plan.mapping.has_users() && !users::has(account) {
            return Err(refused(format!("user {}: a container's users are below {}", account.user, users::COUNT)));
        }
        let process = plan::Process {
            command: spec.command.clone(),
            env: Self::variables(&plan, spec),
            account,
            workdir: spec.workdir.clone().unwrap_or(plan.process.workdir),
            tty: spec.tty,
        };
        let request = Request::Exec(Task::Command(process));
        let (connection, reply) = self.ask_for(operation, id, &request).await?;
        let Reply::Exec(number) = reply else { return Err(refused("the shim gave an unexpected answer".into())) };
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

/// What this engine cannot do yet, and what can.
const NO_IMAGES: &str = "the native engine runs bottler's own images only; an image or a Dockerfile needs Docker or Podman (--engine docker)";
