//! A place at the agent's loopback that leads to a sidecar.

use std::net::SocketAddrV4;

/// A place at the agent's loopback that leads to a sidecar: to a socket in its volume, or where it is on the network inside
/// to a port of its address there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::primitive) struct Relay {
    /// The name that the agent finds it under.
    pub(in crate::primitive) name: String,
    pub(in crate::primitive) address: SocketAddrV4,
    /// The socket's file in the volume.
    pub(in crate::primitive) socket: String,
    /// The port.
    pub(in crate::primitive) port: u16,
}
