//! Proves a paused agent from a container beside it, which shares the agent's network and its sidecars' sockets. It has
//! relays of its own, because init's are paused, too.

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

/// The configuration: a line of JSON on standard input.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Loopback addresses that the agent's init does not use, and their destinations.
    pub relays: BTreeMap<SocketAddrV4, Far>,
    /// The targets, at those addresses.
    pub targets: Targets,
}

/// Maximum length of the configuration, in bytes.
const MAX_LINE: usize = 1 << 20;

/// Runs the probe and prints its results as JSON.
///
/// # Errors
/// There is no configuration, a relay cannot listen, or standard output is closed.
pub async fn run() -> anyhow::Result<()> {
    let config = Reader::new(tokio::io::stdin(), MAX_LINE).value().await.context("read the configuration")?;
    let Config { relays, targets } = config.context("there is no configuration")?;
    relay::start(&relays).await?;
    let lines = crate::task::blocking(move || probe::release(&targets)).await?;
    Ok(send(&mut tokio::io::stdout(), &lines).await?)
}
