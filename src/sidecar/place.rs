//! Where a sidecar is, and how it goes out: parts of the configurations of several roles.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A network with the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InsideAddresses {
    /// The sidecar's address.
    pub own: Ipv4Addr,
    /// The agent's, which alone is served: other sidecars of the bottle are there, too.
    pub agent: Ipv4Addr,
}

/// The volume that a sidecar shares with egress: its only way out, and how egress leads the agent to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Uplink {
    /// Where egress listens for it: an HTTP proxy that knows it by this socket.
    pub proxy: PathBuf,
    /// Where it listens for what egress lets through to it.
    pub listen: PathBuf,
    /// The certificate of the bottle's CA, in PEM, which what it reaches by TLS is certified by.
    pub ca: String,
}
