//! git of the host, run so that nothing of a repository's own runs with it.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::host::{Limits, output};

/// Settings that would run something, off.
const QUIET: [&str; 8] = [
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "core.pager=cat",
    "credential.helper=",
    "gc.auto=0",
    "maintenance.auto=false",
    "protocol.allow=never",
    "protocol.file.allow=always",
];

/// A command that works through a repository, and its largest answer: a list of all its files.
const WORK: Limits = Limits { time: Duration::from_mins(10), bytes: 512 << 20 };
/// A question that git answers from its settings and references.
const QUESTION: Limits = Limits { time: Duration::from_secs(30), bytes: 1 << 20 };

/// git in one folder.
pub struct Git<'a> {
    folder: &'a Path,
    env: Vec<(&'static str, String)>,
}

impl<'a> Git<'a> {
    /// git in a folder of the user's.
    pub fn at(folder: &'a Path) -> Self {
        Self { folder, env: Vec::new() }
    }

    /// git in a repository that bottler made: nobody's settings count.
    pub(super) fn alone(folder: &'a Path) -> Self {
        let nobody = |name| (name, "/dev/null".to_owned());
        Self { folder, env: vec![nobody("GIT_CONFIG_GLOBAL"), nobody("GIT_CONFIG_SYSTEM")] }
    }

    /// The same with a variable.
    #[must_use]
    pub(super) fn env(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.env.push((name, value.into()));
        self
    }

    /// A command that was not started yet.
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        command.current_dir(self.folder).stdin(Stdio::null());
        for setting in QUIET {
            command.args(["-c", setting]);
        }
        for (name, _) in std::env::vars_os() {
            // A repository is the one that is named, whatever the user's shell is in.
            if name.to_string_lossy().starts_with("GIT_") {
                command.env_remove(name);
            }
        }
        command.args(arguments).env("GIT_OPTIONAL_LOCKS", "0").env("GIT_TERMINAL_PROMPT", "0").env("LC_ALL", "C");
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a command to its end; what it wrote.
    ///
    /// # Errors
    /// There is no git, it says why not, or it does not end.
    pub fn run(&self, arguments: &[&str]) -> std::io::Result<Vec<u8>> {
        self.within(arguments, WORK)
    }

    fn within(&self, arguments: &[&str], limits: Limits) -> std::io::Result<Vec<u8>> {
        ended(arguments, output(&mut self.command(arguments), limits)?)
    }

    /// The same, as one line of text; `None` where git refuses or there is none.
    pub fn line(&self, arguments: &[&str]) -> Option<String> {
        let text = String::from_utf8(self.within(arguments, QUESTION).ok()?).ok()?;
        Some(text.trim_end_matches('\n').to_owned()).filter(|text| !text.is_empty())
    }
}

/// What a command wrote, or why it failed.
pub(super) fn ended(arguments: &[&str], output: Output) -> std::io::Result<Vec<u8>> {
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().last().unwrap_or("it does not say why");
    Err(std::io::Error::other(format!("git {}: {said}", arguments.first().copied().unwrap_or_default())))
}

/// Who commits in a folder, by git's own settings: name and address.
pub fn identity(folder: &Path) -> Option<(String, String)> {
    let git = Git::at(folder);
    Some((git.line(&["config", "user.name"])?, git.line(&["config", "user.email"])?))
}
