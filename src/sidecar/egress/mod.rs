//! `egress`: the only way out. An adapter parses a request into an intent, [`crate::policy::authorize`] decides, the
//! request is looked at, [`connect`] resolves, checks and pins the addresses, and the answer comes back. No form of
//! request has another path.

mod after_connect;
mod bodies;
mod body;
mod buffered;
mod ca;
mod capacity;
mod client;
mod connect;
mod connection_permit;
mod decide;
mod drain;
mod forward;
mod frames;
mod headers;
mod http;
mod inspect;
mod inspected_body;
mod interim;
mod memory;
mod peeked;
mod protocol;
mod refusal;
mod request;
mod responses;
mod role;
mod serve;
mod service;
mod snapshot;
mod stats;
mod stream;
mod strict;
mod tcp;
mod upgrade;
mod upstream_proxy;
mod websocket;

use crate::layout::egress::TCP_PORTS;
pub use ca::CaKeyPair;
pub use protocol::{Ask, Config, Notice, Pair, Ready, Registration, Update};
pub use service::Egress;
pub use stats::{Decisions, Stats};

use super::audit::Outcome;
pub use super::place::Inside;

/// The role's name.
pub const ROLE: &str = "egress";

/// The socket of a named destination of plain TCP, by its place in the list.
pub fn tcp_socket(index: usize) -> String {
    format!("tcp-{index}")
}

/// The port of such a destination, on the network inside.
pub fn tcp_port(index: usize) -> u16 {
    TCP_PORTS.saturating_add(u16::try_from(index).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod after_connect_tests;
#[cfg(test)]
mod patience_tests;
#[cfg(test)]
mod tests;
