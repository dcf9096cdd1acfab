//! A bottle that another launched: what it is to be, and what it came to.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::life::Lifecycle;
use super::source::WorkspaceSource;
use crate::policy::AllowSpec;
use crate::session::{Failure, Pending};
use crate::workspace::Seed;

/// What `bottle` takes, besides the workspace.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChildOptions {
    /// The beginning of its id; the agent's name when absent.
    pub slug: Option<String>,
    /// Its prompt.
    pub prompt: Option<String>,
    /// The recipe that launches it, a built-in one's name; the agent's own when absent.
    pub recipe: Option<String>,
    /// Its agent's image; the agent's own when absent.
    pub image: Option<String>,
    /// Its agent's command and arguments; the agent's own when absent.
    pub command: Option<Vec<String>>,
    /// Variables of its agent's container, beyond the agent's own; never a secret.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Hosts that it may reach, beyond the agent's own and those of this bottle's plan.
    #[serde(default)]
    pub allow: Vec<AllowSpec>,
}

/// A bottle to launch.
pub struct ChildRequest {
    /// Its id.
    pub id: String,
    /// Its agent.
    pub agent: String,
    /// How it differs from the agent's own.
    pub options: ChildOptions,
    /// Where its workspace comes from, if it has one.
    pub workspace: Option<WorkspaceSource>,
    /// Cancelled when it is to end at once.
    pub stop: CancellationToken,
}

/// What a bottle came to.
#[derive(Debug, Clone, Default)]
pub struct ChildOutcome {
    /// The exit code of its agent.
    pub exit_code: i64,
    /// What its agent wrote to standard output, up to 1 MiB.
    pub output: Vec<u8>,
    /// What its agent wrote to standard error, up to 1 MiB.
    pub errors: Vec<u8>,
    /// How its workspace was changed; empty where it was not, or where it has none.
    pub patch: String,
    /// The workspace as it was left.
    pub workspace: Option<Arc<Seed>>,
}

/// A bottle that this one launched.
pub struct Child {
    /// Its id.
    pub id: String,
    /// The beginning of its id.
    pub slug: String,
    /// Its life.
    pub life: Arc<Lifecycle>,
    pub(in crate::primitive) work: Pending<Arc<ChildOutcome>>,
    pub(in crate::primitive) stop: CancellationToken,
}

impl Child {
    /// Waits until its agent has ended and nothing of it is left.
    ///
    /// # Errors
    /// Its launch failed. A non-zero exit code is no failure.
    pub async fn work(&self) -> Result<Arc<ChildOutcome>, Failure> {
        self.work.get().await
    }

    /// Ends it and waits until nothing of it is left, as a step of the teardown.
    pub(in crate::primitive) async fn end(&self) {
        self.stop.cancel();
        let _ = self.work.get().await;
    }
}
