//! The plan: everything a launch is going to do, resolved and immutable before anything is made. Pure.

mod command;
mod cred_proxy;
mod credentials;
mod git;
mod git_settings;
mod input;
mod resolve;
mod runtime;

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::credential::Limits;
use crate::engine::Resources;
use crate::layout::agent::{DEFAULT_HOME, DEFAULT_USER, WORKSPACE};
pub use crate::manifest::{
    AgentTemplate, BuildNetwork, BuildSection, CredentialFile, Keep, OnRequest, PLACEHOLDER, WorkspaceMode,
};
use crate::policy::{EgressSpec, RequestLimits};
pub use cred_proxy::{CredProxyPlan, RoutePlan};
pub use credentials::{CredentialPlan, Declared, Refused, declared, unset};
pub use git::{GitPlan, RepositoryPlan};
pub use input::{Facts, Flags, WorkspaceFlags};
pub use resolve::{Planned, plan};
pub use runtime::{check_bounds, settle};

/// An agent's bounds where nothing else is planned.
pub const DEFAULT_RESOURCES: Resources = Resources { cpus: 2.0, memory: 4 << 30, pids: 512 };

/// Seconds after which the proof that a bottle is tight is repeated, where nothing else is planned.
pub const DEFAULT_WATCH: u64 = 600;

fn watch() -> u64 {
    DEFAULT_WATCH
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_usual(watch: &u64) -> bool {
    *watch == DEFAULT_WATCH
}

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
    /// Whether a short-lived container may set the reverse path filter of the agent's own bridge on the engine's host.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub set_rp_filter: bool,
    /// Whether the user said so: then nothing else is taken instead.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub isolation_said: bool,
    /// Whether the launch goes on where the host cannot bound memory and processes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub best_effort_bounds: bool,
    /// The container runtime; the best that the engine lists when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// Whether that runtime has a kernel of its own, which is gVisor.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gvisor: bool,
    /// Seconds after which the proof is repeated.
    #[serde(default = "watch", skip_serializing_if = "is_usual")]
    pub watch: u64,
    /// What may leave.
    pub egress: EgressSpec,
    /// Credentials that the agent has placeholders of, each with the only hosts that its value may go to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<CredentialPlan>,
    /// How many requests may use its credentials, all of them together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// The cred-proxy, if the bottle has routes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cred_proxy: Option<CredProxyPlan>,
    /// The git gate, if the bottle has repositories.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<GitPlan>,
    /// How the agent asks its operator, if it can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supervise: Option<SupervisePlan>,
    /// What is put into the agent's container.
    pub provision: ProvisionPlan,
    /// The prompt, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// The agent's workspace, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<WorkspacePlan>,
    /// Whether the workspace outlives the bottle.
    #[serde(default)]
    pub keep: Keep,
    /// What the user said with `--set`, for recipes of their own.
    #[serde(default)]
    pub params: BTreeMap<String, String>,
}

impl LaunchPlan {
    /// Whether the agent works on a copy of a folder.
    pub fn copies_workspace(&self) -> bool {
        self.workspace.as_ref().is_some_and(|workspace| workspace.mode == WorkspaceMode::Copy)
    }

    /// The hosts that have a credential, as in `egress.allow`.
    pub fn credential_hosts(&self) -> impl Iterator<Item = &str> {
        self.credentials.iter().flat_map(|credential| &credential.places).map(|place| place.host.as_str())
    }

    /// How many requests may use its credentials.
    pub fn request_limits(&self) -> RequestLimits {
        let limited = self.credentials.iter().filter_map(|credential| {
            let CredentialPlan { name, limits, .. } = credential;
            Some((name.clone(), (*limits)?))
        });
        RequestLimits { all: self.limits, credentials: limited.collect() }
    }
}

/// The agent's workspace; its files are no part of the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkspacePlan {
    /// Where the agent sees it.
    pub path: String,
    /// How the agent gets it.
    #[serde(default)]
    pub mode: WorkspaceMode,
    /// The host's folder; absent where the files come from elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<PathBuf>,
    /// Whether the agent may only read a folder that is mounted.
    #[serde(default)]
    pub read_only: bool,
    /// What is not copied: patterns as in `.gitignore`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
}

