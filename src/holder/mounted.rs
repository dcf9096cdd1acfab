//! A folder that is mounted: whether it may be, and what in it the host would execute that was not there before.

use std::path::{Path, PathBuf};

use super::{Executed, Launch};
use crate::engine::docker::endpoint::Endpoint;
use crate::plan::WorkspaceMode;
use crate::session::{Class, Failure};
use crate::workspace::{ExecutedPaths, ForbiddenPaths, refusal};

/// The folder that the agent may write in place.
fn folder(launch: &Launch) -> Option<PathBuf> {
    let workspace = launch.plan.workspace.as_ref()?;
    let writable = workspace.mode == WorkspaceMode::Mount && !workspace.read_only;
    workspace.source.clone().filter(|_| writable)
}

/// Refuses a folder that may not be mounted, be it to be read only: an engine's socket takes requests there, too.
///
/// # Errors
/// It may not, or cannot be found.
pub(super) fn check(launch: &Launch, state: &Path) -> Result<(), Failure> {
    let workspace = launch.plan.workspace.as_ref().filter(|workspace| workspace.mode == WorkspaceMode::Mount);
    let Some(source) = workspace.and_then(|workspace| workspace.source.as_deref()) else { return Ok(()) };
    check_mount(source, &launch.endpoint, state)
}

/// The same of a folder, by the engine's address and the state directory.
///
/// # Errors
/// It may not be mounted, or cannot be found.
pub fn check_mount(source: &Path, endpoint: &str, state: &Path) -> Result<(), Failure> {
    let failed = |why: &dyn std::fmt::Display| {
        Failure::new(Class::Input, format!("mount the workspace: {}: {why}", source.display()))
    };
    let root = source.canonicalize().map_err(|error| failed(&error))?;
    let socket = match endpoint.parse() {
        Ok(Endpoint::Unix(path)) => Some(path),
        _ => None,
    };
    match refusal(&root, &ForbiddenPaths::here(socket.as_deref(), state)) {
        None => Ok(()),
        Some(why) => Err(failed(&why).hint("mount a project's own folder, or work on a copy: omit --mount")),
    }
}

/// What the host executes of it now; why that is not known.
pub(super) async fn look(launch: &Launch) -> Option<Result<ExecutedPaths, String>> {
    let folder = folder(launch)?;
    let looked = tokio::task::spawn_blocking(move || ExecutedPaths::scan(&folder)).await;
    Some(looked.map_err(|error| error.to_string()).and_then(|places| places.map_err(|error| error.to_string())))
}

/// What it executes that has been made or changed since.
pub(super) async fn new_since(launch: &Launch, before: Option<Result<ExecutedPaths, String>>) -> Option<Executed> {
    let (before, after) = (before?, look(launch).await?);
    let folder = folder(launch)?;
    Some(match (before, after) {
        (Ok(before), Ok(after)) => {
            let (repositories, files): (Vec<_>, Vec<_>) =
                after.new_since(&before).into_iter().partition(|place| place.repository);
            let names = |places: Vec<crate::workspace::ExecutedPath>| {
                places.iter().map(|place| place.path.to_string_lossy().into_owned()).collect()
            };
            Executed { folder, repositories: names(repositories), files: names(files), unknown: None }
        }
        (Err(why), _) | (_, Err(why)) => {
            Executed { folder, repositories: Vec::new(), files: Vec::new(), unknown: Some(why) }
        }
    })
}
