//! The host's side of a launch: what a bottle gets from the process that launches it, beside its plan.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::images::Images;
use crate::credential::Credential;
use crate::plan::CredentialPlan;
use crate::primitive::handle::{HomeSource, WorkspaceSource};

/// How long a script may compute between two waits, in processor time.
pub const MAX_BURST: Duration = Duration::from_secs(5);

/// Reads the source of a credential once more, without asking anybody: its value, or why there is none. Waits for a command.
pub type Renew = Arc<dyn Fn(&CredentialPlan) -> Result<String, String> + Send + Sync>;

/// The host's side of a launch.
#[derive(Clone)]
pub struct HostContext {
    /// Whether the engine runs on this host, so that this host's routes and addresses matter.
    pub local: bool,
    /// Where results are saved, if anywhere.
    pub directory: Option<PathBuf>,
    /// The bottle's own directory, if it has one.
    pub staging: Option<PathBuf>,
    /// Where the agent's workspace comes from, if it has one of its own.
    pub workspace: Option<WorkspaceSource>,
    /// Where the agent's home comes from, if it may outlive the bottle.
    pub home: Option<HomeSource>,
    /// Variables that only the agent receives.
    pub agent_env: BTreeMap<String, String>,
    /// The values and placeholders of the plan's credentials. The agent receives the placeholders, egress the values.
    pub credentials: Vec<Credential>,
    /// Reads the source of a credential once more.
    pub renew: Option<Renew>,
    /// Whether the workspace is read at the agent's end.
    pub collect: bool,
    /// Whether a project's hooks run. They may allow nothing beyond the plan, which is the user's.
    pub bounded: bool,
    /// The state directory in which launches wait for their turn; they do not wait when absent.
    pub turns: Option<PathBuf>,
    /// The credentials for the upstream proxy, as `name:password`. They are not part of the plan, which scripts can read.
    pub proxy_credentials: Option<String>,
    /// Variables of commands that scripts run on the host.
    pub command_env: BTreeMap<String, String>,
    /// How long a script may compute between two waits, in processor time.
    pub burst: Duration,
    /// Where images come from.
    pub images: Images,
}

impl HostContext {
    /// A remote engine, no workspace, nothing saved.
    pub fn bare(images: Images) -> Self {
        Self {
            local: false,
            directory: None,
            staging: None,
            workspace: None,
            home: None,
            agent_env: BTreeMap::new(),
            credentials: Vec::new(),
            renew: None,
            collect: true,
            bounded: false,
            turns: None,
            proxy_credentials: None,
            command_env: BTreeMap::new(),
            burst: MAX_BURST,
            images,
        }
    }
}
