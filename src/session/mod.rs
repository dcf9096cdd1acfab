//! One bottle's life: what it made, in which order, and how that is undone.
//!
//! A [`Session`] hands out places in program order, remembers intents in its journal before their effect, runs the
//! effects, and in the end [`unwind`]s by label. [`reaper`] and [`gc`] unwind by the same code when the holder is gone.

pub mod condition;
pub mod crash;
pub mod descriptors;
mod dir;
mod effect;
pub mod ended;
pub mod failure;
pub mod gc;
mod journal;
pub mod kept;
mod levels;
pub mod owner;
pub mod placeholder;
pub mod reaper;
pub mod sweeper;
pub mod turn;
mod unwind;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

pub use condition::Condition;
pub use dir::{GrantsOf, Invocation, Record, SessionDir, StateDir, Stray, Word, new_id, valid_name};
pub use effect::{Effects, Pending};
pub use failure::{Class, Failure, Place};
pub use kept::Kept;
pub use levels::{Level, levels};
pub use turn::{Phase, Turn};
pub use unwind::{Defer, Outcome, UndoRow, unwind};

use crate::engine::Engine;
use crate::engine::labels::{Identity, Kind};
use journal::Journal;

/// A live bottle, as its holder sees it.
pub struct Session {
    /// The bottle's id.
    pub id: String,
    /// Who owns it.
    pub owner: String,
    /// The engine it lives on.
    pub engine: Arc<dyn Engine>,
    /// The effects under way.
    pub effects: Effects,
    /// Absent on an engine that is gone with this process.
    journal: Option<Mutex<Journal>>,
    next: AtomicU64,
    /// What was made after this place has been removed, or is about to be.
    torn_down_after: AtomicU64,
}

impl Session {
    /// A session that journals into a directory.
    ///
    /// # Errors
    /// The journal cannot be created.
    pub fn new(id: &str, owner: &str, engine: Arc<dyn Engine>, dir: &std::path::Path) -> std::io::Result<Self> {
        let journal = Mutex::new(Journal::create(dir)?);
        Ok(Self { journal: Some(journal), ..Self::unrecorded(id, owner, engine) })
    }

    /// A session on an engine that is gone with this process: nothing of it needs to be found again.
    pub fn unrecorded(id: &str, owner: &str, engine: Arc<dyn Engine>) -> Self {
        Self {
            id: id.to_owned(),
            owner: owner.to_owned(),
            engine,
            effects: Effects::default(),
            journal: None,
            next: AtomicU64::new(1),
            torn_down_after: AtomicU64::new(u64::MAX),
        }
    }

    /// Takes the next place in program order.
    pub fn next_seq(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Notes how far the teardown is: everything made after a place is gone or going.
    pub fn tear_down_after(&self, seq: u64) {
        self.torn_down_after.fetch_min(seq, Ordering::Relaxed);
    }

    /// Whether the teardown has reached a place.
    pub fn is_torn_down(&self, seq: u64) -> bool {
        seq > self.torn_down_after.load(Ordering::Relaxed)
    }

    /// Records that a thing is about to be made; the labels to make it with.
    ///
    /// # Errors
    /// The journal cannot be written: then nothing may be made.
    pub fn intend(&self, kind: Kind, name: &str, at: Option<&Place>) -> Result<Identity, Failure> {
        let seq = self.next_seq();
        let entry = journal::Entry::Intent { seq, kind, name, at: at.map(ToString::to_string) };
        self.write(&entry)?;
        Ok(Identity { session: self.id.clone(), owner: self.owner.clone(), seq, kind, role: None })
    }

    /// Records what the unwinding did.
    pub fn record_undo(&self, rows: &[UndoRow]) {
        for row in rows {
            // The directory goes when all went well, and what failed is on the engine still, under its label.
            let _ = self.write(&journal::Entry::Undo { row });
        }
    }

    fn write(&self, entry: &journal::Entry<'_>) -> Result<(), Failure> {
        let Some(journal) = &self.journal else { return Ok(()) };
        let mut journal = crate::sync::lock(journal);
        journal.append(entry).map_err(|error| {
            Failure::new(Class::Internal, format!("write {}: {error}", journal.path().display()))
                .hint("free space on the disk of the state directory ($XDG_STATE_HOME/bottler)")
        })
    }
}
