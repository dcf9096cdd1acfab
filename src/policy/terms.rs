//! Terms that the specification and the decision share.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::net::Host;

/// The canary host: egress responds itself, so that a bottle can prove that its way out works before anything is
/// allowed. `.invalid` never resolves (RFC 6761, section 6.4).
pub const CANARY: &str = "canary.bottler.invalid";
/// Hosts that are always refused, also in audit mode, so that a bottle can prove that egress refuses.
pub const FORBIDDEN: [&str; 2] = ["forbidden.bottler.invalid", "bottler.invalid"];

/// Whether a destination (`host` or `host:port`) is one that only the probe asks for.
pub fn is_probe_host(destination: &str) -> bool {
    let host = destination.rsplit_once(':').map_or(destination, |(host, _)| host).to_ascii_lowercase();
    let host = host.trim_end_matches('.');
    host == CANARY || FORBIDDEN.contains(&host)
}

/// Whether requests that are not allowed are refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// They are refused.
    #[default]
    Enforce,
    /// They pass, and the audit log says that they would have been refused. Denied hosts, addresses that are not public,
    /// requests that cannot be parsed, and secrets are still refused.
    Audit,
}

/// A destination of plain TCP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpTarget {
    /// Where to.
    pub host: Host,
    /// At which port.
    pub port: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probes_hosts_are_told_from_all_others() {
        for own in ["canary.bottler.invalid:443", "Forbidden.Bottler.invalid.:443", "bottler.invalid:22", CANARY] {
            assert!(is_probe_host(own), "{own}");
        }
        for other in ["", "crates.io:443", "forbidden.bottler.invalid.example.com:443", "x.bottler.invalid:443"] {
            assert!(!is_probe_host(other), "{other}");
        }
    }
}
