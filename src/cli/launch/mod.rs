//! What leads to a launch: the plan from manifest and flags, what is shown and asked before it, the launch itself.

pub(super) mod agent;
mod differences;
pub(super) mod egress;
mod preflight;
pub(super) mod program;
pub(super) mod resume;
pub(super) mod run;
