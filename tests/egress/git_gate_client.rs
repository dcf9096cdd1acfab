//! The agent's git: that of this machine, or another.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::lab::sh;

/// What a command did.
#[derive(Debug)]
pub struct Done {
    pub ok: bool,
    /// Both outputs.
    pub text: String,
}

impl Done {
    #[track_caller]
    pub fn expect(self, ok: bool, words: &[&str]) -> Self {
        assert_eq!(self.ok, ok, "{}", self.text);
        for word in words {
            assert!(self.text.contains(word), "no {word:?} in: {}", self.text);
        }
        self
    }
}

/// A folder with the files of another git, which the agent then uses.
const OTHER_GIT: &str = "BOTTLER_TEST_GIT_ROOT";

/// Makes the agent's files appear in the folder of another git.
pub fn enter() {
    let Some(root) = std::env::var_os(OTHER_GIT).map(PathBuf::from) else { return };
    for folder in [std::env::temp_dir(), "/proc".into(), "/dev".into()] {
        let at = root.join(folder.strip_prefix("/").unwrap());
        sh(&format!("mkdir -p '{0}'; mountpoint -q '{0}' || mount --bind '{1}' '{0}'", at.display(), folder.display()));
    }
}

/// The agent's git: that of this machine, or another.
fn program(folder: &Path) -> Command {
    let Some(root) = std::env::var_os(OTHER_GIT) else {
        let mut command = Command::new("/usr/bin/git");
        command.current_dir(folder);
        return command;
    };
    let mut command = Command::new("/usr/sbin/chroot");
    command.arg(root).args(["/usr/bin/git", "-C"]).arg(folder);
    command
}

pub fn git_command(home: &Path, folder: &Path, arguments: &[&str]) -> Command {
    let mut command = program(folder);
    command.env_clear().env("PATH", std::env::var("PATH").unwrap()).env("HOME", home.join("home"));
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_TERMINAL_PROMPT", "0");
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "Agent").env(format!("GIT_{who}_EMAIL"), "agent@example.com");
    }
    command.args(["-c", "safe.directory=*", "-c", "protocol.file.allow=always"]).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub fn git_in(home: &Path, folder: &Path, arguments: &[&str]) -> Done {
    let done = git_command(home, folder, arguments).output().unwrap();
    let text = [done.stdout, done.stderr].concat();
    Done { ok: done.status.success(), text: String::from_utf8_lossy(&text).into_owned() }
}
