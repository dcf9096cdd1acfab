//! Commands for the egress policy, the audit log, and egress counters.

pub(super) mod audit;
mod change;
pub(super) mod command;
pub(super) mod stats;

pub(super) use change::{place as saved_place, save as save_grant};
