//! A relay: an address on the agent's loopback that leads to a sidecar.

use std::net::SocketAddrV4;

/// An address on the agent's loopback that leads to a sidecar: to a socket in its volume, or to a port of its address on the network
/// inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::primitive) struct Relay {
    /// The host name by which the agent reaches it.
    pub(in crate::primitive) name: String,
    pub(in crate::primitive) address: SocketAddrV4,
    /// The socket's file in the volume.
    pub(in crate::primitive) socket: String,
    /// The port.
    pub(in crate::primitive) port: u16,
}
