//! A connection of any kind.

use std::time::Duration;

pub(super) use crate::sidecar::dialer::Connection as Stream;

/// The time limit for one connection attempt, and for the TLS handshake after it.
pub(super) const DIAL: Duration = Duration::from_secs(10);
