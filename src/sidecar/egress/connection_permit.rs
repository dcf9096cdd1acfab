//! The place of a connection among those that are served at once.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::OwnedSemaphorePermit;

use super::Egress;
use super::stats::Counters;

/// The place of one connection, and of what it becomes: held until all of it has ended.
#[derive(Clone)]
pub(super) struct ConnectionPermit(#[expect(dead_code, reason = "held")] Arc<Inner>);

struct Inner {
    counters: Arc<Counters>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl ConnectionPermit {
    /// Counts a connection; without a permit where nothing bounds them, as in tests.
    pub(super) fn new(egress: &Egress, permit: Option<OwnedSemaphorePermit>) -> Self {
        let counters = egress.counters.clone();
        counters.connections.fetch_add(1, Ordering::Relaxed);
        counters.open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::new(Inner { counters, _permit: permit }))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.counters.open.fetch_sub(1, Ordering::Relaxed);
    }
}
