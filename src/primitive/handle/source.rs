//! Where a workspace comes from.

use std::path::PathBuf;
use std::sync::Arc;

use crate::session::Pending;
use crate::workspace::Seed;

/// Where a workspace comes from.
#[derive(Clone)]
pub enum WorkspaceSource {
    /// It is there.
    Given(Arc<Seed>),
    /// Another bottle's, which reads it.
    Shared(Pending<Arc<Seed>>),
    /// A folder of the host, to be copied into the bottle's directory.
    Folder {
        /// The folder.
        root: PathBuf,
        /// What is not copied.
        exclude: Vec<String>,
        /// The bottle's directory.
        staging: PathBuf,
    },
    /// The volume is there from an earlier life of this bottle, which began with this.
    KeptWorkspace(Arc<Seed>),
}
