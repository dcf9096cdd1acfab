//! The sections of a manifest, as a user writes them. Everything may be absent; what that means is the plan's business.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

use super::{EgressSection, Size};

/// The user's `bottler.yaml`, or a file that is named on the command line.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Bottles by their names: the boundary. A project cannot define any.
    #[serde(default)]
    pub bottles: BTreeMap<String, BottleSection>,
    /// Agents by their names.
    #[serde(default)]
    pub agents: BTreeMap<String, AgentSection>,
    /// Which bottles the agents of a project may use.
    #[serde(default)]
    pub projects: Vec<ProjectSection>,
    /// Commands of the host that scripts may run with `host.run`: one is let through that begins as one of these.
    #[serde(default)]
    pub host_commands: Vec<Vec<String>>,
    /// Things that isolate and that a project's hooks may replace, by name: `egress`.
    #[serde(default)]
    pub replace: Vec<String>,
}

/// A project's `.bottler/bottler.yaml`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProjectManifest {
    /// Agents by their names.
    #[serde(default)]
    pub agents: BTreeMap<String, AgentSection>,
}

/// What a project's own agents may use.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProjectSection {
    /// The project's directory.
    pub path: PathBuf,
    /// Bottles of this manifest that its agents may name.
    pub bottles: Vec<String>,
}

/// A bottle: what surrounds an agent.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BottleSection {
    /// Bottles that this one is made of: from left to right, and then this one.
    #[serde(default)]
    pub extends: Vec<String>,
    /// The agent's image: a reference, which may end in a digest.
    pub image: Option<String>,
    /// How the agent's image is built, instead.
    pub build: Option<BuildSection>,
    /// How the agent is cut off.
    pub isolation: Option<IsolationSection>,
    /// What `isolation: bridge` may do.
    pub bridge: Option<BridgeSection>,
    /// The container runtime: `auto`, or any that the engine lists.
    pub runtime: Option<String>,
    /// Seconds after which the proof that the bottle is tight is repeated; 600 when absent.
    pub watch: Option<u64>,
    /// Whom the agent runs as: a number, two with a colon, or a name that the image knows.
    pub user: Option<Scalar>,
    /// The agent's bounds.
    #[serde(default)]
    pub resources: ResourcesSection,
    /// Variables of the agent: a text, one with `${HOST_VARIABLE}` in it, or `"?question"` that is asked without echo.
    #[serde(default)]
    pub env: BTreeMap<String, Scalar>,
    /// Files of lines `NAME=value`; what is in them is told to the agent and to nobody else.
    #[serde(default)]
    pub env_file: Vec<PathBuf>,
    /// What the agent works at.
    pub workspace: Option<WorkspaceSection>,
    /// Whether the workspace outlives the bottle.
    pub keep: Option<Keep>,
    /// What may leave.
    pub egress: Option<EgressSection>,
    /// Not there yet: credentials that the agent never sees.
    pub cred_proxy: Option<serde_json::Value>,
    /// Not there yet: repositories behind a gate.
    pub git: Option<serde_json::Value>,
    /// Not there yet: whether the agent may ask the operator.
    pub supervise: Option<bool>,
}

/// How an image is built.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BuildSection {
    /// The folder that is sent to the engine, less what its `.dockerignore` names; an empty one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<PathBuf>,
    /// The Dockerfile, below the context; `Dockerfile` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dockerfile: Option<PathBuf>,
    /// The Dockerfile itself, instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dockerfile_inline: Option<String>,
    /// Values of the Dockerfile's `ARG`s. They are kept in the image: no place for secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub args: BTreeMap<String, String>,
    /// The stage to stop at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Whether the build's commands have a network, which no egress guards; `none` when absent.
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
    /// The engine's ordinary one, past every egress: whoever writes the Dockerfile may reach everything.
    Default,
}

/// How the agent's container is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IsolationSection {
    /// No network at all; sidecars are reached through sockets.
    Sealed,
    /// A network with the sidecars that leads nowhere else, which the engine's host proves at every launch.
    Bridge,
}

