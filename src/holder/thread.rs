//! A launch has a thread of its own: a script that computes holds up nobody who listens to the holder.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::session::{Class, Failure};

/// As much as a process' first thread has: scripts nest calls.
const STACK: usize = 8 << 20;

/// Runs a future on a thread of its own. What it starts in turn runs where everything else does.
///
/// # Errors
/// There can be no further thread.
pub(super) async fn on_own_thread<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> io::Result<T> {
    let (runtime, (sender, done)) = (Handle::current(), oneshot::channel());
    std::thread::Builder::new().name("launch".into()).stack_size(STACK).spawn(move || {
        let _ = sender.send(catch_unwind(AssertUnwindSafe(|| runtime.block_on(work))));
    })?;
    match done.await {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(panic)) => resume_unwind(panic),
        // The runtime is gone, and with it whoever waits.
        Err(_) => std::future::pending().await,
    }
}

/// The failure of a launch that got no thread.
pub(super) fn cannot_begin(error: &io::Error) -> Failure {
    Failure::new(Class::Internal, format!("start the launch's thread: {error}"))
}
