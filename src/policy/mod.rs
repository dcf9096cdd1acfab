//! What may leave: pure functions from a request's intent to a decision. No sockets, no clock, no state.

mod allow;
mod authorize;
mod live;
mod rule;
mod spec;

pub use allow::{Allow, AllowSpec, AllowTable, Deny, DenySpec, DenyTable, EntryError, Tls};
pub use authorize::{
    Decision, Destination, Form, Intent, Policy, Reason, authorize, check_addresses, check_proxy, check_server_name,
};
pub use live::{Change, ChangeError, Denial, Enforced, Grant, LivePolicy, Scope};
pub use rule::{Rule, RuleError};
pub use spec::{Connect, EgressSpec, Mode, SpecError, TcpTarget, UpstreamProxy};

/// A host that exists only to be asked for: egress answers it itself, so that a bottle can prove that its way out
/// works before anything else is allowed. `.invalid` never resolves (RFC 6761, section 6.4).
pub const CANARY: &str = "canary.bottler.invalid";

#[cfg(test)]
mod tests;