impl WorkspacePlan {
    /// One whose files come from elsewhere than a folder of the host.
    pub fn given() -> Self {
        Self {
            path: WORKSPACE.to_owned(),
            mode: WorkspaceMode::Copy,
            source: None,
            read_only: false,
            exclude: Vec::new(),
        }
    }
}

/// How the agent's container is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// No network at all; sidecars are reached through sockets.
    Sealed,
    /// A network with the sidecars that leads nowhere else, which the engine's host proves at every launch.
    Bridge,
}

/// The agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentPlan {
    /// Its name.
    pub name: String,
    /// Its command and arguments.
    pub command: Vec<String>,
    /// Whom it runs as: `uid:gid`, a number, or a name that the image knows.
    pub user: String,
    /// The directory its command starts in.
    pub workdir: String,
    /// Variables of its container, seen by every later exec; never a secret.
    pub env: BTreeMap<String, String>,
    /// The names of variables whose values it is told when it is released, and that nobody else sees.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secret_env: Vec<String>,
    /// Its bounds.
    pub resources: Resources,
    /// Bytes of its own file system, where the engine's storage can bound it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<i64>,
    /// Whether its command is on a terminal.
    #[serde(default)]
    pub terminal: bool,
}

/// The agent's image: one that the engine has or can pull, or one to build.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImagePlan {
    /// `self`: made of the running executable. Anything else: an image's reference, which may end in a digest.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// How it is built, instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<BuildSection>,
    /// Whether it is pulled even where the engine has it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pull: bool,
    /// Whether it is built even where nothing has changed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rebuild: bool,
}

impl ImagePlan {
    /// An image by its reference.
    pub fn of(source: &str) -> Self {
        Self { source: source.to_owned(), ..Self::default() }
    }
}

/// How the agent asks its operator.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SupervisePlan {
    /// What happens to a request.
    #[serde(default)]
    pub on_request: OnRequest,
    /// Seconds after which a request for which nobody decided is rejected; never when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<u64>,
    /// A command of this host that is run for each request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notify: Vec<String>,
    /// A web service that is told of each request: its URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
}

/// What is put into the agent's container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProvisionPlan {
    /// The prompt, written to a file whose path the recipe gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// Files of the agent's user: skills, settings, git's identity.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FilePlan>,
}

/// A file that the agent finds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FilePlan {
    /// Where; absolute.
    pub path: String,
    /// What is in it.
    pub content: String,
    /// Its permission bits in octal, as in `"0644"`.
    pub mode: String,
    /// Whether `{NAME:-N}` in it becomes the last N characters of what the agent is told as NAME.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fill: bool,
}

/// The plan of a template by itself: no manifest, nothing of the host.
pub fn resolve(
    bottle: &str,
    pinned: bool,
    name: &str,
    template: &AgentTemplate,
    prompt: Option<String>,
    egress: EgressSpec,
) -> LaunchPlan {
    let image = ImagePlan {
        source: template.image.clone().unwrap_or_default(),
        build: template.build.clone(),
        ..ImagePlan::default()
    };
    LaunchPlan {
        bottle: bottle.to_owned(),
        pinned,
        agent: AgentPlan {
            name: name.to_owned(),
            command: template.command.clone(),
            user: DEFAULT_USER.to_owned(),
            workdir: DEFAULT_HOME.to_owned(),
            env: template.env.clone(),
            secret_env: Vec::new(),
            resources: DEFAULT_RESOURCES,
            disk: None,
            terminal: false,
        },
        image,
        isolation: Isolation::Sealed,
        set_rp_filter: false,
        isolation_said: false,
        best_effort_bounds: false,
        runtime: None,
        gvisor: false,
        watch: DEFAULT_WATCH,
        egress,
        credentials: Vec::new(),
        limits: None,
        cred_proxy: None,
        git: None,
        supervise: None,
        provision: ProvisionPlan { prompt: prompt.clone(), files: Vec::new() },
        prompt,
        workspace: None,
        keep: Keep::Never,
        params: BTreeMap::new(),
    }
}

/// Where the agent finds the server by which it asks its operator.
pub fn supervise_url() -> String {
    use crate::layout::supervise::{NAME, PORT};
    format!("http://{NAME}:{PORT}/mcp")
}

/// The plan of the built-in probe, for those who look at scripts without a launch.
pub fn probe(bottle: &str) -> LaunchPlan {
    resolve(bottle, false, "probe", &AgentTemplate::probe(), None, EgressSpec::default())
}
