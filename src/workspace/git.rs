//! Runs the host's git so that no program configured in a repository runs with it. All git processes of bottler start
//! here.
//!
//! A repository's configuration may come from an archive or from an agent. Attacks that this stops:
//! * Settings that name a program git runs by itself: `core.fsmonitor`, hooks, pagers, credential helpers, automatic
//!   maintenance, `core.alternateRefsCommand` (run by `fetch` where the repository borrows objects of another),
//!   signature checks. They are overridden on the command line, which wins over every file.
//! * Transports that run a program (`ext::`, `core.sshCommand`, remote helpers), reached by `url.*.insteadOf` or by
//!   the remote of a partial clone. `protocol.*.allow` of the repository would win over `protocol.allow` of ours;
//!   `GIT_ALLOW_PROTOCOL` wins over both.
//! * Variables of the user's shell that point git at another repository or at programs: all `GIT_*` are removed.
//!
//! Not covered here: filters and diff drivers. Whoever runs a command that applies them (`add`, `diff`) decides about
//! them.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::host::{Limits, output};

/// Overrides for settings that would run programs.
const QUIET: [&str; 8] = [
    // A shell command that receives the other repository's path. Printing nothing, it offers no tips.
    "core.alternateRefsCommand=true",
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "core.pager=cat",
    "credential.helper=",
    "gc.auto=0",
    "log.showSignature=false",
    "maintenance.auto=false",
];
/// Commands that read objects from another repository, always a local folder.
const TRANSFERS: [&str; 2] = ["clone", "fetch"];

/// Limits of a command that processes a whole repository.
const WORK: Limits = Limits { time: Duration::from_mins(10), bytes: 512 << 20 };
/// Limits of a query of settings or references.
const QUESTION: Limits = Limits { time: Duration::from_secs(30), bytes: 1 << 20 };

/// git in one folder.
pub struct Git<'a> {
    folder: &'a Path,
    env: Vec<(&'static str, String)>,
}

impl<'a> Git<'a> {
    /// git in a folder of the user.
    pub fn at(folder: &'a Path) -> Self {
        Self { folder, env: Vec::new() }
    }

    /// git in a repository that bottler created, without global and system settings.
    pub(super) fn alone(folder: &'a Path) -> Self {
        let nobody = |name| (name, "/dev/null".to_owned());
        Self { folder, env: vec![nobody("GIT_CONFIG_GLOBAL"), nobody("GIT_CONFIG_SYSTEM")] }
    }

    /// Adds an environment variable.
    #[must_use]
    pub(super) fn env(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.env.push((name, value.into()));
        self
    }

    /// Builds a command.
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        command.current_dir(self.folder).stdin(Stdio::null());
        for setting in QUIET {
            command.args(["-c", setting]);
        }
        for (name, _) in std::env::vars_os() {
            // The caller names the repository; the user's environment must not redirect git.
            if name.to_string_lossy().starts_with("GIT_") {
                command.env_remove(name);
            }
        }
        command.args(arguments).env("GIT_OPTIONAL_LOCKS", "0").env("GIT_TERMINAL_PROMPT", "0").env("LC_ALL", "C");
        // Missing objects of a partial clone must not be fetched implicitly. git before 2.45 ignores the variable;
        // there, the list of allowed transports prevents it.
        let transports = if arguments.iter().any(|word| TRANSFERS.contains(word)) { "file" } else { "none" };
        command.env("GIT_NO_LAZY_FETCH", "1").env("GIT_ALLOW_PROTOCOL", transports);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a command and returns its output.
    ///
    /// # Errors
    /// git is missing, fails, or exceeds its limits.
    pub fn run(&self, arguments: &[&str]) -> std::io::Result<Vec<u8>> {
        self.within(arguments, WORK)
    }

    /// Runs a command while another thread writes its standard input. A broken pipe is not an error; the command's
    /// status decides.
    pub(super) fn feed(
        &self,
        arguments: &[&str],
        write: impl FnOnce(&mut dyn std::io::Write) -> std::io::Result<()> + Send,
    ) -> std::io::Result<Vec<u8>> {
        let (reader, mut writer) = std::io::pipe()?;
        std::thread::scope(|scope| {
            let fed = scope.spawn(move || write(&mut writer));
            let mut command = self.command(arguments);
            let done = output(command.stdin(reader), WORK);
            // Closes the reading end, so that the writer does not block on a command that has exited.
            drop(command);
            let fed = fed.join().map_err(|_| std::io::Error::other("the writer panicked"))?;
            let done = ended(arguments, done?)?;
            match fed {
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error),
                _ => Ok(done),
            }
        })
    }

    fn within(&self, arguments: &[&str], limits: Limits) -> std::io::Result<Vec<u8>> {
        ended(arguments, output(&mut self.command(arguments), limits)?)
    }

    /// Runs a query and returns its single line; `None` if git fails or prints nothing.
    pub fn line(&self, arguments: &[&str]) -> Option<String> {
        let text = String::from_utf8(self.within(arguments, QUESTION).ok()?).ok()?;
        Some(text.trim_end_matches('\n').to_owned()).filter(|text| !text.is_empty())
    }
}

