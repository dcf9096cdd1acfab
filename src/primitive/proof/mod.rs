//! The proof that a bottle is isolated: before the release, repeated while the agent runs, and the consequences of a
//! failure.

pub(super) mod pause;
pub(super) mod prove;
pub(super) mod prover;
pub(super) mod watcher;

pub use watcher::watch;
