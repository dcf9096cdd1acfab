//! The signals that end a command.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::session::{Class, Failure};

/// Receives the signals. Once created, these signals no longer kill the process, so every wait must also wait for them.
pub(in crate::cli) struct Signals([Signal; 3]);

impl Signals {
    /// # Errors
    /// Signals cannot be received.
    pub(in crate::cli) fn new() -> Result<Self, Failure> {
        let receive = |kind| {
            let received = signal(kind);
            received.map_err(|error| Failure::new(Class::Internal, format!("receive signals: {error}")))
        };
        let [interrupt, terminate, hangup] =
            [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(receive);
        Ok(Self([interrupt?, terminate?, hangup?]))
    }

    /// The next one.
    pub(in crate::cli) async fn next(&mut self) -> SignalKind {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => SignalKind::interrupt(),
            _ = terminate.recv() => SignalKind::terminate(),
            _ = hangup.recv() => SignalKind::hangup(),
        }
    }
}
