//! The targets of the attempts.

use std::net::{Ipv4Addr, SocketAddrV4};

use serde::{Deserialize, Serialize};

use crate::engine::Resources;
use crate::layout::agent::Far;

/// The targets.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Targets {
    /// Egress, as seen from this namespace.
    pub proxy: SocketAddrV4,
    /// Egress' listener for the repeated proof: the agent may have used up the others.
    #[serde(default)]
    pub proof: Option<Far>,
    /// Outside addresses that must not be reachable.
    pub direct: Vec<DirectTarget>,
    /// The counterpart, which is reached through egress and records what reaches it otherwise.
    pub counterpart: Option<Counterpart>,
    /// The planned limits.
    pub resources: Resources,
    /// Whether the container has no limits, because this host can enforce none and the plan accepts that.
    #[serde(default)]
    pub unbounded: bool,
    /// Whether the kernel should be gVisor's, whose `/proc` shows neither filters nor limits: they are the host's.
    #[serde(default)]
    pub gvisor: bool,
    /// The network of this namespace, in a bottle that is not sealed. What is sent there leaves the namespace; the host
    /// says whether it arrives anywhere.
    #[serde(default)]
    pub inside: Option<InsideNetwork>,
}

/// A network that reaches the bottle's own sidecars and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InsideNetwork {
    /// An unowned address on it: a route through it leads nowhere.
    pub nobody: Ipv4Addr,
    /// Egress' address on it. It is also the only name server, and resolves nothing.
    pub egress: Ipv4Addr,
    /// The port of the receiver on the engine's host; 0 if there is none.
    #[serde(default)]
    pub port: u16,
}

impl InsideNetwork {
    /// The port of the receiver on the engine's host, if there is one.
    pub(super) fn listening_port(&self) -> Option<u16> {
        (self.port != 0).then_some(self.port)
    }
}

/// An address on this machine to attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectTarget {
    /// What it is, in words.
    pub name: String,
    /// The address.
    pub address: Ipv4Addr,
    /// The TCP port to try.
    pub port: u16,
}

/// The counterpart, as the probe knows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counterpart {
    /// Its name with the port, at egress.
    pub host: String,
    /// Its address on the network that it shares with egress.
    pub address: Ipv4Addr,
}

/// The expected result: that the attempt fails, or, on a network, that nothing arrives.
pub(super) fn expected(inside: Option<&InsideNetwork>, sealed: &'static str) -> &'static str {
    if inside.is_some() { "nothing arrives" } else { sealed }
}
