//! The bottle's own sidecars, as egress reaches them.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The address of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// An address.
    Address(SocketAddr),
    /// A unix socket in a volume that egress shares with one sidecar.
    Socket(PathBuf),
}

/// One of the bottle's own sidecars.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sibling {
    /// The port of its name: `http://NAME:PORT`.
    pub port: u16,
    /// Its address or socket.
    pub at: Endpoint,
}

impl From<SocketAddr> for Sibling {
    fn from(address: SocketAddr) -> Self {
        Self { port: address.port(), at: Endpoint::Address(address) }
    }
}
