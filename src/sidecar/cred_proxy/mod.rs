//! `cred-proxy`: routes at `http://cred-proxy:9099/<path>/…`, each of which leads to one host with one credential. For clients that
//! take a base URL, and for those that cannot speak TLS through a proxy.
//!
//! It holds no value of a credential. It puts the *placeholder* into its slot, and egress, through which all its requests leave, puts
//! in the value: so the rules for placeholders, the allowlist, the scan and the redaction of responses are those of the agent's own
//! requests.
//!
//! Attacks that this stops: a path that leaves its route, in any spelling; a request for another host (absolute form, `Host`); a
//! credential of the client's own beside the route's; a redirect that makes the client go on elsewhere.

mod forward;
mod role;
mod routes;

pub use role::{Config, CredProxy};
pub use routes::{Put, Route};

/// The role's name.
pub const ROLE: &str = "cred-proxy";
