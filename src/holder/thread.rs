//! Runs each launch on its own thread, so that a script that computes does not block the holder's clients.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::session::{Class, Failure};

/// The usual stack of a main thread, in bytes: scripts nest calls.
const STACK: usize = 8 << 20;

/// Runs a future on its own thread. Tasks that it spawns run on the shared runtime.
///
/// # Errors
/// The thread cannot be started.
pub(super) async fn on_own_thread<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> io::Result<T> {
    let (runtime, (sender, done)) = (Handle::current(), oneshot::channel());
    std::thread::Builder::new().name("launch".into()).stack_size(STACK).spawn(move || {
        let _ = sender.send(catch_unwind(AssertUnwindSafe(|| runtime.block_on(work))));
    })?;
    match done.await {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(panic)) => resume_unwind(panic),
        // The runtime has shut down, and everything that waited is gone.
        Err(_) => std::future::pending().await,
    }
}

/// The failure of a launch whose thread could not be started.
pub(super) fn cannot_begin(error: &io::Error) -> Failure {
    Failure::new(Class::Internal, format!("start the launch's thread: {error}"))
}
