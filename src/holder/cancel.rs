//! Escalating cancellation: the first request unwinds, the second unwinds without waiting, the third leaves the work
//! to the reaper.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Counts how often the user has asked to stop.
pub struct Cancel(watch::Sender<u8>);

/// The third request: the holder exits at once.
pub(super) const FINAL: u8 = 3;

impl Default for Cancel {
    fn default() -> Self {
        Self(watch::Sender::new(0_u8))
    }
}

impl Cancel {
    /// Also counts the signals that this process receives.
    pub(super) fn with_signals() -> Self {
        let cancel = Self::default();
        let level = &cancel.0;
        for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
            if let Ok(mut signals) = signal(kind) {
                let level = level.clone();
                crate::task::spawn(async move {
                    while signals.recv().await.is_some() {
                        level.send_modify(|level| *level = level.saturating_add(1));
                    }
                });
            }
        }
        cancel
    }

    /// Counts one more request.
    pub fn raise(&self) {
        self.0.send_modify(|level| *level = level.saturating_add(1));
    }

    pub(super) fn at_least(&self, wanted: u8) {
        self.0.send_modify(|level| *level = (*level).max(wanted));
    }

    /// Resolves once the count reaches a level.
    pub(super) async fn reached(&self, wanted: u8) {
        // `self` owns the sender, so this cannot fail.
        let _ = self.0.subscribe().wait_for(|level| *level >= wanted).await;
    }
}
