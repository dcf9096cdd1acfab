//! The plan: everything a launch is going to do, resolved and immutable before anything is made.

mod template;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::engine::Resources;
use crate::policy::EgressSpec;
pub use template::{AgentTemplate, TemplateError};

/// The user of an agent that does not say otherwise; our image layer gives it a home.
pub const DEFAULT_USER: &str = "1000:1000";
/// That home, and the directory a command starts in.
pub const DEFAULT_HOME: &str = "/home/agent";
/// Where an agent has its workspace; our image layer makes the folder, the agent's own.
pub const WORKSPACE: &str = "/workspace";
/// An agent's bounds where nothing else is planned.
pub const DEFAULT_RESOURCES: Resources = Resources { cpus: 2.0, memory: 4 << 30, pids: 512 };

/// A launch, as a recipe sees it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct LaunchPlan {
    /// The bottle's id.
    pub bottle: String,
    /// Whether the user chose the id: then a conflict is an error at once.
    pub pinned: bool,
    /// The agent.
    pub agent: AgentPlan,
    /// The agent's image.
    pub image: ImagePlan,
    /// How the agent is cut off.
    pub isolation: Isolation,
    /// What may leave.
    pub egress: EgressSpec,
    /// What is put into the agent's container.
    pub provision: ProvisionPlan,
    /// The prompt, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// The agent's workspace, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<WorkspacePlan>,
    /// What the user said with `--set`, for recipes of their own.
    #[serde(default)]
    pub params: BTreeMap<String, String>,
}

/// The agent's workspace; its files are no part of the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkspacePlan {
    /// Where the agent sees it.
    pub path: String,
}

/// How the agent's container is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// No network at all; sidecars are reached through sockets.
    Sealed,
}

/// The agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentPlan {
    /// Its name.
    pub name: String,
    /// Its command and arguments.
    pub command: Vec<String>,
    /// `uid:gid`.
    pub user: String,
    /// The directory its command starts in.
    pub workdir: String,
    /// Variables of its container, seen by every later exec; never a secret.
    pub env: BTreeMap<String, String>,
    /// Its bounds.
    pub resources: Resources,
}

/// The agent's image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImagePlan {
    /// `self`: made of the running executable. Anything else: an image that the engine has.
    pub source: String,
}

/// What is put into the agent's container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProvisionPlan {
    /// The prompt, written to a file whose path the recipe gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
}

/// Resolves a launch. Pure. `egress` is the whole of what may leave, the template's hosts included.
pub fn resolve(
    bottle: &str,
    pinned: bool,
    name: &str,
    template: &AgentTemplate,
    prompt: Option<String>,
    egress: EgressSpec,
) -> LaunchPlan {
    LaunchPlan {
        bottle: bottle.to_owned(),
        pinned,
        agent: AgentPlan {
            name: name.to_owned(),
            command: template.command.clone(),
            user: DEFAULT_USER.to_owned(),
            workdir: DEFAULT_HOME.to_owned(),
            env: template.env.clone(),
            resources: DEFAULT_RESOURCES,
        },
        image: ImagePlan { source: template.image.clone() },
        isolation: Isolation::Sealed,
        egress,
        provision: ProvisionPlan { prompt: prompt.clone() },
        prompt,
        workspace: None,
        params: BTreeMap::new(),
    }
}
