//! Starts tasks, boxed. tokio compiles its whole task for each type of future that it is given; boxed futures have one
//! type for each kind of output, so that the build is shorter.

use std::pin::Pin;

use tokio::task::JoinHandle;

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Runs a future beside this one, as [`tokio::spawn`] does.
pub(crate) fn spawn<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    let future: Boxed<T> = Box::pin(future);
    tokio::spawn(future)
}

/// Runs what blocks on a thread of its own, as [`tokio::task::spawn_blocking`] does.
pub(crate) fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let work: Box<dyn FnOnce() -> T + Send> = Box::new(work);
    tokio::task::spawn_blocking(work)
}
