//! What the core asks an engine for: plain data, the same for every engine.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use ipnet::Ipv4Net;
use tokio::io::AsyncWrite;

use super::error::EngineError;
use super::labels::Identity;

/// What the engine says of itself.
#[derive(Debug, Clone)]
pub struct EngineInfo {
    /// Its own version, for messages.
    pub version: String,
    /// The negotiated API version.
    pub api: String,
    /// Its architecture in Docker's words: `amd64`, `arm64`.
    pub arch: String,
    /// Its operating system: `linux`.
    pub os: String,
}

/// An engine's make.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Product {
    /// Docker Engine.
    #[default]
    Docker,
    /// Podman's service.
    Podman,
    /// bottler's own engine.
    Native,
}

/// What the engine says of what it runs on, where somebody wants to know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineDetails {
    /// Whose engine it is.
    pub product: Product,
    /// The container runtimes that it lists, by name.
    pub runtimes: BTreeMap<String, Runtime>,
    /// The one that it takes where nobody says otherwise.
    pub default_runtime: String,
    /// Whether it runs without root.
    pub rootless: bool,
    /// Whether it can filter system calls.
    pub seccomp: bool,
    /// How it stores images and containers: `overlay2`.
    pub storage: String,
    /// Its host's kernel.
    pub kernel: String,
    /// Its host's operating system, in words.
    pub system: String,
    /// Its host's processors.
    pub processors: i64,
    /// Its host's memory, in bytes.
    pub memory: i64,
    /// Its clock, as RFC 3339 has it.
    pub time: String,
}

/// A container runtime, as the engine lists it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Runtime {
    /// Its program.
    pub path: String,
    /// The arguments that the engine always gives it.
    pub arguments: Vec<String>,
}

/// The bounds of a running container, as its host enforces them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Memory, in bytes.
    pub memory: u64,
    /// Processes and threads.
    pub pids: u64,
}

/// An image that the engine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFound {
    /// Its id, which names its content.
    pub id: String,
    /// Commands that it wants run in every build on top of it.
    pub triggers: Vec<String>,
    /// What it runs where nobody says otherwise: entry point and arguments.
    pub command: Vec<String>,
    /// The user that it runs as; empty for root.
    pub user: String,
    /// The directory that it starts in; empty for `/`.
    pub workdir: String,
    /// The variables that its containers see where nobody says otherwise.
    pub env: BTreeMap<String, String>,
    /// Its size, in bytes, with what it shares with others.
    pub size: i64,
    /// What it is labelled with. Anybody can label an image.
    pub labels: BTreeMap<String, String>,
}

