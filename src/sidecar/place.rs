//! The networks and sockets of a sidecar: parts of the configurations of several roles.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Addresses on the network inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InsideAddresses {
    /// The sidecar's address.
    pub own: Ipv4Addr,
    /// The agent's address. Only this peer is served: other sidecars are on this network, too.
    pub agent: Ipv4Addr,
}

/// The volume that a sidecar shares with egress. It is the sidecar's only way out, and the agent's way to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Uplink {
    /// Where egress listens for the sidecar: an HTTP proxy, which identifies the sidecar by this socket.
    pub proxy: PathBuf,
    /// Where the sidecar listens for what egress forwards to it.
    pub listen: PathBuf,
    /// The certificate of the bottle's CA, in PEM; it signs the certificates of TLS destinations.
    pub ca: String,
}
