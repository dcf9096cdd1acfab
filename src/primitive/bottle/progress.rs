//! The progress of a launch: whether it has failed, whether its client is attached, and whether the agent's command has started.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;

/// How long the client may take to attach to the agent's output before the command starts without it.
const ATTACH: Duration = Duration::from_secs(10);

/// The progress of a launch.
pub(in crate::primitive) struct Progress {
    failed: AtomicBool,
    released: AtomicBool,
    /// Whether its script is computing, so that it may start more objects before it waits.
    scripted: AtomicBool,
    attached: watch::Sender<bool>,
}

impl Progress {
    pub(in crate::primitive) fn new() -> Self {
        Self {
            failed: AtomicBool::new(false),
            released: AtomicBool::new(false),
            scripted: AtomicBool::new(false),
            attached: watch::Sender::new(false),
        }
    }

    /// Notes that an effect has failed. Whether it is the first one.
    pub(in crate::primitive) fn note_failed(&self) -> bool {
        !self.failed.swap(true, Ordering::Relaxed)
    }

    /// Notes that the agent's command is about to start.
    pub(in crate::primitive) fn note_released(&self) {
        self.released.store(true, Ordering::Release);
    }

    pub(in crate::primitive) fn is_released(&self) -> bool {
        self.released.load(Ordering::Acquire)
    }

    /// Whether its script is computing.
    pub(in crate::primitive) fn is_scripted(&self) -> bool {
        self.scripted.load(Ordering::Acquire)
    }

    pub(in crate::primitive) fn set_scripted(&self, scripted: bool) {
        self.scripted.store(scripted, Ordering::Release);
    }

    /// Notes that the client is attached to the agent's output.
    pub(in crate::primitive) fn note_attached(&self) {
        self.attached.send_replace(true);
    }

    pub(in crate::primitive) async fn wait_attached(&self) {
        let mut attached = self.attached.subscribe();
        // After this time nobody will attach, and the agent's work matters more than its output.
        let _ = tokio::time::timeout(ATTACH, attached.wait_for(|attached| *attached)).await;
    }
}
