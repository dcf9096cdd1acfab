//! The plan: everything a launch is going to do, resolved and immutable before anything is made.

mod template;

use std::collections::BTreeMap;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::engine::Resources;
use crate::policy::AllowSpec;
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
    pub egress: EgressPlan,
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

/// What may leave.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EgressPlan {
    /// What the agent may reach.
    pub allow: Vec<AllowSpec>,
    /// Private address ranges that the user means to reach, as CIDR.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub ip_allow: Vec<IpNet>,
    /// Authorities that destinations may be certified by, beyond the public ones, in PEM.
    #[serde(default)]
    pub roots: Vec<String>,
}

/// What is put into the agent's container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProvisionPlan {
    /// The prompt, written to a file whose path the recipe gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
}

/// Resolves a launch. Pure.
pub fn resolve(
    bottle: &str,
    pinned: bool,
    name: &str,
    template: &AgentTemplate,
    prompt: Option<String>,
    allow: Vec<AllowSpec>,
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
        egress: EgressPlan {
            ip_allow: Vec::new(),
            roots: Vec::new(),
            allow: template.hosts.iter().cloned().map(AllowSpec::Host).chain(allow).collect(),
        },
        provision: ProvisionPlan { prompt: prompt.clone() },
        prompt,
        workspace: None,
        params: BTreeMap::new(),
    }
}
