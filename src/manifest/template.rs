//! Agent templates in YAML: the built-in ones and the user's own.

use std::collections::BTreeMap;
use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;

use super::problem::parse;
use super::{BuildSection, CredentialSection, Problem, credential, expand};
use crate::policy::{AllowSpec, allow_list};

/// The templates that come with bottler.
const BUILT_IN: &[(&str, &str)] = &[
    ("aider", include_str!("../../stdlib/agents/aider.yaml")),
    ("claude", include_str!("../../stdlib/agents/claude.yaml")),
    ("codex", include_str!("../../stdlib/agents/codex.yaml")),
    ("copilot", include_str!("../../stdlib/agents/copilot.yaml")),
    ("gemini", include_str!("../../stdlib/agents/gemini.yaml")),
    ("opencode", include_str!("../../stdlib/agents/opencode.yaml")),
    ("pi", include_str!("../../stdlib/agents/pi.yaml")),
    ("probe", include_str!("../../stdlib/agents/probe.yaml")),
    ("qwen", include_str!("../../stdlib/agents/qwen.yaml")),
    ("shell", include_str!("../../stdlib/agents/shell.yaml")),
];

/// An agent's template. In `command`, `prompt`, `headless`, `model` and `files`, `{prompt}` is the prompt,
/// `{prompt_file}` the file that holds it, `{model}` the model, `{home}` the agent's home, `{workdir}` where it starts.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentTemplate {
    /// A description.
    pub description: Option<String>,
    /// The recipe that launches it; `launch` when absent.
    pub recipe: Option<String>,
    /// Its image, if its bottle names none; `self` is built from the running executable.
    pub image: Option<String>,
    /// How to build its image, instead of `image`.
    pub build: Option<BuildSection>,
    /// Its command and arguments with a terminal.
    #[serde(default)]
    pub command: Vec<String>,
    /// Further arguments if there is a prompt.
    #[serde(default)]
    pub prompt: Vec<String>,
    /// Its command and arguments in headless mode.
    #[serde(default)]
    pub headless: Vec<String>,
    /// Further arguments if a model is chosen.
    #[serde(default)]
    pub model: Vec<String>,
    /// Environment variables of its container.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Hosts that it needs: the default allowlist.
    #[serde(default, deserialize_with = "allow_list")]
    pub hosts: Vec<AllowSpec>,
    /// Credentials that its program reads, each with the only hosts that it may go to. One without a source counts where the
    /// manifest sets its variable, or gives a credential of its name a source.
    #[serde(default, deserialize_with = "credential::list")]
    pub credentials: Vec<CredentialSection>,
    /// Whether it works on a copy of the current folder by default.
    #[serde(default)]
    pub workspace: bool,
    /// The folder with its skills; `~` is the agent's home.
    pub skills: Option<String>,
    /// How MCP servers are configured.
    pub mcp: Option<McpFormat>,
    /// Files to create, for example to answer the questions of a first run; `~` is the agent's home.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
}

/// How MCP servers are configured: a file, and arguments that name it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct McpFormat {
    /// The file; `~` is the agent's home.
    pub file: String,
    /// The content of the file; `{entries}` stands for the servers.
    pub content: String,
    /// One server, with `{name}` and `{url}`.
    pub entry: String,
    /// The same for the server by which the agent asks its operator, whose calls wait for a person; `entry` by default.
    pub supervise: Option<String>,
    /// The separator between two servers.
    #[serde(default)]
    pub between: String,
    /// Further arguments if there is a server.
    #[serde(default)]
    pub arguments: Vec<String>,
}

/// Why there is no template.
#[derive(Debug, thiserror::Error)]
#[error("there is no agent {name:?}; known: {known}")]
pub struct TemplateError {
    /// What was asked for.
    name: String,
    /// What there is.
    known: String,
}

impl AgentTemplate {
    /// That of the built-in probe.
    pub fn probe() -> Self {
        Self::built_in("probe").expect("it is compiled in, and a test reads it")
    }

    /// The built-in template of a name.
    ///
    /// # Errors
    /// There is none.
    pub fn built_in(name: &str) -> Result<Self, TemplateError> {
        let found = BUILT_IN.iter().find(|(known, _)| *known == name);
        let read = found.and_then(|(_, text)| Self::read(Path::new(name), text).ok());
        let known = || Self::names().collect::<Vec<_>>().join(", ");
        read.ok_or_else(|| TemplateError { name: name.to_owned(), known: known() })
    }

    /// The names of the built-in templates.
    pub fn names() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|(name, _)| *name)
    }

    /// Reads a template.
    ///
    /// # Errors
    /// It is malformed: with its place.
    pub(super) fn read(file: &Path, text: &str) -> Result<Self, Problem> {
        let mut template: Self = parse(file, text, 0)?;
        let folder = file.parent().unwrap_or_else(|| Path::new(""));
        for credential in &mut template.credentials {
            credential.source = credential.source.take().map(|source| source.map_path(|path| expand(folder, path)));
        }
        if template.command.is_empty() {
            return Err(Problem::of(file.display(), "the template has no command"));
        }
        if template.image.is_some() == template.build.is_some() {
            return Err(Problem::of(file.display(), "a template has an image, or a build"));
        }
        Ok(template)
    }

    /// The recipe that launches it.
    pub fn recipe(&self) -> &str {
        self.recipe.as_deref().unwrap_or("launch")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_template_can_be_read_and_is_listed() {
        for (name, text) in BUILT_IN {
            AgentTemplate::read(Path::new(name), text).unwrap();
        }
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("stdlib/agents");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        files.sort();
        assert_eq!(files, AgentTemplate::names().collect::<Vec<_>>());
    }

    #[test]
    fn an_unknown_agent_names_the_known_ones() {
        assert!(AgentTemplate::built_in("nobody").unwrap_err().to_string().contains("probe"));
    }
}
