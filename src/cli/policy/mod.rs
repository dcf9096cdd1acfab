//! Commands for the egress policy, the audit log, and egress counters.

pub(super) mod audit;
mod change;
pub(super) mod command;
pub(super) mod stats;