/// An image to make of an archive.
#[derive(Debug, Clone)]
pub struct ImageLayer {
    /// The reference it gets.
    pub tag: String,
    /// The id of the image below; nothing when absent.
    pub base: Option<String>,
    /// Its files: an uncompressed tar archive that keeps owners and modes.
    pub tar: Bytes,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// An image to build from a tar archive that holds a Dockerfile.
#[derive(Debug, Clone)]
pub struct ImageBuild {
    /// The reference it gets.
    pub tag: String,
    /// The build context: an uncompressed tar archive.
    pub context: Bytes,
    /// The Dockerfile's name in it.
    pub dockerfile: String,
    /// Values of the Dockerfile's `ARG`s.
    pub args: BTreeMap<String, String>,
    /// The stage to stop at; the last one when absent.
    pub target: Option<String>,
    /// Whether its commands have a network.
    pub network: bool,
    /// Whether every step is run, cached or not.
    pub no_cache: bool,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// An image to make of what a container has written.
#[derive(Debug, Clone)]
pub struct ImageCommit {
    /// The container.
    pub container: String,
    /// The id of the image whose configuration it gets.
    pub config_of: String,
    /// The reference it gets: `repository:tag`.
    pub reference: String,
    /// Variables in addition to that image's.
    pub env: BTreeMap<String, String>,
    /// Labels in addition to that image's.
    pub labels: BTreeMap<String, String>,
}

/// A network to create.
#[derive(Debug, Clone)]
pub struct NetworkSpec {
    /// Its name on the engine.
    pub name: String,
    /// Its address range.
    pub subnet: Ipv4Net,
    /// Where it leads nowhere else: the name of its bridge on the engine's host, which has no address on it.
    pub internal: Option<String>,
    /// Its labels.
    pub identity: Identity,
}

/// A volume to create.
#[derive(Debug, Clone)]
pub struct VolumeSpec {
    /// Its name on the engine.
    pub name: String,
    /// Whose it is, by numbers, where that is known: Docker takes what its first writer's image says, Podman what is said here,
    /// or else whoever mounts it first.
    pub owner: Option<(u32, u32)>,
    /// Whether it may be kept when its bottle has ended. One that may is on the disk before it is used; of another, nothing has to
    /// be left when this machine starts again.
    pub may_be_kept: bool,
    /// Its labels.
    pub identity: Identity,
}

/// A volume in a container.
#[derive(Debug, Clone)]
pub struct VolumeMount {
    /// The volume's name.
    pub volume: String,
    /// Where it is seen.
    pub target: String,
    /// Whether the container may write.
    pub read_only: bool,
}

/// A folder or file of the host in a container.
#[derive(Debug, Clone)]
pub struct Bind {
    /// Where it is on the engine's host; it must be there.
    pub source: String,
    /// Where it is seen.
    pub target: String,
    /// Whether the container may not write.
    pub read_only: bool,
}

/// A container's place on a network.
#[derive(Debug, Clone)]
pub struct Attachment {
    /// The network's name or id.
    pub network: String,
    /// Its address there.
    pub address: Ipv4Addr,
}

/// What a container may do to the network of the engine's host that it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostNetwork {
    /// Listen: no capability.
    Listen,
    /// Set the kernel's network settings, too: `CAP_NET_ADMIN`, as root, and nothing else.
    Configure,
    /// Connect, on behalf of a container that has no network: no capability, and the host's resolver.
    Dial,
}

/// Bounds on what a container may use.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Processor time, in processors.
    pub cpus: f64,
    /// Memory, in bytes; swap is off.
    pub memory: i64,
    /// Processes and threads.
    pub pids: i64,
}

/// The least that a container can be given: engines take 0 as no bound, and Docker refuses less memory than this.
const LEAST_MEMORY: i64 = 6 << 20;
/// The most that can be counted: processors are told to engines in billionths, and a kernel has no more processes.
const MOST_CPUS: f64 = 1e6;
const MOST_PIDS: i64 = 1 << 22;

impl Resources {
    /// Refuses what is no bound: an engine takes nothing, less than nothing and what it cannot count as no bound at all.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn check(&self) -> Result<(), String> {
        let Self { cpus, memory, pids } = self;
        // A bound that is not a number compares as false with everything.
        if !(*cpus >= 0.01 && *cpus <= MOST_CPUS) {
            return Err(format!("cpus: {cpus} is not from 0.01 to {MOST_CPUS}"));
        }
        if *memory < LEAST_MEMORY {
            return Err(format!("memory: {memory} bytes are less than {} MiB", LEAST_MEMORY >> 20));
        }
        if !(1..=MOST_PIDS).contains(pids) {
            return Err(format!("pids: {pids} is not from 1 to {MOST_PIDS}"));
        }
        Ok(())
    }

    /// Whether all of this is within `most`.
    pub fn is_within(&self, most: &Self) -> bool {
        self.cpus <= most.cpus && self.memory <= most.memory && self.pids <= most.pids
    }
}