/// What a bottle with a network of its own may do to the engine's host, so that this network leads nowhere.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BridgeSection {
    /// Whether a container that lives as long as the probe may set the reverse path filter (`rp_filter`) of the agent's own
    /// bridge, by `CAP_NET_ADMIN` in the network of the engine's host. Without it a launch is refused where it is not set.
    #[serde(default)]
    pub set_rp_filter: bool,
}

/// Bounds on what the agent may use.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResourcesSection {
    /// Processor time, in processors.
    pub cpus: Option<f64>,
    /// Memory; swap is off.
    pub memory: Option<Size>,
    /// Processes and threads.
    pub pids: Option<i64>,
    /// Disk of the agent's own file system, where the engine's storage can bound it.
    pub disk: Option<Size>,
}

/// What the agent works at: a mode, or a table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkspaceSection {
    /// How the agent gets it.
    #[serde(default)]
    pub mode: WorkspaceMode,
    /// The host's folder; where `run` is started when absent.
    pub source: Option<PathBuf>,
    /// Where the agent sees it; `/workspace` when absent.
    pub path: Option<String>,
    /// Whether the agent may only read a folder that is mounted.
    pub read_only: Option<bool>,
    /// What is not copied: patterns as in `.gitignore`.
    #[serde(default)]
    pub exclude: Vec<String>,
}

/// How the agent gets its workspace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WorkspaceMode {
    /// A copy; what changed is fetched with `bottler pull`.
    #[default]
    Copy,
    /// The host's folder itself, less the places that the host executes.
    Mount,
    /// None.
    None,
}

/// Whether the workspace outlives the bottle.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// It does not.
    #[default]
    Never,
    /// Where the launch or the agent failed and something in it has changed.
    OnFailure,
    /// Where something in it has changed.
    Always,
}

/// An agent: a program in a bottle, and what it is to do.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentSection {
    /// What it is for, in words.
    pub description: Option<String>,
    /// Its bottle; the built-in defaults when absent.
    pub bottle: Option<String>,
    /// Its template: `claude`, `codex`, `shell` … or one of the user's own; `claude` when absent.
    pub template: Option<String>,
    /// The recipe that launches it: a built-in one's name, or a file; the template's when absent.
    pub recipe: Option<String>,
    /// What it is to do.
    pub prompt: Option<String>,
    /// What it is to do, from a file.
    pub prompt_file: Option<PathBuf>,
    /// Folders below `skills/` beside the manifest, each a skill.
    #[serde(default)]
    pub skills: Names,
    /// Its command instead of the template's.
    pub command: Option<Vec<String>>,
    /// Its model, for templates that take one.
    pub model: Option<String>,
    /// Variables on top of its bottle's.
    #[serde(default)]
    pub env: BTreeMap<String, Scalar>,
    /// MCP servers that it is told of, by name. They are reached through egress, like everything.
    #[serde(default)]
    pub mcp: BTreeMap<String, McpSection>,
}

/// An MCP server, spoken to over HTTP.
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

/// Names: a list, or one text with commas between them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names(pub Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a list of names, or names with commas between them")]
        enum Either {
            List(Vec<String>),
            Text(String),
        }
        Ok(Self(match Either::deserialize(from)? {
            Either::List(names) => names,
            Either::Text(text) => text.split(',').map(|name| name.trim().to_owned()).collect(),
        }))
    }
}

impl JsonSchema for Names {
    fn schema_name() -> Cow<'static, str> {
        "Names".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Names: a list, or one text with commas between them.",
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
        enum Any {
            Text(String),
            Bool(bool),
            Whole(i64),
            Fraction(f64),
        }
        Ok(Self(match Any::deserialize(from)? {
            Any::Text(text) => text,
            Any::Bool(value) => value.to_string(),
            Any::Whole(value) => value.to_string(),
            Any::Fraction(value) => value.to_string(),
        }))
    }
}

impl JsonSchema for Scalar {
    fn schema_name() -> Cow<'static, str> {
        "Scalar".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A text, or a number or truth value that is taken as one.",
            "type": ["string", "number", "boolean"]
        })
    }
}
