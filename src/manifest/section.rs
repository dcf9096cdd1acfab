//! The sections of a manifest as users write them. Every key is optional; the plan applies the defaults.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

use super::cred_proxy::CredProxySection;
use super::{CredentialSection, EgressSection, GitGateSection, GitSection, Size, SuperviseSection, credential, git};
use crate::credential::Limits;
use crate::policy::HostService;

/// The user's `bottler.yaml`, or a file that is named on the command line.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Bottles by name: the boundaries that agents run in. A project cannot define any.
    #[serde(default)]
    pub bottles: BTreeMap<String, BottleSection>,
    /// Agents by name.
    #[serde(default)]
    pub agents: BTreeMap<String, AgentSection>,
    /// Which bottles the agents and scripts of a project may use.
    #[serde(default)]
    pub projects: Vec<ProjectSection>,
    /// Commands of this host that scripts may run with `host.run`: a command is allowed if it begins like one of these.
    #[serde(default)]
    pub host_commands: Vec<Vec<String>>,
    /// Isolating parts that a project's hooks may replace, by name, such as `egress`.
    #[serde(default)]
    pub replace: Vec<String>,
}

/// A project's `.bottler/bottler.yaml`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProjectManifest {
    /// Agents by name.
    #[serde(default)]
    pub agents: BTreeMap<String, AgentSection>,
}

/// What a project's agents and scripts may use.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProjectSection {
    /// The project's directory.
    pub path: PathBuf,
    /// Bottles of this manifest that they may use.
    pub bottles: Vec<String>,
}

/// A bottle: the boundary around an agent.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BottleSection {
    /// Bottles that this one builds on, merged from left to right.
    #[serde(default)]
    pub extends: Vec<String>,
    /// The agent's image: a reference, optionally with a digest.
    pub image: Option<String>,
    /// How to build the agent's image, instead of `image`.
    pub build: Option<BuildSection>,
    /// How the agent is isolated; `sealed` by default.
    pub isolation: Option<IsolationSection>,
    /// What `isolation: bridge` may change on the engine's host.
    pub bridge: Option<BridgeSection>,
    /// The container runtime: `auto` (gVisor if the engine lists it), or one that the engine lists.
    pub runtime: Option<String>,
    /// Seconds between proofs that the bottle is tight; 600 by default.
    pub watch: Option<u64>,
    /// The user that the agent runs as: a number, two with a colon, or a name from the image.
    pub user: Option<Scalar>,
    /// The agent's limits.
    #[serde(default)]
    pub resources: ResourcesSection,
    /// Whether a launch on the native engine goes on where this host cannot bound memory and processes; `required` by default.
    /// `best-effort` is an error on other engines, where it would have no effect.
    pub bounds: Option<BoundsSection>,
    /// Environment variables of the agent: a literal, a text with `${HOST_VARIABLE}`, or `"?question"`, asked without echo.
    #[serde(default)]
    pub env: BTreeMap<String, Scalar>,
    /// Files with lines `NAME=value`; only the agent receives the values.
    #[serde(default)]
    pub env_file: Vec<PathBuf>,
    /// Credentials that the agent does not see: it has placeholders, and egress puts in the values.
    #[serde(default, deserialize_with = "credential::list")]
    pub credentials: Vec<CredentialSection>,
    /// How many requests may use its credentials, all of them together; any number by default.
    pub limits: Option<Limits>,
    /// What the agent works on.
    pub workspace: Option<WorkspaceSection>,
    /// Whether the workspace outlives the bottle; `always` by default for a copy.
    pub keep: Option<Keep>,
    /// What may leave.
    pub egress: Option<EgressSection>,
    /// Services of this machine's loopback interface, as a local model server: the agent reaches each under its name.
    #[serde(default, deserialize_with = "host_services")]
    pub host_services: Vec<HostService>,
    /// A sidecar with routes to hosts, each with a credential.
    pub cred_proxy: Option<CredProxySection>,
    /// Repositories that the agent fetches from and pushes to: a gate inspects every push.
    #[serde(default, deserialize_with = "git::list")]
    pub git: Vec<GitSection>,
    /// The git gate itself, in a bottle with `git`.
    pub git_gate: Option<GitGateSection>,
    /// Whether the agent may ask the operator for what its bottle does not allow.
    pub supervise: Option<SuperviseSection>,
}

