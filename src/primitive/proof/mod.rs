//! The proof that a bottle is tight: before the release, repeated while the agent runs, and what a red line leads to.

pub(super) mod pause;
pub(super) mod prove;
pub(super) mod prover;
pub(super) mod watcher;

pub use watcher::watch;
