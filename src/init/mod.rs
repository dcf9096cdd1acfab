//! PID 1 of containers that run a command from outside: `init` in the agent's container, `serve` in that of an ordinary
//! image.
//!
//! `init` relays the sidecars' services, proves that the bottle is isolated, receives the agent's files and environment,
//! and then starts the agent's command. It runs as the plan's user, without capabilities, and is not dumpable: the
//! agent can neither read nor trace it.

pub mod beside;
pub mod build_check;
pub mod builder;
mod child;
pub mod files;
mod java;
mod place;
mod program;
mod relay;
mod release;
pub mod serve;
mod signals;

use std::collections::BTreeMap;
use std::net::SocketAddrV4;

use anyhow::Context;
use serde::{Deserialize, Serialize};

pub use release::{File, Release, Request, Response, bridge};

use crate::layout::agent::{ENV_FILE, Far};
use crate::probe;
use signals::{next_signal, signals};

/// The role's name on the command line.
pub const ROLE: &str = "agent-init";
/// The role's name on the command line that runs the operator's commands.
pub const ENTER: &str = "enter";
/// The configuration, passed on the command line; it contains no secret.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Loopback addresses, and their destinations.
    pub relays: BTreeMap<SocketAddrV4, Far>,
}

/// `bottler enter COMMAND…`, run by an exec: runs a command with the agent's environment. Returns only where that
/// cannot be started: the exit code.
///
/// # Errors
/// There is no command, or init's environment cannot be read.
pub fn enter(words: &[&str]) -> anyhow::Result<i32> {
    use std::os::unix::process::CommandExt;
    let (program, arguments) = words.split_first().context("there is no command")?;
    // Before the release there is no environment.
    let stored = std::fs::read(ENV_FILE).unwrap_or_else(|_| b"{}".to_vec());
    let env: BTreeMap<String, String> =
        serde_json::from_slice(&stored).context("read the environment that init stored")?;
    let error = std::process::Command::new(program).args(arguments).envs(env).exec();
    eprintln!("bottler: start {program:?}: {error}");
    // As shells and other engines have it (POSIX, Shell Command Language, section 2.8.2).
    Ok(if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 })
}

/// Runs until the agent's command has ended; returns its exit code.
///
/// # Errors
/// The configuration is invalid, a relay cannot listen, or the command cannot be started.
pub async fn run(config: &str) -> anyhow::Result<i32> {
    let config: Config = serde_json::from_str(config).context("read init's configuration")?;
    let mut signals = signals()?;
    relay::start(&config.relays).await?;
    let release = tokio::select! {
        release = release::receive(probe::release) => release?,
        signal = next_signal(&mut signals) => return Ok(128 + signal as i32),
    };
    let task = child::Task { command: &release.command, env: &release.env, workdir: &release.workdir, output: None };
    Ok(child::start(task)?.end(&mut signals).await)
}