/// A container to create. Everything an image could set is set here, because image metadata is hostile.
#[derive(Debug, Clone)]
pub struct ContainerSpec {
    /// Its name on the engine.
    pub name: String,
    /// The image's reference.
    pub image: String,
    /// The whole command: entry point and arguments.
    pub command: Vec<String>,
    /// `NAME=value`; no secret belongs here (it persists in inspect output).
    pub env: BTreeMap<String, String>,
    /// `uid:gid`.
    pub user: String,
    /// The working directory.
    pub workdir: String,
    /// Its host name.
    pub hostname: String,
    /// Names in its /etc/hosts.
    pub hosts: Vec<(String, String)>,
    /// Its networks; none at all when empty.
    pub networks: Vec<Attachment>,
    /// The only server that its resolver asks; the engine's own choice when absent, and none without a network.
    pub resolver: Option<Ipv4Addr>,
    /// Whether it is in the network of the engine's host, instead of any of its own.
    pub host_network: Option<HostNetwork>,
    /// The container whose network it is in, instead of any of its own; that one's names and resolver are its own, too.
    pub beside: Option<String>,
    /// Its volumes.
    pub mounts: Vec<VolumeMount>,
    /// Folders and files of the host, where the plan says so.
    pub binds: Vec<Bind>,
    /// Memory file systems: target and mount options.
    pub tmpfs: BTreeMap<String, String>,
    /// Whether its root file system may be written.
    pub read_only: bool,
    /// Files of its own that no process in it can write, move away or remove.
    pub fixed: Vec<String>,
    /// Whether the command is on a terminal.
    pub tty: bool,
    /// Whether stdin is open: until its first writer closes it, on a terminal always.
    pub stdin: bool,
    /// The runtime, where it is not the engine's default.
    pub runtime: Option<String>,
    /// Bytes of its own file system, where the engine's storage can bound it.
    pub disk: Option<i64>,
    /// Whether the engine removes it when it ends.
    pub auto_remove: bool,
    /// Whether it never starts, and files are only copied into it and out of it: then there is nothing to bound.
    pub never_starts: bool,
    /// What its root may do, by the names of capabilities(7) without `CAP_`; nothing where it is empty.
    pub capabilities: Vec<&'static str>,
    /// Its bounds.
    pub resources: Resources,
    /// Its labels.
    pub identity: Identity,
}

impl ContainerSpec {
    /// One that has nothing but its command: no network, no volume, no variable, nothing to write. What it is to have is said
    /// over this.
    pub fn closed(
        name: String,
        image: String,
        command: Vec<String>,
        user: String,
        resources: Resources,
        identity: Identity,
    ) -> Self {
        Self {
            name,
            image,
            command,
            env: BTreeMap::new(),
            user,
            workdir: "/".into(),
            hostname: String::new(),
            hosts: Vec::new(),
            networks: Vec::new(),
            resolver: None,
            host_network: None,
            beside: None,
            mounts: Vec::new(),
            binds: Vec::new(),
            tmpfs: BTreeMap::new(),
            read_only: true,
            fixed: Vec::new(),
            tty: false,
            stdin: false,
            runtime: None,
            disk: None,
            auto_remove: false,
            never_starts: false,
            capabilities: Vec::new(),
            resources,
            identity,
        }
    }
}

/// A command to run in a running container.
#[derive(Debug, Clone)]
pub struct ExecSpec {
    /// The command and its arguments.
    pub command: Vec<String>,
    /// `uid:gid`; the container's own when absent.
    pub user: Option<String>,
    /// `NAME=value`, added to the container's.
    pub env: Vec<String>,
    /// The working directory; the container's own when absent.
    pub workdir: Option<String>,
    /// Whether it is on a terminal.
    pub tty: bool,
}

impl ExecSpec {
    /// A command as the container's own user, without a terminal.
    pub fn plain(command: Vec<String>) -> Self {
        Self { command, user: None, env: Vec::new(), workdir: None, tty: false }
    }
}

/// What a container is doing.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct ContainerState {
    /// In the engine's word: `created`, `running`, `paused`, `exited`, `dead`.
    pub status: String,
    /// Where it has ended, with which code.
    pub exit_code: Option<i64>,
    /// Whether its first process was killed because its memory was used up.
    #[serde(skip)]
    pub out_of_memory: bool,
}

/// A piece of what a container or command wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// On standard output, or on the terminal.
    Stdout(Bytes),
    /// On standard error.
    Stderr(Bytes),
}

/// The open streams of a container or command.
pub struct Streams {
    /// What it writes.
    pub output: BoxStream<'static, Result<Output, EngineError>>,
    /// Its standard input; dropped or shut down, it sees the end.
    pub input: Pin<Box<dyn AsyncWrite + Send>>,
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TerminalSize {
    /// Columns.
    pub width: u16,
    /// Lines.
    pub height: u16,
}

/// What happened to a thing that was to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// It was there and is gone.
    Removed,
    /// It was not there.
    WasGone,
}

/// One object of bottler's on the engine: by label *and* name.
#[derive(Debug, Clone)]
pub struct Object {
    /// What removes it: a container's or network's id, a volume's name.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What its labels say.
    pub identity: Identity,
}
