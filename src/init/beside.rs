//! The proof of an agent that is paused, from a container beside it: in its network, with its sidecars' sockets, and relays of
//! its own, for those of init are paused, too.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use super::relay;
use crate::layout::agent::Far;
use crate::probe::{self, Targets};

/// The role's name on the command line.
pub const ROLE: &str = "prove-beside";

/// What it is told: a line of JSON on its standard input.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Loopback addresses that the agent's init has not taken, and where they lead.
    pub relays: BTreeMap<SocketAddrV4, Far>,
    /// What to try, by those.
    pub targets: Targets,
}

/// Tries, and prints the lines as JSON.
///
/// # Errors
/// It is told nothing, a relay cannot listen, or standard output is closed.
pub async fn run() -> anyhow::Result<()> {
    let mut line = String::new();
    BufReader::new(tokio::io::stdin()).read_line(&mut line).await?;
    let Config { relays, targets } = serde_json::from_str(&line).context("read the configuration")?;
    relay::start(&relays, targets.gvisor).await?;
    let lines = tokio::task::spawn_blocking(move || probe::release(&targets)).await?;
    let mut out = serde_json::to_vec(&lines)?;
    out.push(b'\n');
    let mut stdout = tokio::io::stdout();
    stdout.write_all(&out).await?;
    Ok(stdout.flush().await?)
}
