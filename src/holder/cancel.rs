//! Escalation: one signal unwinds, a second does so at once, a third leaves it to the reaper.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How often the user has asked to stop.
pub struct Cancel(watch::Sender<u8>);

/// The third request: nothing more is done here.
pub(super) const FINAL: u8 = 3;

impl Default for Cancel {
    fn default() -> Self {
        Self(watch::Sender::new(0_u8))
    }
}

impl Cancel {
    /// One that counts this process' own signals too.
    pub(super) fn with_signals() -> Self {
        let cancel = Self::default();
        let level = &cancel.0;
        for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
            if let Ok(mut signals) = signal(kind) {
                let level = level.clone();
                tokio::spawn(async move {
                    while signals.recv().await.is_some() {
                        level.send_modify(|level| *level = level.saturating_add(1));
                    }
                });
            }
        }
        cancel
    }

    /// Asks once more.
    pub fn raise(&self) {
        self.0.send_modify(|level| *level = level.saturating_add(1));
    }

    pub(super) fn at_least(&self, wanted: u8) {
        self.0.send_modify(|level| *level = (*level).max(wanted));
    }

    /// Resolves once the level is reached.
    pub(super) async fn reached(&self, wanted: u8) {
        // The sender is ours, so this cannot fail.
        let _ = self.0.subscribe().wait_for(|level| *level >= wanted).await;
    }
}
