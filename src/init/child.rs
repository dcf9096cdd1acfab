//! A container's command, as the child of its PID 1; and everybody else's orphans.

use std::collections::{BTreeMap, HashMap};
use std::io::IsTerminal;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use anyhow::Context;
use nix::sys::signal::{SigHandler, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};
use tokio::sync::oneshot;

use super::signals::next_signal;

/// What to start.
pub(super) struct Task<'a> {
    pub(super) command: &'a [String],
    pub(super) env: &'a BTreeMap<String, String>,
    pub(super) workdir: &'a str,
    /// Where both its streams go; to PID 1's own when absent.
    pub(super) output: Option<std::io::PipeWriter>,
}

/// A command that runs.
pub(super) struct Child {
    pid: Pid,
    children: Stream,
    others: OtherChildren,
}

/// Further commands of PID 1's own, whose ends it collects like everybody's.
#[derive(Clone, Default)]
pub(super) struct OtherChildren(Arc<Mutex<HashMap<i32, oneshot::Sender<i32>>>>);

impl OtherChildren {
    /// Runs a command without input and output; its exit code, `None` where it could not be run.
    pub(super) async fn run(&self, command: &[String], env: &BTreeMap<String, String>) -> Option<i32> {
        let (program, arguments) = command.split_first()?;
        let ended = {
            // Held until it is known: its end may come before the next line.
            let mut waiting = crate::sync::lock(&self.0);
            let mut command = Command::new(program);
            command.args(arguments).envs(env).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let child = command.spawn().ok()?;
            let (sender, ended) = oneshot::channel();
            waiting.insert(child.id().cast_signed(), sender);
            ended
        };
        ended.await.ok()
    }
}

impl Child {
    /// Serves as PID 1 until the command has ended; its exit code, 128 and the signal's number where a signal ended it.
    pub(super) async fn end(mut self, signals: &mut [Stream]) -> i32 {
        loop {
            tokio::select! {
                _ = self.children.recv() => {
                    if let Some(code) = self.reap() {
                        return code;
                    }
                }
                signal = next_signal(signals) => {
                    // To its whole group, as a terminal would; it may have ended in this moment.
                    let _ = kill(Pid::from_raw(-self.pid.as_raw()), signal);
                }
            }
        }
    }

    /// Those whose ends this one collects.
    pub(super) fn others(&self) -> OtherChildren {
        self.others.clone()
    }

    /// Collects every child that has ended; the command's code if it is among them.
    fn reap(&self) -> Option<i32> {
        loop {
            let (pid, code) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, code),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, 128 + signal as i32),
                Ok(WaitStatus::StillAlive) | Err(_) => return None,
                Ok(_) => continue,
            };
            if pid == self.pid {
                return Some(code);
            }
            if let Some(waiting) = crate::sync::lock(&self.others.0).remove(&pid.as_raw()) {
                let _ = waiting.send(code);
            }
        }
    }
}

/// Starts a command, in a session of its own; on a terminal, as its foreground.
#[expect(unsafe_code, reason = "a terminal is made the child's between fork and exec")]
pub(super) fn start(task: Task<'_>) -> anyhow::Result<Child> {
    let children = signal(SignalKind::child())?;
    let (program, arguments) = task.command.split_first().context("there is no command")?;
    let mut command = Command::new(program);
    command.args(arguments).envs(task.env).current_dir(task.workdir);
    if let Some(output) = task.output {
        command.stdin(Stdio::null()).stderr(output.try_clone()?).stdout(output);
    }
    let on_terminal = std::io::stdin().is_terminal();
    let own_group = move || {
        if !on_terminal {
            return Ok(nix::unistd::setsid().map(drop)?);
        }
        // The terminal is PID 1's session's: the command becomes its foreground group there, as under a shell. Whoever is in
        // the background is stopped for trying, unless it ignores that.
        let group = nix::unistd::getpid();
        nix::unistd::setpgid(group, group)?;
        // SAFETY: neither disposition is a function of ours.
        let before = unsafe { nix::sys::signal::signal(Signal::SIGTTOU, SigHandler::SigIgn) }?;
        nix::unistd::tcsetpgrp(std::io::stdin(), group)?;
        // SAFETY: it is what was there before.
        unsafe { nix::sys::signal::signal(Signal::SIGTTOU, before) }?;
        Ok(())
    };
    // SAFETY: the closure makes system calls and allocates nothing.
    unsafe { command.pre_exec(own_group) };
    let child = command.spawn().with_context(|| format!("start {program:?} in {:?}", task.workdir))?;
    Ok(Child { pid: Pid::from_raw(child.id().cast_signed()), children, others: OtherChildren::default() })
}