/// Reads and checks the list.
fn host_services<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<HostService>, D::Error> {
    let services = Vec::<HostService>::deserialize(from)?;
    HostService::check_all(&services).map_err(|why| serde::de::Error::custom(format!("host_services: {why}")))?;
    Ok(services)
}

/// How an image is built.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BuildSection {
    /// The folder to send to the engine, less what its `.dockerignore` names; an empty one by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<PathBuf>,
    /// The Dockerfile, below the context; `Dockerfile` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dockerfile: Option<PathBuf>,
    /// The text of the Dockerfile, instead of a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dockerfile_inline: Option<String>,
    /// Values of the Dockerfile's `ARG`s. They stay in the image: do not put secrets here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub args: BTreeMap<String, String>,
    /// The stage to stop at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The network of the build's commands; `none` by default. It bypasses egress.
    #[serde(default)]
    pub network: BuildNetwork,
}

/// The network of a build's commands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BuildNetwork {
    /// None.
    #[default]
    None,
    /// The engine's ordinary network, which bypasses egress: the Dockerfile may reach everything.
    Default,
}

/// What happens where a host cannot bound a container's memory and processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BoundsSection {
    /// The launch is refused.
    Required,
    /// The launch goes on without bounds.
    BestEffort,
}

/// How the agent's container is isolated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IsolationSection {
    /// No network; the agent reaches its sidecars through sockets.
    Sealed,
    /// A network with the sidecars that leads nowhere else; every launch proves this on the engine's host.
    Bridge,
}

/// What a bottle on a network may change on the engine's host, so that this network leads nowhere.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BridgeSection {
    /// Whether a container that runs during the probe may set the reverse path filter (`rp_filter`) of the agent's bridge. It
    /// gets `CAP_NET_ADMIN` in the host's network. If false, a launch is refused unless the filter is set already.
    #[serde(default)]
    pub set_rp_filter: bool,
}

/// Limits on what the agent may use.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResourcesSection {
    /// Processor time, in processors; 2 by default.
    pub cpus: Option<f64>,
    /// Memory; 4 GiB by default. Swap is off.
    pub memory: Option<Size>,
    /// Processes and threads; 512 by default.
    pub pids: Option<i64>,
    /// Disk space of the agent's own file system, if the engine's storage can limit it.
    pub disk: Option<Size>,
}

/// What the agent works on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkspaceSection {
    /// How the agent gets it; `copy` by default.
    #[serde(default)]
    pub mode: WorkspaceMode,
    /// The folder on the host; by default the one in which `run` is started.
    pub source: Option<PathBuf>,
    /// The path inside the bottle; `/workspace` by default.
    pub path: Option<String>,
    /// Whether a mounted folder is read-only.
    pub read_only: Option<bool>,
    /// Patterns of what is not copied, as in `.gitignore`.
    #[serde(default)]
    pub exclude: Vec<String>,
}

/// How the agent gets its workspace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WorkspaceMode {
    /// A copy; `bottler pull` fetches what changed.
    #[default]
    Copy,
    /// The host's folder itself; files that the host executes are read-only.
    Mount,
    /// No workspace.
    None,
}

/// Whether the workspace outlives the bottle.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// No.
    #[default]
    Never,
    /// If the launch or the agent failed, and something has changed.
    OnFailure,
    /// If something has changed.
    Always,
}

/// An agent: a program in a bottle, and its task.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentSection {
    /// A description, for `manifest list`.
    pub description: Option<String>,
    /// Its bottle; the built-in defaults if there is none.
    pub bottle: Option<String>,
    /// Its template: `claude`, `codex`, `shell` … or one of your own; `claude` by default.
    pub template: Option<String>,
    /// The recipe that launches it: the name of a built-in recipe, or a file; the template's by default.
    pub recipe: Option<String>,
    /// Its prompt.
    pub prompt: Option<String>,
    /// A file with its prompt.
    pub prompt_file: Option<PathBuf>,
    /// Its skills: names of folders in `skills/` beside the manifest.
    #[serde(default)]
    pub skills: Names,
    /// Its command, instead of the template's.
    pub command: Option<Vec<String>>,
    /// Its model, for templates that accept one.
    pub model: Option<String>,
    /// Environment variables in addition to its bottle's.
    #[serde(default)]
    pub env: BTreeMap<String, Scalar>,
    /// MCP servers by name. The agent reaches them through egress.
    #[serde(default)]
    pub mcp: BTreeMap<String, McpSection>,
}

