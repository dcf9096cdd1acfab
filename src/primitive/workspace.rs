//! The workspace on the engine: a volume that the seed goes into before the agent starts, and that is read after its end,
//! or beside it, by a container that never starts; or a folder of the host, mounted.

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
    /// What the workspace begins with; read once, from the first time it is asked for.
    pub fn seed(self: &Arc<Self>) -> Option<Pending<Arc<Seed>>> {
        let source = self.host.workspace.clone()?;
        let begin = || match source {
            WorkspaceSource::Given(seed) | WorkspaceSource::KeptWorkspace(seed) => {
                Pending::detached(Box::pin(std::future::ready(Ok::<_, Failure>(seed))))
            }
            WorkspaceSource::Shared(seed) => seed,
            WorkspaceSource::Folder { root, exclude, staging } => {
                self.effect("copy workspace".into(), None, async move {
                    let work = tokio::task::spawn_blocking(move || {
                        let archive = staging.join(SEED_FILE);
                        let copied = copy(&root, &exclude, &staging, &archive);
                        copied.map(|()| archive).map_err(|error| (root, error))
                    });
                    match work.await {
                        Ok(Ok(archive)) => Ok(Arc::new(Seed::Archive(archive))),
                        Ok(Err((root, error))) => {
                            let message = format!("copy the workspace {}: {error}", root.display());
                            Err(Failure::new(Class::Input, message).hint("name less of it in workspace.exclude"))
                        }
                        Err(error) => Err(Failure::new(Class::Internal, format!("copy the workspace: {error}"))),
                    }
                })
            }
        };
        Some(self.seed.get_or_init(begin).clone())
    }

    /// The same, where it has been read already.
    pub async fn seed_now(&self) -> Option<Arc<Seed>> {
        self.seed.get()?.get().await.ok()
    }

    /// The name of the workspace's volume.
    pub fn workspace_volume(&self) -> String {
        workspace_volume(&self.session.id)
    }
}

/// A folder of the host in the agent's container: as a whole, and the places that the host executes over it, read-only.
///
/// # Errors
/// The engine is elsewhere, the folder is none, or a place cannot be masked.
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
    // Other bottles make and remove the same places.
    let _held = match &bottle.host.staging {
        Some(directory) => Some(placeholder::lock(directory).map_err(|error| failed(&root, &error))?),
        None => None,
    };
    let own = is_repository(&root.join(".git")) || root.join(".git").is_file();
    for (name, kind) in MASKED.into_iter().chain((!own).then_some(MASKED_HEAD)) {
        let place = root.join(name);
        match std::fs::symlink_metadata(&place) {
            Ok(seen) if seen.is_symlink() => {
                return Err(failed(&place, &"it is a link, and cannot be kept from the agent where it leads")
                    .hint("workspace: {mode: copy}, or take the link away"));
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

/// What the agent left in its workspace, a volume, once it has ended; `None` where it has none of its own.
///
/// # Errors
/// The engine refuses, or there is more than the bounds allow.
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

/// What a workspace began with.
///
/// # Errors
/// It cannot be read.
pub async fn before(seed: Arc<Seed>) -> Result<Arc<Snapshot>, Failure> {
    let read = tokio::task::spawn_blocking(move || seed.read()).await;
    let failed = |why: &dyn std::fmt::Display| {
        Failure::new(Class::Internal, format!("read what the workspace began with: {why}"))
    };
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

/// Reads a workspace: into a file without a name in a folder of this disk, and what is in it. While an agent works at it,
/// files may be read half changed; nothing is read that is not below the workspace: the engine reads within the container's
/// own root.
///
/// # Errors
/// The engine refuses, the answer is cut short, or there is more than the bounds allow.
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
    let files = tokio::task::spawn_blocking(move || read(archive, WORKSPACE, Some(&before))).await;
    files.map_err(|error| failed(&error))?.map_err(|error| failed(&error))
}

/// A container that is only there to be looked into.
fn idle(name: String, image: String, volume: String, identity: Identity) -> ContainerSpec {
    ContainerSpec {
        mounts: vec![VolumeMount { volume, target: WORKSPACE.into(), read_only: true }],
        ..unstarted(name, image, identity)
    }
}
