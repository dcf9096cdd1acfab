//! The client of a request. It is identified by the socket that it connects to, and by nothing in the request.

use std::sync::Arc;

/// The client of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Client {
    /// The agent.
    Agent,
    /// A sidecar of the bottle that goes out through egress, by name.
    Sidecar(Arc<str>),
}
