//! The workspace on the engine: a volume that is filled from the seed before the agent starts, and that is read after
//! its end, or meanwhile, through a container that never starts; or a mounted folder of the host.

use std::path::Path;
use std::sync::Arc;

use futures_util::StreamExt;

use super::bottle::Bottle;
use super::handle::WorkspaceSource;
use super::image::self_image;
use super::unstarted::unstarted;
use crate::engine::labels::{Identity, Kind};
use crate::engine::{Bind, ContainerSpec, Engine, VolumeMount};
use crate::layout::agent::WORKSPACE;
use crate::plan::WorkspacePlan;
use crate::session::kept_workspace::workspace_volume;
use crate::session::{Class, Failure, Pending, placeholder};
use crate::workspace::{MASKED, MASKED_HEAD, MAX_ARCHIVE, MaskKind, Seed, Snapshot, Spool, copy, is_repository, read};

/// The seed's name in a bottle's directory.
pub const SEED_FILE: &str = "workspace.tar";

impl Bottle {
    /// The workspace's seed. It is read once, on the first call.
    pub fn seed(self: &Arc<Self>) -> Option<Pending<Arc<Seed>>> {
        let source = self.host.workspace.clone()?;
        let begin = || match source {
            WorkspaceSource::Given(seed) | WorkspaceSource::KeptWorkspace(seed) => {
                Pending::detached(Box::pin(std::future::ready(Ok::<_, Failure>(seed))))
            }
            WorkspaceSource::Shared(seed) => seed,
            WorkspaceSource::Folder { root, exclude, staging } => {
                self.effect("copy workspace".into(), None, async move {
                    let work = crate::task::blocking(move || {
                        let archive = staging.join(SEED_FILE);
                        let copied = copy(&root, &exclude, &staging, &archive);
                        copied.map(|()| archive).map_err(|error| (root, error))
                    });
                    match work.await {
                        Ok(Ok(archive)) => Ok(Arc::new(Seed::Archive(archive))),
                        Ok(Err((root, error))) => {
                            let message = format!("copy the workspace {}: {error}", root.display());
                            Err(Failure::new(Class::Input, message).hint("exclude more of it with workspace.exclude"))
                        }
                        Err(error) => Err(Failure::new(Class::Internal, format!("copy the workspace: {error}"))),
                    }
                })
            }
        };
        Some(self.seed.get_or_init(begin).clone())
    }

    /// The seed, if it has been read already.
    pub async fn seed_now(&self) -> Option<Arc<Seed>> {
        self.seed.get()?.get().await.ok()
    }

    /// The name of the workspace's volume.
    pub fn workspace_volume(&self) -> String {
        workspace_volume(&self.session.id)
    }
}

