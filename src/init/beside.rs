//! The proof of an agent that is paused, from a container beside it: in its network, with its sidecars' sockets, and relays of
//! its own, for those of init are paused, too.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::relay;
use crate::layout::agent::Far;
use crate::probe::{self, Targets};
use crate::wire::{Reader, send};

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

/// Longest configuration, in bytes.
const MAX_LINE: usize = 1 << 20;

/// Tries, and prints the lines as JSON.
///
/// # Errors
/// It is told nothing, a relay cannot listen, or standard output is closed.
pub async fn run() -> anyhow::Result<()> {
    let config = Reader::new(tokio::io::stdin(), MAX_LINE).value().await.context("read the configuration")?;
    let Config { relays, targets } = config.context("there is no configuration")?;
    relay::start(&relays, targets.gvisor).await?;
    let lines = tokio::task::spawn_blocking(move || probe::release(&targets)).await?;
    Ok(send(&mut tokio::io::stdout(), &lines).await?)
}
