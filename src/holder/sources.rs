//! Reads the sources of credentials: variables, files, commands. Nothing is written down, and no value is in a message.
//!
//! Rules:
//! * A command has a deadline, a bound on its output, no standard input, and the user's home as its directory: the folder of a launch
//!   may be an agent's work, and programs read settings where they start. Nobody is asked for anything.
//! * In the background nobody is asked: a source that may ask its user is read by a command of the user's only.
//! * What a command wrote is used for [`KEPT`]. After a failure it is not run again for [`BACK_OFF`]: a password manager that asks
//!   its user would do so again and again.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::credential::{MAX_VALUE, Source, ValueError, value};
use crate::host::{Limits, output};
use crate::sync::lock;

/// How long the output of a command is used.
const KEPT: Duration = Duration::from_mins(55);
/// How long its output is used at least, also where a host does not accept it.
const RENEWED: Duration = Duration::from_mins(1);
/// How long a command that failed is not run again.
const BACK_OFF: Duration = Duration::from_mins(5);
/// How long a command may take, and how much it may write, in bytes.
const LIMITS: Limits = Limits { time: Duration::from_secs(30), bytes: 64 << 10 };
/// Options that `pass` gives to gpg.
const GPG_OPTIONS: &str = "PASSWORD_STORE_GPG_OPTS";
/// Longest part of what a failed command wrote that a message repeats, in characters.
const MAX_SAID: usize = 200;

/// Why a source has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    /// A variable that is not set, or is not text.
    #[error("{0} is not set on this host")]
    NotSet(String),
    /// A file that cannot be read.
    #[error("read {}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A program that is not there, or does not start.
    #[error("run {program}: {why}")]
    Start {
        /// The program.
        program: String,
        /// Why.
        why: String,
    },
    /// A command that took too long, or wrote too much.
    #[error("{0}")]
    Cut(String),
    /// A command that failed.
    #[error("{program} failed{}{}", code.map_or(String::new(), |code| format!(" with exit code {code}")), shown(said))]
    Failed {
        /// The program.
        program: String,
        /// Its exit code; none where a signal ended it.
        code: Option<i32>,
        /// The last line that it wrote to its standard error.
        said: String,
    },
    /// What was read is no value.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// What was read is no UTF-8 text.
    #[error("it is not UTF-8 text")]
    NotText,
    /// What has to be asked for, where nobody can be asked.
    #[error("it must be asked for, which only `bottler run` at a terminal can do")]
    Asked,
    /// A command that failed a short while ago.
    #[error("{0}; it is not tried again within five minutes of a failure")]
    BackOff(Box<Unresolved>),
}

fn shown(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {said}") }
}

impl Unresolved {
    /// What to do.
    pub fn hint(&self, source: &Source) -> String {
        match (self, source) {
            (Self::NotSet(name), _) => format!("export {name}=…, or give it another source"),
            (Self::File { path, .. }, _) => format!("write it to {}, for you alone to read: chmod 600", path.display()),
            (Self::Start { program, .. }, Source::Keyring { .. }) => {
                format!("install {program} (Debian: libsecret-tools), or give it another source")
            }
            (Self::Start { program, .. }, _) => format!("install {program}, or give it another source"),
            (Self::Cut(_) | Self::Failed { .. }, source) => {
                let words = source.command().unwrap_or_default().join(" ");
                let unlock = match source {
                    Source::Op(_) => "sign in with `op signin`; ",
                    Source::Vault { .. } => "sign in with `vault login`, and set VAULT_ADDR; ",
                    Source::Keyring { .. } => "unlock the keyring; ",
                    _ => "",
                };
                format!("{unlock}it must work without asking: try `{words}`")
            }
            (Self::Value(_) | Self::NotText, _) => {
                "a value is one line of text; look at what the source gives".to_owned()
            }
            (Self::Asked, _) => "give it another source, as in env:NAME".to_owned(),
            (Self::BackOff(why), source) => why.hint(source),
        }
    }

    /// The same without what a command wrote: for messages that are kept.
    #[must_use]
    pub fn without_output(self) -> Self {
        match self {
            Self::Failed { program, code, .. } => Self::Failed { program, code, said: String::new() },
            Self::BackOff(why) => Self::BackOff(Box::new(why.without_output())),
            other => other,
        }
    }
}

