//! What a plan depends on beside the manifest: the command line, and facts of this host.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{Keep, WorkspaceMode};
use crate::manifest::IsolationSection;

/// What the command line says.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// The bottle's id.
    pub bottle: String,
    /// Whether the user chose it.
    pub pinned: bool,
    /// A prompt, after the agent's own.
    pub prompt: Option<String>,
    /// The agent's image.
    pub image: Option<String>,
    /// Whether an image is pulled even where the engine has it.
    pub pull: bool,
    /// Whether an image is built even where nothing has changed.
    pub rebuild: bool,
    /// The agent's command.
    pub command: Vec<String>,
    /// Its model.
    pub model: Option<String>,
    /// Whether nobody is there.
    pub headless: bool,
    /// Whether the agent is on a terminal.
    pub terminal: bool,
    /// The workspace.
    pub workspace: WorkspaceFlags,
    /// Whether it outlives the bottle.
    pub keep: Option<Keep>,
    /// How the agent is cut off.
    pub isolation: Option<IsolationSection>,
    /// Whether the filter of the agent's bridge may be set.
    pub set_rp_filter: bool,
    /// The container runtime.
    pub runtime: Option<String>,
    /// Parameters for recipes.
    pub params: BTreeMap<String, String>,
}

/// What the command line says about the workspace.
#[derive(Debug, Clone, Default)]
pub struct WorkspaceFlags {
    /// The host's folder.
    pub source: Option<PathBuf>,
    /// How the agent gets it.
    pub mode: Option<WorkspaceMode>,
    /// Whether it may only read it.
    pub read_only: bool,
}

/// Facts about the host.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The host's variables.
    pub env: BTreeMap<String, String>,
    /// The directory of the launch.
    pub directory: PathBuf,
    /// The user's home.
    pub home: PathBuf,
    /// The user's number and group.
    pub user: (u32, u32),
    /// Who commits, by git's own configuration: name and address.
    pub git: Option<(String, String)>,
}
