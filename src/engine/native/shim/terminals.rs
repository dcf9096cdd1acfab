//! The terminals of commands that run beside a container's own, by their numbers.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::sync::lock;

/// The terminals.
#[derive(Default)]
pub(super) struct Terminals {
    next: AtomicU64,
    open: Mutex<BTreeMap<u64, Arc<OwnedFd>>>,
}

impl Terminals {
    /// A number for one more command.
    pub(super) fn next_number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn add(&self, number: u64, terminal: Arc<OwnedFd>) {
        lock(&self.open).insert(number, terminal);
    }

    pub(super) fn remove(&self, number: u64) {
        lock(&self.open).remove(&number);
    }

    /// The terminal of a command.
    pub(super) fn find(&self, number: u64) -> Option<Arc<OwnedFd>> {
        lock(&self.open).get(&number).cloned()
    }
}