/// Reads sources, and remembers what commands wrote.
pub struct Sources {
    /// Variables: of this host, for `env:` and for commands.
    env: BTreeMap<String, String>,
    limits: Limits,
    remembered: Mutex<BTreeMap<Source, Remembered>>,
}

type Remembered = (Instant, Result<String, Unresolved>);

impl Sources {
    /// With these variables of the host.
    pub fn new(env: BTreeMap<String, String>) -> Self {
        Self { env, limits: LIMITS, remembered: Mutex::default() }
    }

    /// The value of a source. Waits for a command.
    ///
    /// # Errors
    /// There is none.
    pub fn read(&self, source: &Source) -> Result<String, Unresolved> {
        self.read_at(source, Instant::now())
    }

    /// The value of a source whose last one a host did not accept, read in the background. Nobody is asked: a password manager that
    /// may ask its user is not run.
    ///
    /// # Errors
    /// There is none, or it may have to be asked for.
    pub fn renew(&self, source: &Source) -> Result<String, Unresolved> {
        if self.may_ask(source) { Err(Unresolved::Asked) } else { self.renew_at(source, Instant::now()) }
    }

    /// Whether reading a source in the background may ask its user.
    fn may_ask(&self, source: &Source) -> bool {
        let has = |name: &str| self.env.get(name).is_some_and(|value| !value.is_empty());
        match source {
            // A service account, or a Connect server: `op` asks nobody then (developer.1password.com/docs/service-accounts,
            // /docs/connect).
            Source::Op(_) => !(has("OP_SERVICE_ACCOUNT_TOKEN") || has("OP_CONNECT_HOST") && has("OP_CONNECT_TOKEN")),
            // A collection that is locked is unlocked, and secret-tool has no option against that.
            Source::Keyring { .. } | Source::Prompt(_) => true,
            // `pass` is told not to ask.
            Source::Pass(_) | Source::Env(_) | Source::File(_) | Source::Command(_) | Source::Vault { .. } => false,
        }
    }

    fn renew_at(&self, source: &Source, now: Instant) -> Result<String, Unresolved> {
        let is_fresh = |(at, found): &Remembered| found.is_err() || now.duration_since(*at) < RENEWED;
        lock(&self.remembered).retain(|known, remembered| known != source || is_fresh(remembered));
        self.read_with(source, now, true)
    }

    fn read_at(&self, source: &Source, now: Instant) -> Result<String, Unresolved> {
        self.read_with(source, now, false)
    }

    fn read_with(&self, source: &Source, now: Instant, silent: bool) -> Result<String, Unresolved> {
        let Some(words) = source.command() else { return self.plain(source) };
        // One at a time: two bottles must not ask a password manager twice.
        let mut remembered = lock(&self.remembered);
        match remembered.get(source) {
            Some((at, Ok(known))) if now.duration_since(*at) < KEPT => return Ok(known.clone()),
            Some((at, Err(why))) if now.duration_since(*at) < BACK_OFF => {
                return Err(Unresolved::BackOff(Box::new(why.clone())));
            }
            _ => {}
        }
        let found = self.run(source, &words, silent);
        remembered.insert(source.clone(), (now, found.clone()));
        found
    }

    fn plain(&self, source: &Source) -> Result<String, Unresolved> {
        match source {
            Source::Env(name) => {
                let known = self.env.get(name).ok_or_else(|| Unresolved::NotSet(name.clone()))?;
                Ok(value(known)?)
            }
            Source::File(path) => {
                let failed = |why: String| Unresolved::File { path: path.clone(), why };
                let file = std::fs::File::open(path).map_err(|error| failed(error.to_string()))?;
                if !file.metadata().is_ok_and(|seen| seen.is_file()) {
                    return Err(failed("it is not a regular file".to_owned()));
                }
                let mut bytes = Vec::new();
                let most = u64::try_from(MAX_VALUE + 2).unwrap_or(u64::MAX);
                file.take(most).read_to_end(&mut bytes).map_err(|error| failed(error.to_string()))?;
                text(bytes, false)
            }
            _ => Err(Unresolved::Asked),
        }
    }

