//! A mounted workspace: whether the folder may be mounted, and which files in it the host would execute that are new.
//!
//! An agent that can write into a user's folder could plant a git hook, a build script or an editor's task there.
//! bottler cannot prevent that in a mounted folder; it compares the folder before and after, and reports such files.

use std::path::{Path, PathBuf};

use super::{Executed, Launch};
use crate::engine::docker::endpoint::Endpoint;
use crate::plan::WorkspaceMode;
use crate::session::{Class, Failure};
use crate::workspace::{ExecutedPaths, ForbiddenPaths, refusal};

/// The folder that the agent may write to in place.
fn folder(launch: &Launch) -> Option<PathBuf> {
    let workspace = launch.plan.workspace.as_ref()?;
    let writable = workspace.mode == WorkspaceMode::Mount && !workspace.read_only;
    workspace.source.clone().filter(|_| writable)
}

/// Refuses a folder that must not be mounted, not even read-only: an engine's socket accepts requests through a
/// read-only mount as well.
///
/// # Errors
/// The folder must not be mounted, or cannot be found.
pub(super) fn check(launch: &Launch, state: &Path) -> Result<(), Failure> {
    let workspace = launch.plan.workspace.as_ref().filter(|workspace| workspace.mode == WorkspaceMode::Mount);
    let Some(source) = workspace.and_then(|workspace| workspace.source.as_deref()) else { return Ok(()) };
    check_mount(source, &launch.endpoint, state)
}

/// Checks a folder, given the engine's address and the state directory.
///
/// # Errors
/// The folder must not be mounted, or cannot be found.
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

/// The files in it that the host would execute now, or why that is unknown.
pub(super) async fn look(launch: &Launch) -> Option<Result<ExecutedPaths, String>> {
    let folder = folder(launch)?;
    let looked = crate::task::blocking(move || ExecutedPaths::scan(&folder)).await;
    Some(looked.map_err(|error| error.to_string()).and_then(|places| places.map_err(|error| error.to_string())))
}

/// The files that the host would execute and that were created or changed since.
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
