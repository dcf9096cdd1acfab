//! What the attempts go for.

use std::net::{Ipv4Addr, SocketAddrV4};

use serde::{Deserialize, Serialize};

use crate::engine::Resources;
use crate::layout::agent::Far;

/// What to try.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Targets {
    /// Egress, as this namespace reaches it.
    pub proxy: SocketAddrV4,
    /// Where egress keeps places for the repeated proof: those of the agent may all be taken.
    #[serde(default)]
    pub proof: Option<Far>,
    /// Addresses that exist outside and must not be reached, with what they are.
    pub direct: Vec<DirectTarget>,
    /// The counterpart that is reached through egress, and that counts what comes any other way.
    pub counterpart: Option<Counterpart>,
    /// The planned bounds, to read back.
    pub resources: Resources,
    /// Whether the kernel here should be gVisor's: its `/proc` tells neither filters nor bounds, which are the host's.
    #[serde(default)]
    pub gvisor: bool,
    /// The network that this namespace is on, in a bottle that is not sealed. What is sent there leaves this namespace;
    /// whether it arrives anywhere, the host says.
    #[serde(default)]
    pub inside: Option<InsideNetwork>,
}

/// A network that leads to the bottle's own sidecars and nowhere else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InsideNetwork {
    /// An address of it that nobody has: a route by it leads nowhere.
    pub nobody: Ipv4Addr,
    /// Egress' address on it, which is also the only server of names, and answers nothing.
    pub egress: Ipv4Addr,
    /// The port at which somebody on the engine's host listens; 0 where nobody does.
    #[serde(default)]
    pub port: u16,
}

impl InsideNetwork {
    /// The port at which somebody on the engine's host listens, if anybody does.
    pub(super) fn listening_port(&self) -> Option<u16> {
        (self.port != 0).then_some(self.port)
    }
}

/// An address on this machine that an attempt goes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectTarget {
    /// What is there, in words.
    pub name: String,
    /// Where.
    pub address: Ipv4Addr,
    /// The TCP port to try.
    pub port: u16,
}

/// The sidecar `counterpart`, as the probe knows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counterpart {
    /// Its name, with port, at egress.
    pub host: String,
    /// Its address on the network it shares with egress.
    pub address: Ipv4Addr,
}

/// What is expected of an attempt: that it cannot be made, or on a network, that nothing comes of it.
pub(super) fn expected(inside: Option<&InsideNetwork>, sealed: &'static str) -> &'static str {
    if inside.is_some() { "nothing arrives" } else { sealed }
}
