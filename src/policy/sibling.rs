//! What egress reaches under a name of the bottle's own: its sidecars, and services of the user's machine.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::HostService;

/// The address of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// An address.
    Address(SocketAddr),
    /// A unix socket in a volume that egress shares with one sidecar.
    Socket(PathBuf),
    /// A service of the user's machine, which the holder connects to.
    HostService(HostService),
}

/// One of the bottle's own sidecars, or a service of the user's machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sibling {
    /// The port of its name: `http://NAME:PORT`.
    pub port: u16,
    /// Its address or socket.
    pub at: Endpoint,
}

impl From<HostService> for Sibling {
    fn from(service: HostService) -> Self {
        Self { port: service.port, at: Endpoint::HostService(service) }
    }
}

impl From<SocketAddr> for Sibling {
    fn from(address: SocketAddr) -> Self {
        Self { port: address.port(), at: Endpoint::Address(address) }
    }
}
