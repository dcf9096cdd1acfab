//! Commands for running and kept bottles.

pub(super) mod client;
pub(super) mod fetch;
pub(super) mod find;
pub(super) mod life;
pub(super) mod outcome;
pub(super) mod ps;
mod remove;
mod workspace;
