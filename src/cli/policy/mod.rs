//! What may leave a bottle, and what has left: the policy, the audit, the numbers of egress.

pub(super) mod audit;
mod change;
pub(super) mod command;
pub(super) mod stats;
