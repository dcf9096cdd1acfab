//! The source of a workspace, and of the agent's home.

use std::path::PathBuf;
use std::sync::Arc;

use crate::session::Pending;
use crate::workspace::Seed;

/// The source of a workspace.
#[derive(Clone)]
pub enum WorkspaceSource {
    /// An existing seed.
    Given(Arc<Seed>),
    /// The seed of another bottle, which is reading it.
    Shared(Pending<Arc<Seed>>),
    /// A folder of the host, which is copied to the bottle's directory.
    Folder {
        /// The folder.
        root: PathBuf,
        /// Patterns of what is not copied.
        exclude: Vec<String>,
        /// The bottle's directory.
        staging: PathBuf,
    },
    /// The volume of an earlier launch of this bottle, with the seed of that launch.
    KeptWorkspace(Arc<Seed>),
}

/// The source of the agent's home, where that may outlive the bottle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HomeSource {
    /// The image.
    New,
    /// The volume of an earlier launch of this bottle; the image where the engine no longer has it.
    Kept,
    /// The image, in place of the volume of an earlier launch.
    Fresh,
}
