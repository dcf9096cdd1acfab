//! The permit of a connection, which bounds how many are served concurrently.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::OwnedSemaphorePermit;

use super::Egress;
use super::stats::Counters;

/// Held until the connection, and whatever it was upgraded to, has ended.
#[derive(Clone)]
pub(super) struct ConnectionPermit(#[expect(dead_code, reason = "held")] Arc<Inner>);

struct Inner {
    counters: Arc<Counters>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl ConnectionPermit {
    /// Counts a connection. There is no semaphore permit if connections are not bounded, as in tests.
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
