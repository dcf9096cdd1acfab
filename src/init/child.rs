//! Runs a container's command as a child of its PID 1, and reaps orphans.

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

/// What to run.
pub(super) struct Task<'a> {
    pub(super) command: &'a [String],
    pub(super) env: &'a BTreeMap<String, String>,
    pub(super) workdir: &'a str,
    /// Receives both output streams; they are inherited if absent.
    pub(super) output: Option<std::io::PipeWriter>,
}

/// A running command.
pub(super) struct Child {
    pid: Pid,
    children: Stream,
    others: OtherChildren,
}

/// Further commands of PID 1, which are reaped with all other children.
#[derive(Clone, Default)]
pub(super) struct OtherChildren(Arc<Mutex<HashMap<i32, oneshot::Sender<i32>>>>);

impl OtherChildren {
    /// Runs a command without input and output; returns its exit code, `None` if it cannot be run.
    pub(super) async fn run(&self, command: &[String], env: &BTreeMap<String, String>) -> Option<i32> {
        let (program, arguments) = command.split_first()?;
        let ended = {
            // Held until the child is registered: it may end before that.
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
    /// Runs as PID 1 until the command has ended; returns its exit code, or 128 and the number of the signal that ended
    /// it.
    pub(super) async fn end(mut self, signals: &mut [Stream]) -> i32 {
        loop {
            tokio::select! {
                _ = self.children.recv() => {
                    if let Some(code) = self.reap() {
                        return code;
                    }
                }
                signal = next_signal(signals) => {
                    // To its process group, as a terminal does; it may have ended already.
                    let _ = kill(Pid::from_raw(-self.pid.as_raw()), signal);
                }
            }
        }
    }

    /// The further commands that this child's reaper collects.
    pub(super) fn others(&self) -> OtherChildren {
        self.others.clone()
    }

    /// Reaps every child that has ended; returns the command's exit code if it is among them.
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

/// Starts a command in a session of its own; on a terminal, as the foreground process group.
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
        // The terminal belongs to PID 1's session: the command becomes its foreground group, as under a shell. A
        // background process that tries this is stopped by SIGTTOU unless it ignores it.
        let group = nix::unistd::getpid();
        nix::unistd::setpgid(group, group)?;
        // SAFETY: neither disposition is a handler function.
        let before = unsafe { nix::sys::signal::signal(Signal::SIGTTOU, SigHandler::SigIgn) }?;
        nix::unistd::tcsetpgrp(std::io::stdin(), group)?;
        // SAFETY: restores the previous disposition.
        unsafe { nix::sys::signal::signal(Signal::SIGTTOU, before) }?;
        Ok(())
    };
    // SAFETY: the closure only makes system calls and does not allocate.
    unsafe { command.pre_exec(own_group) };
    let child = command.spawn().with_context(|| format!("start {program:?} in {:?}", task.workdir))?;
    Ok(Child { pid: Pid::from_raw(child.id().cast_signed()), children, others: OtherChildren::default() })
}