    fn run(&self, source: &Source, words: &[String], silent: bool) -> Result<String, Unresolved> {
        let (program, arguments) = words.split_first().ok_or(Unresolved::Value(ValueError::Empty))?;
        let home = self.env.get("HOME").map_or("/", String::as_str);
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(&self.env).current_dir(home).stdin(Stdio::null());
        if silent && matches!(source, Source::Pass(_)) {
            // pass(1): options for gpg. A key whose passphrase the agent does not remember is an error then (gpg(1)).
            let options = self.env.get(GPG_OPTIONS).map(String::as_str).unwrap_or_default();
            command.env(GPG_OPTIONS, format!("{options} --pinentry-mode=error").trim_start());
        }
        let done = output(&mut command, self.limits).map_err(|error| match error.kind() {
            std::io::ErrorKind::TimedOut => Unresolved::Cut(error.to_string()),
            _ => Unresolved::Start { program: program.clone(), why: error.to_string() },
        })?;
        if !done.status.success() {
            let said = String::from_utf8_lossy(&done.stderr);
            let said = said.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
            let said = said.chars().filter(|c| !c.is_control()).take(MAX_SAID).collect();
            return Err(Unresolved::Failed { program: program.clone(), code: done.status.code(), said });
        }
        text(done.stdout, source.is_first_line())
    }
}

