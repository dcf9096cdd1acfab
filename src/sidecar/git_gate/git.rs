//! Runs git: with a clean environment, limits, and a deadline. All git processes of the gate start here.
//!
//! Attacks that this stops: hooks, aliases and programs in configuration files (the gate reads none but its own);
//! replacements and grafts, which show another object than the one that is sent; packs that become a gigabyte when
//! they are unpacked (a limit of memory, because git's own option bounds only the size of what arrives); endless work
//! (limits of processor time, and a deadline); transports that run programs.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::environment;

/// How long one process may run.
pub(super) const DEADLINE: Duration = Duration::from_mins(10);
/// Maximum processor time of one process, in seconds.
const CPU: u64 = 300;
/// Maximum memory of a process that unpacks what a client sent, and of one that reads the gate's own repositories, in
/// bytes of address space.
pub(super) const HOSTILE: u64 = 768 << 20;
pub(super) const OWN: u64 = 4 << 30;
/// Maximum size of a message of a failed process, in bytes.
const MAX_MESSAGE: u64 = 16 << 10;

/// Why a git process failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum GitError {
    /// It could not be started, or not be talked to.
    #[error("run git {command}: {source}")]
    Run {
        /// The command.
        command: String,
        /// The reason.
        source: std::io::Error,
    },
    /// It failed.
    #[error("git {command} failed ({status}): {message}")]
    Failed {
        /// The command.
        command: String,
        /// Its status.
        status: ExitStatus,
        /// What it wrote to standard error.
        message: String,
    },
    /// It took too long.
    #[error("git {0} did not end within {seconds} s", seconds = DEADLINE.as_secs())]
    Late(String),
    /// It wrote too much, or what was not expected.
    #[error("git {command}: {problem}")]
    Output {
        /// The command.
        command: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// git in one repository.
#[derive(Clone)]
pub(super) struct Git {
    program: PathBuf,
    repository: PathBuf,
    alternates: Option<PathBuf>,
    memory: u64,
    env: Vec<(&'static str, PathBuf)>,
}

/// A running process. It is killed when this is dropped.
pub(super) struct Running {
    command: String,
    pub(super) child: Child,
    errors: tokio::task::JoinHandle<String>,
}

impl Git {
    /// git in a bare repository of the gate.
    pub(super) fn new(program: &Path, repository: &Path) -> Self {
        let (program, repository) = (program.to_owned(), repository.to_owned());
        Self { program, repository, alternates: None, memory: OWN, env: Vec::new() }
    }

    /// The same with the objects of another repository.
    #[must_use]
    pub(super) fn with_objects_of(&self, repository: &Path) -> Self {
        Self { alternates: Some(repository.join("objects")), ..self.clone() }
    }

    /// The same with a limit of memory.
    #[must_use]
    pub(super) fn with_memory(&self, memory: u64) -> Self {
        Self { memory, ..self.clone() }
    }

    /// The same with a variable.
    #[must_use]
    pub(super) fn env(&self, name: &'static str, value: impl Into<PathBuf>) -> Self {
        let env = self.env.iter().cloned().chain([(name, value.into())]).collect();
        Self { env, ..self.clone() }
    }

    /// The repository.
    pub(super) fn repository(&self) -> &Path {
        &self.repository
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.current_dir(&self.repository).kill_on_drop(true).process_group(0);
        environment::set(&mut command);
        command.args(arguments);
        command.env("GIT_DIR", &self.repository);
        if let Some(objects) = &self.alternates {
            command.env("GIT_ALTERNATE_OBJECT_DIRECTORIES", objects);
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts a process with pipes; its limits hold before it is sent anything.
    ///
    /// # Errors
    /// It cannot be started.
    pub(super) fn start(&self, arguments: &[&str]) -> Result<Running, GitError> {
        let shown = arguments.first().copied().unwrap_or_default().to_owned();
        let run = |source| GitError::Run { command: shown.clone(), source };
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(run)?;
        limit(&child, self.memory).map_err(run)?;
        let errors = crate::task::spawn(read_message(child.stderr.take()));
        Ok(Running { command: shown, child, errors })
    }

    /// Runs a process to its end: its input, and its output of at most so many bytes.
    ///
    /// # Errors
    /// It fails, takes too long, or writes more.
    pub(super) async fn run(&self, arguments: &[&str], input: Vec<u8>, most: u64) -> Result<Vec<u8>, GitError> {
        let mut running = self.start(arguments)?;
        let mut stdin = running.child.stdin.take();
        let stdout = running.child.stdout.take();
        let work = async {
            let feed = async {
                if let Some(stdin) = &mut stdin {
                    // A process that does not read all of its input says why by its status.
                    let _ = stdin.write_all(&input).await;
                }
                drop(stdin);
            };
            let mut output = Vec::new();
            let read = async {
                match stdout {
                    Some(stdout) => stdout.take(most.saturating_add(1)).read_to_end(&mut output).await.map(drop),
                    None => Ok(()),
                }
            };
            let ((), read) = tokio::join!(feed, read);
            read.map_err(|source| GitError::Run { command: running.command.clone(), source })?;
            if output.len() as u64 > most {
                let problem = format!("its output has more than {most} bytes");
                return Err(GitError::Output { command: running.command.clone(), problem });
            }
            running.end().await?;
            Ok(output)
        };
        let shown = arguments.first().copied().unwrap_or_default().to_owned();
        tokio::time::timeout(DEADLINE, work).await.map_err(|_| GitError::Late(shown))?
    }
}

impl Running {
    /// Waits for its end.
    ///
    /// # Errors
    /// It failed.
    pub(super) async fn end(mut self) -> Result<(), GitError> {
        let run = |source| GitError::Run { command: self.command.clone(), source };
        let status = self.child.wait().await.map_err(run)?;
        let message = (&mut self.errors).await.unwrap_or_default();
        if status.success() {
            return Ok(());
        }
        Err(GitError::Failed { command: self.command.clone(), status, message })
    }

    /// An error about its output.
    pub(super) fn unexpected(&self, problem: impl Into<String>) -> GitError {
        GitError::Output { command: self.command.clone(), problem: problem.into() }
    }
}

/// Bounds a process that has just been started: its memory, processor time, and core dumps.
pub(super) fn limit(child: &Child, memory: u64) -> std::io::Result<()> {
    let pid = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    let pid = pid.ok_or_else(|| std::io::Error::other("it has ended"))?;
    for (resource, most) in [(Resource::As, memory), (Resource::Cpu, CPU), (Resource::Core, 0)] {
        prlimit(Some(pid), resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    Ok(())
}

/// The end of what a process says on standard error.
pub(super) async fn read_message(from: Option<impl AsyncRead + Unpin>) -> String {
    let mut message = Vec::new();
    if let Some(mut from) = from {
        let _ = (&mut from).take(MAX_MESSAGE).read_to_end(&mut message).await;
        let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
    }
    super::visible::text(&message).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn promise_10_replacements_grafts_and_configuration_of_a_repository_hide_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let init = ["init", "-q", "--bare", "-b", "main"];
        assert!(std::process::Command::new("git").args(init).arg(folder.path()).status().unwrap().success());
        let git = Git::new(Path::new("/usr/bin/git"), folder.path());
        let run = async |arguments: &[&str], input: &str| {
            let output = git.run(arguments, input.into(), 1 << 20).await.unwrap();
            String::from_utf8(output).unwrap().trim().to_owned()
        };
        let [bad, good] = ["bad\n", "good\n"];
        let bad_id = run(&["hash-object", "-w", "--stdin"], bad).await;
        let good_id = run(&["hash-object", "-w", "--stdin"], good).await;
        run(&["update-ref", &format!("refs/replace/{bad_id}"), &good_id], "").await;
        assert_eq!(run(&["cat-file", "blob", &bad_id], "").await, "bad");
        let tree = run(&["mktree"], "").await;
        let commit = format!("tree {tree}\nauthor a <a> 1 +0000\ncommitter a <a> 1 +0000\n\nx\n");
        let parent = run(&["hash-object", "-t", "commit", "-w", "--stdin"], &commit).await;
        let child = commit.replace("author", &format!("parent {parent}\nauthor"));
        let child = run(&["hash-object", "-t", "commit", "-w", "--stdin"], &child).await;
        std::fs::write(folder.path().join("info/grafts"), format!("{child}\n")).unwrap();
        assert_eq!(run(&["rev-list", "--count", &child], "").await, "2");
        let marker = folder.path().join("ran");
        let config = format!("[alias]\n\tx = !touch {0}\n[core]\n\tfsmonitor = touch {0}\n", marker.display());
        std::fs::write(
            folder.path().join("hooks/reference-transaction"),
            format!("#!/bin/sh\ntouch {}", marker.display()),
        )
        .unwrap();
        std::fs::set_permissions(
            folder.path().join("hooks/reference-transaction"),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .unwrap();
        std::fs::write(folder.path().join("config"), config).unwrap();
        run(&["update-ref", "refs/heads/x", &child], "").await;
        assert!(!marker.exists());
        // Another repository is not reached: no transport is allowed.
        let other = format!("file://{}", folder.path().display());
        assert!(git.run(&["ls-remote", &other], Vec::new(), 1 << 20).await.is_err());
    }

    /// git's place is taken by a script that reads a line and then does something.
    fn script(folder: &Path, text: &str) -> Git {
        let program = folder.join("program");
        std::fs::write(&program, format!("#!/bin/sh\nread line\n{text}\n")).unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        Git::new(&program, folder)
    }

    #[tokio::test]
    async fn promise_15_a_process_has_its_processor_time_limited_and_dumps_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let git = script(folder.path(), "cat /proc/self/limits");
        let text = String::from_utf8(git.run(&[], b"go\n".to_vec(), 1 << 20).await.unwrap()).unwrap();
        let limit = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_ascii_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(limit("Max cpu time"), [CPU.to_string(), CPU.to_string()]);
        assert_eq!(limit("Max address space"), [OWN.to_string(), OWN.to_string()]);
        assert_eq!(limit("Max core file size"), ["0", "0"]);
        // What such a limit does to a process that works without end.
        let running = script(folder.path(), "while :; do :; done").start(&[]).unwrap();
        let pid = Pid::from_raw(i32::try_from(running.child.id().unwrap()).unwrap());
        prlimit(pid, Resource::Cpu, Rlimit { current: Some(1), maximum: Some(1) }).unwrap();
        let mut running = running;
        running.child.stdin.take().unwrap().write_all(b"go\n").await.unwrap();
        let why = running.end().await.unwrap_err().to_string();
        assert!(why.contains("SIGKILL") || why.contains("SIGXCPU"), "{why}");
    }

    // The clock stands still while the process works, and goes on at once when there is nothing else to do.
    #[tokio::test(start_paused = true)]
    async fn promise_15_a_process_that_does_not_end_is_killed_at_its_deadline() {
        let folder = tempfile::tempdir().unwrap();
        let git = script(folder.path(), "exec sleep 3600");
        let began = tokio::time::Instant::now();
        let why = git.run(&["fetch"], b"go\n".to_vec(), 1 << 20).await.unwrap_err().to_string();
        assert_eq!((why.as_str(), began.elapsed().as_secs()), ("git fetch did not end within 600 s", 600));
        let at = folder.path().canonicalize().unwrap();
        let is_there = |process: std::io::Result<std::fs::DirEntry>| {
            std::fs::read_link(process.unwrap().path().join("cwd")).is_ok_and(|folder| folder == at)
        };
        while std::fs::read_dir("/proc").unwrap().any(is_there) {
            std::thread::yield_now();
        }
    }

    #[tokio::test]
    async fn promise_15_a_process_has_bounds_of_output_and_memory() {
        let folder = tempfile::tempdir().unwrap();
        let init = ["init", "-q", "--bare", "-b", "main"];
        assert!(std::process::Command::new("git").args(init).arg(folder.path()).status().unwrap().success());
        let git = Git::new(Path::new("/usr/bin/git"), folder.path());
        let error = git.run(&["version"], Vec::new(), 10).await.unwrap_err();
        assert!(error.to_string().contains("more than 10 bytes"), "{error}");
        // A commit, because files are streamed.
        let write = ["hash-object", "-t", "commit", "--literally", "-w", "--stdin"];
        let id = git.run(&write, vec![b'x'; 32 << 20], 100).await.unwrap();
        // Its limits hold before it is sent anything.
        let small = git.with_memory(32 << 20);
        assert!(small.run(&["cat-file", "--batch"], id.clone(), 64 << 20).await.is_err());
        assert!(git.run(&["cat-file", "--batch"], id, 64 << 20).await.is_ok());
    }
}
