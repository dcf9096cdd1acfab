//! What is done with a bottle that lives, or is kept.

pub(super) mod client;
pub(super) mod ended;
pub(super) mod known;
mod left;
pub(super) mod life;
pub(super) mod ps;
mod remove;
pub(super) mod work;
