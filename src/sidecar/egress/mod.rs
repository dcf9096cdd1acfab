//! `egress`: the only way out of a bottle. An adapter parses a request into an intent, [`crate::policy::authorize`]
//! decides, the request is scanned, [`connect`] resolves, checks and pins the addresses, and the response is streamed
//! back. Every form of request takes this path.

mod after_connect;
mod bodies;
mod body;
mod buffered;
mod ca;
mod capacity;
mod client;
mod connect;
mod connection_permit;
mod cookies;
mod decide;
mod drain;
mod forward;
mod frames;
mod hand_over;
mod headers;
mod http;
mod http1_required;
mod inject;
mod inspect;
mod inspected_body;
mod interim;
mod memory;
mod meter;
mod needs;
mod peeked;
mod pipelock;
mod protocol;
mod raw_query;
mod redacted;
mod refusal;
mod registries;
mod renew;
mod request;
mod responses;
mod role;
mod serve;
mod service;
mod snapshot;
mod stats;
mod strict;
mod tcp;
mod upgrade;
mod upstream_proxy;
mod usage;
mod websocket;

use crate::layout::egress::TCP_PORTS;
pub use ca::CaKeyPair;
pub use pipelock::PipelockConfig;
pub use protocol::{Ask, Config, Notice, Pair, Ready, Registration, Update};
pub use service::Egress;
pub use stats::{CredentialUses, Decisions, Stats};
pub use usage::LimitUse;

use super::audit::LoggedDecision;
pub use super::place::InsideAddresses;

/// The role's name.
pub const ROLE: &str = "egress";

/// The socket of a TCP destination, by its index in the policy.
pub fn tcp_socket(index: usize) -> String {
    format!("tcp-{index}")
}

/// The port of a TCP destination on the network inside.
pub fn tcp_port(index: usize) -> u16 {
    TCP_PORTS.saturating_add(u16::try_from(index).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod after_connect_tests;
#[cfg(test)]
mod limits_tests;
#[cfg(test)]
mod patience_tests;
#[cfg(test)]
mod tests;
