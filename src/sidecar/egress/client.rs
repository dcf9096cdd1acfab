//! Who a request comes from: by the socket that it came in by, and by nothing that the request says.

use std::sync::Arc;

/// Who a request comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Client {
    /// The agent.
    Agent,
    /// A sidecar of the bottle that goes out through egress, by its name.
    Sidecar(Arc<str>),
}
