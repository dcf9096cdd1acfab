//! A nested bottle: the request to launch it, and its outcome.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::life::Lifecycle;
use super::source::WorkspaceSource;
use crate::policy::{AllowSpec, allow_list};
use crate::session::{Failure, Pending};
use crate::workspace::Seed;

/// The options of `bottle`, except for the workspace.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChildOptions {
    /// The first part of its id; by default the agent's name.
    pub slug: Option<String>,
    /// Its prompt.
    pub prompt: Option<String>,
    /// The built-in recipe that launches it; by default the agent's own.
    pub recipe: Option<String>,
    /// Its agent's image; by default the agent's own.
    pub image: Option<String>,
    /// Its agent's command and arguments; by default the agent's own.
    pub command: Option<Vec<String>>,
    /// Environment variables of its agent's container, in addition to the agent's own; never secrets.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Hosts and presets that it may reach, in addition to the agent's own and those of this bottle's plan.
    #[serde(default, deserialize_with = "allow_list")]
    pub allow: Vec<AllowSpec>,
}

/// A request to launch a nested bottle.
pub struct ChildRequest {
    /// Its id.
    pub id: String,
    /// Its agent.
    pub agent: String,
    /// Differences from the agent's own configuration.
    pub options: ChildOptions,
    /// The source of its workspace, if it has one.
    pub workspace: Option<WorkspaceSource>,
    /// Cancelled when it is to stop at once.
    pub stop: CancellationToken,
}

/// The outcome of a nested bottle.
#[derive(Debug, Clone, Default)]
pub struct ChildOutcome {
    /// The exit code of its agent.
    pub exit_code: i64,
    /// What its agent wrote to standard output, up to 1 MiB.
    pub output: Vec<u8>,
    /// What its agent wrote to standard error, up to 1 MiB.
    pub errors: Vec<u8>,
    /// The changes of its workspace as a patch; empty if there are none.
    pub patch: String,
    /// The workspace as its agent left it.
    pub workspace: Option<Arc<Seed>>,
}

/// A bottle that this one launched.
pub struct Child {
    /// Its id.
    pub id: String,
    /// The first part of its id.
    pub slug: String,
    /// Its lifecycle.
    pub life: Arc<Lifecycle>,
    pub(in crate::primitive) work: Pending<Arc<ChildOutcome>>,
    pub(in crate::primitive) stop: CancellationToken,
}

impl Child {
    /// Waits until its agent has ended and the bottle is removed.
    ///
    /// # Errors
    /// Its launch failed. A non-zero exit code is not a failure.
    pub async fn work(&self) -> Result<Arc<ChildOutcome>, Failure> {
        self.work.get().await
    }

    /// Stops it and waits until it is removed, as a step of the teardown.
    pub(in crate::primitive) async fn end(&self) {
        self.stop.cancel();
        let _ = self.work.get().await;
    }
}