/// Mounts of a host folder into the agent's container: the folder itself and, on top of it, read-only mounts of the
/// paths that the host executes.
///
/// # Errors
/// The engine is on another machine, the path is not a folder, or a path cannot be masked.
pub(super) fn mounts(bottle: &Bottle, plan: &WorkspacePlan) -> Result<Vec<Bind>, Failure> {
    let failed = |path: &Path, why: &dyn std::fmt::Display| {
        Failure::new(Class::Input, format!("mount the workspace: {}: {why}", path.display()))
    };
    let Some(root) = &plan.source else { return Ok(Vec::new()) };
    if !bottle.host.local {
        return Err(failed(root, &"the engine is on another machine").hint("workspace: {mode: copy}"));
    }
    let root = root.canonicalize().map_err(|error| failed(root, &error))?;
    let text = |path: &Path| {
        let text = path.to_str().map(str::to_owned);
        text.ok_or_else(|| failed(path, &"it is not a UTF-8 name"))
    };
    let mut binds = vec![Bind { source: text(&root)?, target: plan.path.clone(), read_only: plan.read_only }];
    if plan.read_only {
        return Ok(binds);
    }
    // Other bottles create and remove the same placeholders.
    let _held = match &bottle.host.staging {
        Some(directory) => Some(placeholder::lock(directory).map_err(|error| failed(&root, &error))?),
        None => None,
    };
    let own = is_repository(&root.join(".git")) || root.join(".git").is_file();
    for (name, kind) in MASKED.into_iter().chain((!own).then_some(MASKED_HEAD)) {
        let place = root.join(name);
        match std::fs::symlink_metadata(&place) {
            Ok(seen) if seen.is_symlink() => {
                return Err(failed(&place, &"it is a symbolic link, whose target cannot be masked")
                    .hint("workspace: {mode: copy}, or remove the link"));
            }
            Ok(_) => {
                if let Some(directory) = &bottle.host.staging
                    && placeholder::belongs_to_another(directory, &place)
                {
                    placeholder::note(directory, &place).map_err(|error| failed(&place, &error))?;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if let Some(directory) = &bottle.host.staging {
                    placeholder::note(directory, &place).map_err(|error| failed(&place, &error))?;
                }
                let made = match kind {
                    MaskKind::File => std::fs::File::create_new(&place).map(drop),
                    MaskKind::Folder => std::fs::create_dir(&place),
                };
                made.map_err(|error| failed(&place, &error))?;
            }
            Err(error) => return Err(failed(&place, &error)),
        }
        let target = format!("{}/{name}", plan.path);
        binds.push(Bind { source: text(&place)?, target, read_only: true });
    }
    Ok(binds)
}

/// Reads the workspace volume after the agent has ended; `None` if the agent has no workspace volume.
///
/// # Errors
/// The engine refuses, or a limit is exceeded.
pub async fn collect(bottle: &Arc<Bottle>, volume: Option<String>) -> Result<Option<Snapshot>, Failure> {
    let (Some(volume), Some(seed)) = (volume, bottle.seed()) else { return Ok(None) };
    let reader = Reader {
        identity: bottle.session.identity(Kind::Sidecar),
        name: bottle.name("workspace-reader"),
        image: self_image(bottle, None).get().await?.tag.clone(),
        volume,
    };
    let folder = bottle.host.staging.clone().unwrap_or_else(std::env::temp_dir);
    let before = before(seed.get().await?).await?;
    left(&bottle.session.engine, reader, &folder, &before).await.map(Some)
}

/// Reads the seed of a workspace.
///
/// # Errors
/// It cannot be read.
pub async fn before(seed: Arc<Seed>) -> Result<Arc<Snapshot>, Failure> {
    let read = crate::task::blocking(move || seed.read()).await;
    let failed =
        |why: &dyn std::fmt::Display| Failure::new(Class::Internal, format!("read the workspace's seed: {why}"));
    Ok(Arc::new(read.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?))
}

/// A container that never starts, and the volume that is read through it.
pub struct Reader {
    /// Its labels.
    pub identity: Identity,
    /// Its name.
    pub name: String,
    /// The image of the running executable.
    pub image: String,
    /// The volume.
    pub volume: String,
}

/// Reads a workspace into an unnamed file in a folder of this machine, and parses it. Files may be inconsistent if
/// the agent is still working. Nothing outside the workspace is read, because the engine reads within the container's
/// root.
///
/// # Errors
/// The engine refuses, the archive is truncated, or a limit is exceeded.
pub async fn left(
    engine: &Arc<dyn Engine>,
    reader: Reader,
    folder: &Path,
    before: &Arc<Snapshot>,
) -> Result<Snapshot, Failure> {
    let volume = reader.volume.clone();
    let failed = |why: &dyn std::fmt::Display| {
        Failure::new(Class::Operation, format!("read the workspace {volume} into {}: {why}", folder.display()))
    };
    let spec = idle(reader.name.clone(), reader.image.clone(), reader.volume.clone(), reader.identity.clone());
    let id = engine.container_create(&spec).await?;
    let read_all = async {
        let mut spool = Spool::in_folder(folder).map_err(|error| failed(&error))?;
        let mut pieces = engine.container_download(&id, WORKSPACE).await?;
        while let Some(piece) = pieces.next().await {
            spool.write(&piece?, MAX_ARCHIVE).map_err(|error| failed(&error))?;
        }
        spool.end().map_err(|error| failed(&error))
    };
    let spooled = read_all.await;
    engine.container_remove(&id).await?;
    let (archive, before) = (spooled?, before.clone());
    let files = crate::task::blocking(move || read(archive, WORKSPACE, Some(&before))).await;
    files.map_err(|error| failed(&error))?.map_err(|error| failed(&error))
}

/// A container that is only used to read its volume.
fn idle(name: String, image: String, volume: String, identity: Identity) -> ContainerSpec {
    ContainerSpec {
        mounts: vec![VolumeMount { volume, target: WORKSPACE.into(), read_only: true }],
        ..unstarted(name, image, identity)
    }
}
