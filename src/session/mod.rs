//! The life cycle of one bottle: which objects it created, in which order, and how they are removed.
//!
//! A [`Session`] assigns sequence numbers in program order, runs effects, and finally [`unwind`]s by label.
//! [`reaper`] and [`gc`] use the same code after the holder has died.

pub mod bottle_image;
pub mod condition;
pub mod crash;
pub mod descriptors;
mod dir;
mod effect;
pub mod exit_record;
pub mod failure;
pub mod gc;
pub mod kept_workspace;
mod levels;
pub mod owner;
pub mod placeholder;
pub mod queue;
pub mod reaper;
mod recover_exit;
pub mod sweeper;
mod unwind;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use bottle_image::{BottleImages, BuiltImage};
pub use condition::Condition;
pub use dir::{
    Argument, GrantsKey, Invocation, PLAN_FILE, Record, SessionDir, StateDir, UnknownEntry, new_id, valid_name,
};
pub use effect::{Effects, Pending};
pub use failure::{Class, Failure, ScriptLocation};
pub use kept_workspace::KeptWorkspace;
pub use levels::{Level, levels};
pub use queue::{Phase, Slot};
pub use unwind::{Defer, UndoOutcome, UndoRow, unwind};

use crate::engine::Engine;
use crate::engine::labels::{Identity, Kind};

/// A running bottle, as its holder sees it.
pub struct Session {
    /// The bottle's id.
    pub id: String,
    /// The owner label.
    pub owner: String,
    /// Its engine.
    pub engine: Arc<dyn Engine>,
    /// Its running effects.
    pub effects: Effects,
    next: AtomicU64,
    /// Objects with a larger sequence number are removed, or about to be.
    torn_down_after: AtomicU64,
}

impl Session {
    /// A session without objects.
    pub fn new(id: &str, owner: &str, engine: Arc<dyn Engine>) -> Self {
        Self {
            id: id.to_owned(),
            owner: owner.to_owned(),
            engine,
            effects: Effects::default(),
            next: AtomicU64::new(1),
            torn_down_after: AtomicU64::new(u64::MAX),
        }
    }

    /// Takes the next sequence number.
    pub fn next_seq(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Records how far the teardown is: everything with a larger sequence number is being removed.
    pub fn tear_down_after(&self, seq: u64) {
        self.torn_down_after.fetch_min(seq, Ordering::Relaxed);
    }

    /// Whether the teardown has reached a sequence number.
    pub fn is_torn_down(&self, seq: u64) -> bool {
        seq > self.torn_down_after.load(Ordering::Relaxed)
    }

    /// The labels for a new object. It is found again only by its labels.
    pub fn identity(&self, kind: Kind) -> Identity {
        self.identity_at(self.next_seq(), kind)
    }

    /// The labels for a new object with a sequence number that was taken before.
    pub fn identity_at(&self, seq: u64, kind: Kind) -> Identity {
        let (session, owner) = (self.id.clone(), self.owner.clone());
        Identity { session, owner, seq, kind, role: None, uses: BTreeSet::new() }
    }
}
