//! `provision`: files, variables and a prompt for the agent.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use super::run::Agent;
use crate::init;
use crate::layout::agent::PROMPT_FILE;
use crate::primitive::handle::Sidecar;
use crate::primitive::name::is_absolute;
use crate::session::{Class, Failure, ScriptLocation};
use crate::sync::lock;

/// The options of `provision`, except for the probe's counterpart.
#[derive(Debug, Clone, Default, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProvisionOptions {
    /// The prompt. It is written to a file whose path `provision` returns.
    pub prompt: Option<String>,
    /// Files.
    #[serde(default)]
    pub files: Vec<ProvisionFile>,
    /// Environment variables of the command only; they may be secrets. They are not in the container's configuration.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

/// A file for the agent's container.
#[derive(Debug, Clone, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProvisionFile {
    /// The absolute path.
    pub path: String,
    /// The content.
    pub content: String,
    /// The permission bits in octal, such as `"0644"`.
    #[serde(default = "default_mode")]
    pub mode: String,
    /// The owner as `uid:gid`; by default the agent's user.
    pub owner: Option<String>,
    /// Whether `{NAME:-N}` in the content is replaced by the last N characters of the agent's secret variable NAME.
    #[serde(default)]
    pub fill: bool,
}

fn default_mode() -> String {
    "0644".to_owned()
}

/// Provides the agent with files, variables and a prompt. Returns the prompt file's path. May be called more than
/// once until the release. `counterpart` is the counterpart for the agent `probe`.
///
/// # Errors
/// A path, mode or owner is invalid, or a file of another owner is given after the container's start.
pub fn provision(
    agent: &Agent,
    options: ProvisionOptions,
    counterpart: Option<Arc<Sidecar>>,
    at: Option<&ScriptLocation>,
) -> Result<Option<String>, Failure> {
    let bad = |message: String| Failure::new(Class::Input, format!("provision: {message}")).at(at);
    if agent.released.initialized() {
        return Err(bad("the agent has been released".into()).hint("provision before agent:wait()"));
    }
    let mut provided = lock(&agent.provision);
    let prompt = options.prompt.map(|content| ProvisionFile {
        path: PROMPT_FILE.to_owned(),
        content,
        mode: default_mode(),
        owner: None,
        fill: false,
    });
    let prompt_path = prompt.as_ref().map(|file| file.path.clone());
    for file in options.files.into_iter().chain(prompt) {
        if !is_absolute(&file.path) {
            return Err(bad(format!("{:?} is not an absolute path", file.path)));
        }
        let mode = init::files::mode(&file.mode)
            .ok_or_else(|| bad(format!("{}: mode {:?} is not octal", file.path, file.mode)))?;
        let written = init::File { path: file.path, content: file.content, mode };
        match file.owner.filter(|owner| *owner != agent.config.user) {
            None => {
                if file.fill {
                    provided.filled.insert(written.path.clone());
                }
                provided.files.push(written);
            }
            Some(_) if agent.has_started() => {
                return Err(bad(format!(
                    "{}: a file of another owner comes before the agent's container starts",
                    written.path
                ))
                .hint("provision before the first use of the agent"));
            }
            Some(owner) => {
                let ids = owner.split_once(':').and_then(|(u, g)| Some((u.parse().ok()?, g.parse().ok()?)));
                let ids = ids.ok_or_else(|| bad(format!("{}: owner {owner:?} is not uid:gid", written.path)))?;
                provided.foreign.push((written, ids));
            }
        }
    }
    provided.env.extend(options.env);
    provided.prompt_path = prompt_path.or_else(|| provided.prompt_path.take());
    let prompt_path = provided.prompt_path.clone();
    provided.probe = counterpart.or_else(|| provided.probe.take());
    drop(provided);
    agent.open_gate();
    Ok(prompt_path)
}