/// An MCP server with HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct McpSection {
    /// Its URL.
    pub url: String,
}

/// The front matter of an agent's Markdown file: an agent's keys, and those of a Claude Code subagent, which are
/// accepted so that such a file can be used as it is (docs.claude.com, "Subagents": supported frontmatter fields).
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FrontMatter {
    description: Option<String>,
    bottle: Option<String>,
    template: Option<String>,
    recipe: Option<String>,
    #[serde(default)]
    skills: Names,
    command: Option<Vec<String>>,
    model: Option<String>,
    #[serde(default)]
    env: BTreeMap<String, Scalar>,
    #[serde(default)]
    mcp: BTreeMap<String, McpSection>,
    // What follows concerns a subagent inside Claude Code and says nothing about a bottle.
    #[serde(rename = "name")]
    _name: Option<serde_json::Value>,
    #[serde(rename = "tools")]
    _tools: Option<serde_json::Value>,
    #[serde(rename = "disallowedTools")]
    _disallowed: Option<serde_json::Value>,
    #[serde(rename = "permissionMode")]
    _permission: Option<serde_json::Value>,
    #[serde(rename = "maxTurns")]
    _turns: Option<serde_json::Value>,
    #[serde(rename = "mcpServers")]
    _servers: Option<serde_json::Value>,
    #[serde(rename = "hooks")]
    _hooks: Option<serde_json::Value>,
    #[serde(rename = "memory")]
    _memory: Option<serde_json::Value>,
    #[serde(rename = "background")]
    _background: Option<serde_json::Value>,
    #[serde(rename = "effort")]
    _effort: Option<serde_json::Value>,
    #[serde(rename = "isolation")]
    _isolation: Option<serde_json::Value>,
    #[serde(rename = "color")]
    _color: Option<serde_json::Value>,
    #[serde(rename = "initialPrompt")]
    _initial: Option<serde_json::Value>,
}

impl FrontMatter {
    /// The agent with this prompt.
    pub(super) fn agent(self, prompt: &str) -> AgentSection {
        let prompt = prompt.trim();
        // A subagent's "inherit" is what says nothing here.
        let model = self.model.filter(|model| model != "inherit");
        AgentSection {
            description: self.description,
            bottle: self.bottle,
            template: self.template,
            recipe: self.recipe,
            prompt: (!prompt.is_empty()).then(|| prompt.to_owned()),
            prompt_file: None,
            skills: self.skills,
            command: self.command,
            model,
            env: self.env,
            mcp: self.mcp,
        }
    }
}

/// Names: a list, or a text with commas.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names(pub Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a list of names, or names with commas between them")]
        enum NamesForm {
            List(Vec<String>),
            Text(String),
        }
        Ok(Self(match NamesForm::deserialize(from)? {
            NamesForm::List(names) => names,
            NamesForm::Text(text) => text.split(',').map(|name| name.trim().to_owned()).collect(),
        }))
    }
}

impl JsonSchema for Names {
    fn schema_name() -> Cow<'static, str> {
        "Names".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Names: a list, or a text with commas.",
            "type": ["array", "string"],
            "items": { "type": "string" }
        })
    }
}

/// A text that may be written as a number or a truth value: `PORT: 8080`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scalar(pub String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a text, a number, or true or false")]
        enum ScalarForm {
            Text(String),
            Bool(bool),
            Whole(i64),
            Fraction(f64),
        }
        Ok(Self(match ScalarForm::deserialize(from)? {
            ScalarForm::Text(text) => text,
            ScalarForm::Bool(value) => value.to_string(),
            ScalarForm::Whole(value) => value.to_string(),
            ScalarForm::Fraction(value) => value.to_string(),
        }))
    }
}

impl JsonSchema for Scalar {
    fn schema_name() -> Cow<'static, str> {
        "Scalar".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A text; a number or boolean is read as one.",
            "type": ["string", "number", "boolean"]
        })
    }
}