/// The output of a command, or the end of its error message.
pub(super) fn ended(arguments: &[&str], output: Output) -> std::io::Result<Vec<u8>> {
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    // git indents lists that belong to a sentence.
    let lines: Vec<&str> = said.lines().collect();
    let begins = lines.iter().rposition(|line| !line.starts_with(char::is_whitespace)).unwrap_or_default();
    let said: Vec<&str> = lines[begins..].iter().map(|line| line.trim()).collect();
    let said = if said.is_empty() { "it gives no reason".to_owned() } else { said.join(" ") };
    Err(std::io::Error::other(format!("git {}: {said}", arguments.first().copied().unwrap_or_default())))
}

/// A path as a git argument. Only for paths below the state directory, which are UTF-8.
pub(super) fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The single line that a command printed, without its newline.
///
/// # Errors
/// It is not UTF-8.
pub(super) fn line(printed: &[u8]) -> std::io::Result<String> {
    let text = std::str::from_utf8(printed).map_err(|_| std::io::Error::other("git's output is not UTF-8"))?;
    Ok(text.trim_end_matches('\n').to_owned())
}

/// The name and address that git commits with in a folder.
pub fn identity(folder: &Path) -> Option<(String, String)> {
    // Both at once: every process of git's takes milliseconds of a launch.
    let found =
        Git::at(folder).within(&["config", "--null", "--get-regexp", "^user\\.(name|email)$"], QUESTION).ok()?;
    let found = String::from_utf8(found).ok()?;
    // Of several settings, the last one counts.
    let of = |key: &str| {
        let value = found.split('\0').rev().find_map(|entry| entry.strip_prefix(key)?.strip_prefix('\n'));
        value.filter(|value| !value.is_empty()).map(str::to_owned)
    };
    Some((of("user.name")?, of("user.email")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(folder: &Path, arguments: &[&str]) {
        let done = Command::new("git").args(arguments).current_dir(folder).output().unwrap();
        assert!(done.status.success(), "{arguments:?}: {done:?}");
    }

    fn commit(folder: &Path, text: &str) {
        git(folder, &["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", text]);
    }

    #[test]
    fn the_identity_is_what_git_would_commit_with() {
        let folder = tempfile::tempdir().unwrap();
        git(folder.path(), &["init", "-q"]);
        for (key, value) in
            [("user.name", "First"), ("user.email", "a@b"), ("user.nameless", "No"), ("user.name", "A\nB")]
        {
            git(folder.path(), &["config", "--add", key, value]);
        }
        assert_eq!(identity(folder.path()), Some(("A\nB".to_owned(), "a@b".to_owned())));
        git(folder.path(), &["config", "--replace-all", "user.email", ""]);
        assert_eq!(identity(folder.path()), None);
    }

    /// A repository in which every setting that can name a program leaves a trace, and one to fetch from.
    #[test]
    fn nothing_that_a_repository_configures_runs() {
        let folder = tempfile::tempdir().unwrap();
        let [other, source, ours] = ["other", "source", "ours"].map(|name| folder.path().join(name));
        for repository in [&other, &source] {
            git(folder.path(), &["init", "-q", repository.to_str().unwrap()]);
            commit(repository, "one");
        }
        git(folder.path(), &["clone", "-q", "--shared", other.to_str().unwrap(), ours.to_str().unwrap()]);
        let url = format!("file://{}", source.display());
        let trace = folder.path().join("ran");
        let program = |name: &str| format!("echo {name} >> {} #", trace.display());
        git(&ours, &["config", "core.alternateRefsCommand", &program("alternates")]);
        git(&ours, &["config", "core.fsmonitor", &program("fsmonitor")]);
        git(&ours, &["config", "core.sshCommand", &program("ssh")]);
        git(&ours, &["config", "credential.helper", &format!("!{}", program("helper"))]);
        git(&ours, &["config", "protocol.ext.allow", "always"]);
        let hooks = ours.join(".git/hooks");
        std::fs::create_dir_all(&hooks).unwrap();
        for hook in ["reference-transaction", "post-checkout", "pre-auto-gc"] {
            let hook = hooks.join(hook);
            std::fs::write(&hook, format!("#!/bin/sh\n{}\n", program("hook"))).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(hook, mode).unwrap();
        }
        let here = Git::at(&ours);
        here.run(&["fetch", "--quiet", "--", &url, "HEAD:refs/heads/pulled"]).unwrap();
        here.run(&["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).unwrap();
        // A transport that runs a program, in place of ours.
        let ext = format!("url.ext::sh -c {}% .insteadOf", program("ext").replace(' ', "% "));
        git(&ours, &["config", &ext, "file://"]);
        assert!(here.run(&["fetch", "--quiet", "--", &url, "HEAD:refs/heads/again"]).is_err());
        assert_eq!(std::fs::read_to_string(&trace).unwrap_or_default(), "");
    }
}