fn text(bytes: Vec<u8>, first_line: bool) -> Result<String, Unresolved> {
    let text = String::from_utf8(bytes).map_err(|_| Unresolved::NotText)?;
    let text = if first_line { text.lines().next().unwrap_or_default() } else { &text };
    Ok(value(text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_read_again_where_nobody_is_asked() {
        let (folder, sources) =
            with(&[("op", "echo never"), ("count", "echo run >> runs; echo the-value-$(wc -l < runs)")]);
        let file = folder.path().join("key");
        std::fs::write(&file, "before-it").unwrap();
        let kept = source(&format!("file:{}", file.display()));
        assert_eq!(sources.renew(&kept), Ok("before-it".to_owned()));
        std::fs::write(&file, "after-that").unwrap();
        assert_eq!(sources.renew(&kept), Ok("after-that".to_owned()));
        // A command runs again, but not for each rejection.
        let (command, begin) = (Source::Command(vec!["count".to_owned()]), Instant::now());
        assert_eq!(sources.read_at(&command, begin), Ok("the-value-1".to_owned()));
        assert_eq!(sources.renew_at(&command, begin + RENEWED / 2), Ok("the-value-1".to_owned()));
        assert_eq!(sources.renew_at(&command, begin + RENEWED), Ok("the-value-2".to_owned()));
        assert_eq!(sources.read_at(&command, begin + RENEWED * 2), Ok("the-value-2".to_owned()));
        for asks in ["op://a/b/c", "keyring:a/b", "prompt:Paste it"] {
            assert_eq!(sources.renew(&source(asks)), Err(Unresolved::Asked), "{asks}");
        }
    }

    /// Sources in a folder with programs of these scripts.
    fn with(programs: &[(&str, &str)]) -> (tempfile::TempDir, Sources) {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        for (name, script) in programs {
            let path = folder.path().join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let path = format!("{}:/usr/bin:/bin", folder.path().display());
        let env = BTreeMap::from([
            ("PATH".to_owned(), path),
            ("HOME".to_owned(), folder.path().display().to_string()),
            ("KEY".to_owned(), "from-env".to_owned()),
        ]);
        (folder, Sources::new(env))
    }

    fn source(text: &str) -> Source {
        text.parse().unwrap()
    }

    fn shell(script: &str) -> Source {
        Source::Command(["sh", "-c", script].map(str::to_owned).into())
    }

    #[test]
    fn a_password_manager_that_asks_nobody_is_read_in_the_background() {
        let (_folder, mut sources) =
            with(&[("op", "echo of-the-service-account"), ("pass", r#"echo "$PASSWORD_STORE_GPG_OPTS" "of-pass""#)]);
        sources.env.insert("OP_CONNECT_TOKEN".into(), "token".into());
        assert_eq!(sources.renew(&source("op://a/b/c")), Err(Unresolved::Asked));
        sources.env.insert("OP_CONNECT_HOST".into(), "http://connect".into());
        assert_eq!(sources.renew(&source("op://a/b/c")), Ok("of-the-service-account".into()));
        sources.env.remove("OP_CONNECT_HOST");
        sources.env.insert("OP_SERVICE_ACCOUNT_TOKEN".into(), "token".into());
        assert_eq!(sources.renew(&source("op://a/b/d")), Ok("of-the-service-account".into()));
        // Only in the background is gpg told not to ask.
        assert_eq!(sources.renew(&source("pass:a")), Ok("--pinentry-mode=error of-pass".into()));
        assert_eq!(sources.read(&source("pass:b")), Ok(" of-pass".into()));
        sources.env.insert(GPG_OPTIONS.into(), "--no-throw-keyids".into());
        assert_eq!(sources.renew(&source("pass:c")), Ok("--no-throw-keyids --pinentry-mode=error of-pass".into()));
    }

    #[test]
    fn every_source_has_its_value() {
        let (folder, sources) = with(&[
            ("op", r#"[ "$1 $2" = "read --no-newline" ] && printf %s "of $3""#),
            ("pass", r#"[ "$1" = show ] && printf 'of %s\nlogin: me\n' "$2""#),
            ("secret-tool", r#"printf %s "$*""#),
            ("vault", r#"printf '%s\n' "$*""#),
        ]);
        let file = folder.path().join("key");
        std::fs::write(&file, "from-file\r\n").unwrap();
        for (text, expected) in [
            ("env:KEY", "from-env"),
            (&*format!("file:{}", file.display()), "from-file"),
            ("op://a/b c/d", "of op://a/b c/d"),
            ("pass:team/api", "of team/api"),
            ("keyring:https://x/me", "lookup service https://x username me"),
            ("vault:secret/a#k", "kv get -field=k secret/a"),
        ] {
            assert_eq!(sources.read(&source(text)), Ok(expected.to_owned()), "{text}");
        }
        // The folder of a launch is not theirs, and they are given nothing to read.
        let home = folder.path().canonicalize().unwrap().display().to_string();
        assert_eq!(sources.read(&shell("pwd -P; cat")), Ok(home));
    }

    #[test]
    fn what_is_missing_says_why_and_what_to_do() {
        let (_folder, mut sources) = with(&[("pass", "echo begin >&2; echo 'not in the store' >&2; exit 4")]);
        sources.limits = Limits { time: Duration::from_millis(300), bytes: 1000 };
        for (source, why, hint) in [
            (source("env:NONE"), "NONE is not set", "export NONE="),
            (source("file:/nonexistent/key"), "/nonexistent/key", "chmod 600"),
            (source("file:/tmp"), "not a regular file", "chmod 600"),
            (source("op://a/b/c"), "run op: ", "install op"),
            (source("keyring:a/b"), "run secret-tool: ", "libsecret-tools"),
            (source("pass:x"), "pass failed with exit code 4: not in the store", "try `pass show x`"),
            (shell("sleep 1000"), "did not end within", "without asking"),
            (shell("yes"), "more than", "without asking"),
            (shell("printf 'a\\nb\\n'"), "line break", "one line"),
            (shell("printf 'a\\000b'"), "control character", "one line"),
            (shell("printf '\\377'"), "not UTF-8", "one line"),
            (shell("true"), "it is empty", "one line"),
            (source("prompt:Paste it"), "must be asked for", "another source"),
        ] {
            let error = sources.read(&source).unwrap_err();
            assert!(error.to_string().contains(why), "{source}: {error}");
            assert!(error.hint(&source).contains(hint), "{source}: {}", error.hint(&source));
        }
        let error = sources.read(&source("pass:y")).unwrap_err().without_output();
        assert_eq!(error.to_string(), "pass failed with exit code 4");
    }

    #[test]
    fn a_command_is_run_again_when_its_value_is_old_and_not_soon_after_a_failure() {
        let (folder, sources) = with(&[]);
        let count = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap_or_default().len();
        let good = shell("printf x >> good; printf value-of-$(wc -c < good)");
        let bad = shell("printf x >> bad; exit 1");
        let began = Instant::now();
        assert_eq!(sources.read_at(&good, began), Ok("value-of-1".into()));
        assert_eq!(
            sources.read_at(&good, began + KEPT.saturating_sub(Duration::from_secs(1))),
            Ok("value-of-1".into())
        );
        assert_eq!(sources.read_at(&good, began + KEPT), Ok("value-of-2".into()));
        assert!(sources.read_at(&bad, began).is_err());
        let again = sources.read_at(&bad, began + BACK_OFF.saturating_sub(Duration::from_secs(1))).unwrap_err();
        assert!(again.to_string().contains("not tried again"), "{again}");
        assert_eq!(count("bad"), 1);
        assert!(sources.read_at(&bad, began + BACK_OFF).is_err());
        assert_eq!((count("good"), count("bad")), (2, 2));
    }
}
