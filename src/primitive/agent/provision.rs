//! `provision`: files, variables and a prompt for the agent, kept until the release.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;

use crate::init;
use crate::layout::agent::PROMPT_FILE;
use crate::primitive::name::is_absolute;
use crate::primitive::{Agent, Sidecar};
use crate::session::{Class, Failure, ScriptLocation};
use crate::sync::lock;

/// What `provision` takes, besides the handle of the probe's counterpart.
#[derive(Debug, Clone, Default, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProvisionOptions {
    /// The prompt, written to a file whose path the recipe gets.
    pub prompt: Option<String>,
    /// Files.
    #[serde(default)]
    pub files: Vec<ProvisionFile>,
    /// Variables of the command alone; the way for secrets. Nothing of the container's configuration has them.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

/// A file for the agent's container.
#[derive(Debug, Clone, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProvisionFile {
    /// Where; absolute.
    pub path: String,
    /// What is in it.
    pub content: String,
    /// Its permission bits in octal, as in `"0644"`.
    #[serde(default = "default_mode")]
    pub mode: String,
    /// `uid:gid`; the agent's user when absent.
    pub owner: Option<String>,
    /// Whether `{NAME:-N}` in it becomes the last N characters of what only the agent is told as NAME.
    #[serde(default)]
    pub fill: bool,
}

fn default_mode() -> String {
    "0644".to_owned()
}

/// What has been provided so far.
#[derive(Default)]
pub(in crate::primitive) struct Provision {
    files: Vec<init::File>,
    /// The paths of those in which the ends of variables are put.
    filled: BTreeSet<String>,
    /// Files of others than the agent's user: put by an archive before the container has ever run.
    foreign: Vec<(init::File, (u64, u64))>,
    pub(in crate::primitive) env: BTreeMap<String, String>,
    pub(in crate::primitive) probe: Option<Arc<Sidecar>>,
    pub(in crate::primitive) prompt_path: Option<String>,
}

impl Provision {
    /// The agent's own files, with the ends of what it is told put into those that want them.
    pub(in crate::primitive) fn files(&self, env: &BTreeMap<String, String>) -> Vec<init::File> {
        let mut files = self.files.clone();
        for file in files.iter_mut().filter(|file| self.filled.contains(&file.path)) {
            file.content = fill(&file.content, env);
        }
        files
    }

    /// The archive of the files that are not the agent's own, if there are any.
    pub(in crate::primitive) fn upload(&mut self) -> Option<Result<Bytes, Failure>> {
        if self.foreign.is_empty() {
            return None;
        }
        let mut tar = tar::Builder::new(Vec::new());
        for (file, (user, group)) in std::mem::take(&mut self.foreign) {
            let mut header = tar::Header::new_gnu();
            header.set_size(file.content.len() as u64);
            header.set_mode(file.mode);
            header.set_uid(user);
            header.set_gid(group);
            header.set_mtime(0);
            let path = file.path.trim_start_matches('/');
            if let Err(error) = tar.append_data(&mut header, path, file.content.as_bytes()) {
                return Some(Err(Failure::new(Class::Input, format!("provision {}: {error}", file.path))));
            }
        }
        Some(
            tar.into_inner()
                .map(Bytes::from)
                .map_err(|error| Failure::new(Class::Internal, format!("provision: {error}"))),
        )
    }
}

/// Provides the agent with files, variables and a prompt; the prompt's path. May be called more than once until the
/// release. `counterpart` is where the agent `probe` is to be received.
///
/// # Errors
/// A path, mode or owner is bad, or a file of another owner comes after the container's start.
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

/// Puts the ends of variables into a text: `{NAME:-N}` is the last N characters of one; nothing, where it is not told.
fn fill(text: &str, env: &BTreeMap<String, String>) -> String {
    let (mut filled, mut rest) = (String::new(), text);
    while let Some(at) = rest.find('{') {
        let word = rest[at + 1..].split_once('}').map(|(word, _)| word);
        let parts = word.and_then(|word| word.split_once(":-")).and_then(|(name, end)| Some((name, end.parse().ok()?)));
        filled.push_str(&rest[..at]);
        rest = &rest[at..];
        match (word, parts) {
            (Some(word), Some((name, end))) if name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') => {
                let value = env.get(name).map_or("", String::as_str);
                let skipped = value.chars().count().saturating_sub(end);
                filled.extend(value.chars().skip(skipped));
                rest = &rest[word.len() + 2..];
            }
            _ => {
                filled.push('{');
                rest = &rest[1..];
            }
        }
    }
    filled + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_variable_is_put_in_and_nothing_else() {
        let env = BTreeMap::from([("KEY".to_owned(), "0123456789".to_owned())]);
        assert_eq!(fill("{\"a\": [\"{KEY:-3}\", \"{NONE:-3}\"], {KEY}}", &env), "{\"a\": [\"789\", \"\"], {KEY}}");
    }
}
