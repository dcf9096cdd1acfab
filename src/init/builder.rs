//! `build-init`: PID 1 of a container in which the steps of a build run, one exec each. It relays egress' socket as the
//! agent's init does, puts the bottle's CA where programs look for it, and waits to be stopped.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;

use anyhow::Context;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

use super::signals::{next_signal, signals};
use super::{relay, release};
use crate::layout::agent::Far;

/// The role's name on the command line.
pub const ROLE: &str = "build-init";
/// What it prints when a step may run.
pub const READY: &str = "ready\n";

/// The configuration, passed on the command line; it contains no secret.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Loopback addresses, and their destinations.
    pub relays: BTreeMap<SocketAddrV4, Far>,
    /// The bottle's CA certificate, in PEM.
    pub ca: Option<String>,
}

/// Runs until it is told to stop.
///
/// # Errors
/// The configuration is invalid, a relay cannot listen, or a file cannot be written.
pub async fn run(config: &str) -> anyhow::Result<i32> {
    let config: Config = serde_json::from_str(config).context("read the configuration")?;
    let mut signals = signals()?;
    let mut children = signal(SignalKind::child())?;
    relay::start(&config.relays).await?;
    if let Some(ca) = &config.ca {
        release::put_certificates(ca)?;
    }
    print!("{READY}");
    std::io::Write::flush(&mut std::io::stdout())?;
    loop {
        tokio::select! {
            _ = children.recv() => reap(),
            signal = next_signal(&mut signals) => return Ok(128 + signal as i32),
        }
    }
}

/// Reaps what a step has left behind.
fn reap() {
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            return;
        }
    }
}
