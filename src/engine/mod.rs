//! The container engine: what the core needs of one, and the two that give it.
//!
//! Only [`docker`] names bollard. [`fake`] is an in-memory world for tests and `lua check`.

pub mod choice;
pub mod docker;
mod error;
pub mod fake;
pub mod labels;
pub mod native;
mod spec;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use ipnet::Ipv4Net;

pub use error::{EngineError, ErrorKind};
pub use spec::*;

/// Our seccomp profile in Docker's JSON form, compiled in; see the file for what it leaves out.
const SECCOMP: &str = include_str!("seccomp.json");

/// The answer to an engine call.
pub type Result<T> = std::result::Result<T, EngineError>;

/// An uncompressed tar archive, in pieces.
pub type Archive = BoxStream<'static, std::io::Result<Bytes>>;

/// An archive that is in memory already.
pub fn whole(tar: Bytes) -> Archive {
    futures_util::stream::once(std::future::ready(Ok(tar))).boxed()
}

/// Told each line of an engine's progress.
pub type Progress<'a> = dyn Fn(&str) + Send + Sync + 'a;

/// What to list.
#[derive(Debug, Clone)]
pub enum Filter {
    /// One bottle's objects.
    Session(String),
    /// The objects of every bottle of one owner.
    Owner(String),
}

/// The operations the core is made of. Every call ends within the deadline of its class, or says so; removals are
/// idempotent; nothing is named by label alone.
#[async_trait]
pub trait Engine: Send + Sync {
    /// Negotiates the API version and tells what the engine is.
    async fn info(&self) -> Result<EngineInfo>;

    /// Tells what the engine runs on; after [`Engine::info`], which tells whose it is.
    async fn details(&self) -> Result<EngineDetails>;

    /// Whether a container on a network that is not internal reaches the world. Where it does not, a dialer connects for it.
    fn routes_outside(&self) -> bool {
        true
    }

    /// What the engine has under an image's reference, if anything.
    async fn image_find(&self, reference: &str) -> Result<Option<ImageFound>>;
    /// Makes an image of an archive, on top of another one or of nothing.
    async fn image_layer(&self, layer: &ImageLayer) -> Result<()>;
    /// Builds an image, telling each line of the engine's progress.
    async fn image_build(&self, build: &ImageBuild, progress: &Progress<'_>) -> Result<()>;
    /// Pulls an image by reference, telling each line of the engine's progress.
    async fn image_pull(&self, reference: &str, progress: &Progress<'_>) -> Result<()>;
    /// Whether it can make images of containers.
    fn commits(&self) -> bool {
        false
    }
    /// Makes an image of what a container has written; its id.
    async fn image_commit(&self, commit: &ImageCommit) -> Result<String> {
        let (operation, object) = ("make an image of", commit.container.clone());
        let message = "this engine makes no images of containers".to_owned();
        Err(EngineError { operation, object, kind: ErrorKind::Other, message })
    }
    /// The references of all cached images.
    async fn image_cache(&self) -> Result<Vec<String>>;
    /// Removes an image by reference.
    async fn image_remove(&self, tag: &str) -> Result<Removal>;

    /// Creates a network; its id.
    async fn network_create(&self, spec: &NetworkSpec) -> Result<String>;
    /// Disconnects whatever is left on a network and removes it.
    async fn network_remove(&self, id: &str) -> Result<Removal>;
    /// The address ranges of all the engine's networks.
    async fn subnets(&self) -> Result<Vec<Ipv4Net>>;

    /// Creates a volume.
    async fn volume_create(&self, spec: &VolumeSpec) -> Result<()>;
    /// Refuses a volume that this user's containers could not use.
    async fn volume_check(&self, _name: &str) -> Result<()> {
        Ok(())
    }
    /// Removes a volume.
    async fn volume_remove(&self, name: &str) -> Result<Removal>;

    /// The SHA-256 of what a loader reads of the running executable, in hexadecimal, where the engine has it.
    fn executable_digest(&self) -> Option<String> {
        None
    }

    /// Creates a container; its id. An engine may go on with it in the background: what is asked of the container waits for that, and
    /// says why it failed.
    async fn container_create(&self, spec: &ContainerSpec) -> Result<String>;
    /// Waits until a container that was created can be used, also by other processes.
    async fn container_settled(&self, _id: &str) -> Result<()> {
        Ok(())
    }
    /// Opens a container's streams; before its start, nothing it writes is missed.
    async fn container_attach(&self, id: &str) -> Result<Streams>;
    /// Starts a container.
    async fn container_start(&self, id: &str) -> Result<()>;
    /// Waits until a container has ended; its exit code. No deadline. Called before the start, it cannot miss it; of one
    /// that may have ended already, ask with `started`.
    async fn container_wait(&self, id: &str, started: bool) -> Result<i64>;
    /// Unpacks an uncompressed tar archive into a container that has never run.
    async fn container_upload(&self, id: &str, tar: Archive) -> Result<()>;
    /// Tells a container on a terminal how large that is.
    async fn container_resize(&self, id: &str, size: TerminalSize) -> Result<()>;
    /// What a container is doing.
    async fn container_inspect(&self, id: &str) -> Result<ContainerState>;
    /// A running container's bounds, read from where its host enforces them.
    async fn container_bounds(&self, id: &str) -> Result<Bounds>;
    /// The last lines that a container wrote, or all that its log still has, oldest first; then, where that is asked for,
    /// what it goes on to write.
    async fn container_logs(
        &self,
        id: &str,
        lines: Option<usize>,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<Output>>>;
    /// Asks a container to end, and kills it when its patience is over.
    async fn container_stop(&self, id: &str, patience: Duration) -> Result<()>;
    /// Freezes a container's processes, or lets them go on.
    async fn container_pause(&self, id: &str, paused: bool) -> Result<()>;
    /// A file or folder of a container that has never run or has ended, as an uncompressed tar archive.
    async fn container_download(&self, id: &str, path: &str) -> Result<BoxStream<'static, Result<Bytes>>>;
    /// Kills and removes a container with its anonymous volumes.
    async fn container_remove(&self, id: &str) -> Result<Removal>;
    /// Starts a command in a container: the command's id and its streams.
    async fn exec(&self, id: &str, spec: &ExecSpec) -> Result<(String, Streams)>;
    /// Tells a command on a terminal how large that is.
    async fn exec_resize(&self, exec: &str, size: TerminalSize) -> Result<()>;
    /// The exit code of a command whose output has ended.
    async fn exec_exit_code(&self, exec: &str) -> Result<i64>;

    /// All of bottler's objects that fit, by label and name.
    async fn list(&self, filter: &Filter) -> Result<Vec<Object>>;
}
