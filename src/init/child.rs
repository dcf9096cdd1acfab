//! The agent's command, as init's child on the container's terminal; and everybody else's orphans.

use std::io::IsTerminal;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::Context;
use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::kill;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Release, next_signal};

/// Starts the command and serves as PID 1 until it has ended; its exit code, 128 and the signal's number where a
/// signal ended it.
pub(super) async fn run(release: &Release, signals: &mut [Signal]) -> anyhow::Result<i32> {
    let mut children = signal(SignalKind::child())?;
    let agent = start(release)?;
    loop {
        tokio::select! {
            _ = children.recv() => {
                if let Some(code) = reap(agent) {
                    return Ok(code);
                }
            }
            signal = next_signal(signals) => {
                // To its whole group, as a terminal would; it may have ended in this moment.
                let _ = kill(Pid::from_raw(-agent.as_raw()), signal);
            }
        }
    }
}

#[expect(unsafe_code, reason = "a terminal is made the child's own between fork and exec")]
fn start(release: &Release) -> anyhow::Result<Pid> {
    let (program, arguments) = release.command.split_first().context("the agent has no command")?;
    let mut command = Command::new(program);
    command.args(arguments).envs(&release.env).current_dir(&release.workdir);
    let on_terminal = std::io::stdin().is_terminal();
    let own_session = move || {
        nix::unistd::setsid()?;
        if on_terminal {
            // SAFETY: an ioctl on standard input with an integer argument.
            Errno::result(unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) })?;
        }
        Ok(())
    };
    // SAFETY: the closure makes two system calls and allocates nothing.
    unsafe { command.pre_exec(own_session) };
    let child = command.spawn().with_context(|| format!("start {program:?} in {:?}", release.workdir))?;
    Ok(Pid::from_raw(child.id().cast_signed()))
}

/// Collects every child that has ended; the agent's code if it is among them.
fn reap(agent: Pid) -> Option<i32> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == agent => return Some(code),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == agent => return Some(128 + signal as i32),
            Ok(WaitStatus::StillAlive) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}
