//! Effects: engine operations that run in their own tasks, so that their results are not lost when the script is
//! dropped.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Class, Failure};

/// The shared result of an effect; cloning it allows several waiters.
pub struct Pending<T: Clone + Send + Sync + 'static> {
    outcome: Shared<BoxFuture<'static, Result<T, Failure>>>,
}

impl<T: Clone + Send + Sync + 'static> Clone for Pending<T> {
    fn clone(&self) -> Self {
        Self { outcome: self.outcome.clone() }
    }
}

impl<T: Clone + Send + Sync + 'static> Pending<T> {
    /// Runs work in its own task, outside any session's effects.
    pub fn detached(work: BoxFuture<'static, Result<T, Failure>>) -> Self {
        let outcome = work.shared();
        crate::task::spawn(outcome.clone().map(drop));
        Self { outcome }
    }

    /// Waits for the result.
    ///
    /// # Errors
    /// The effect's own failure.
    pub async fn get(&self) -> Result<T, Failure> {
        self.outcome.clone().await
    }
}

/// Most failures that are remembered as reported: a script may fail and catch errors in an endless loop.
const MAX_HANDLED: usize = 10_000;

/// The effects of one session.
#[derive(Default)]
pub struct Effects {
    running: TaskTracker,
    cancelled: CancellationToken,
    all: Mutex<Vec<BoxFuture<'static, Result<(), Failure>>>>,
    /// Failures that were reported to the script, which may have caught them.
    handled: Mutex<VecDeque<Failure>>,
}

impl Effects {
    /// Starts an effect. If it is cancelled before it starts, it does nothing; once started it runs to its end,
    /// because the result of a running engine call must be known.
    pub fn start<T, F>(&self, work: F) -> Pending<T>
    where
        T: Clone + Send + Sync + 'static,
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        let cancelled = self.cancelled.clone();
        let guarded = async move {
            if cancelled.is_cancelled() {
                return Err(Failure::new(Class::Cancelled, "cancelled"));
            }
            work.await
        };
        let outcome = guarded.boxed().shared();
        self.running.spawn(outcome.clone().map(drop));
        let pending = Pending { outcome };
        let watched = pending.clone();
        let check = async move { watched.get().await.map(drop) }.boxed();
        crate::sync::lock(&self.all).push(check);
        pending
    }

    /// Records that a failure was reported to the script.
    pub fn handle(&self, failure: &Failure) {
        let mut handled = crate::sync::lock(&self.handled);
        if handled.back() == Some(failure) {
            return;
        }
        if handled.len() == MAX_HANDLED {
            handled.pop_front();
        }
        handled.push_back(failure.clone());
    }

    /// Whether a failure was reported to the script.
    pub fn is_handled(&self, failure: &Failure) -> bool {
        crate::sync::lock(&self.handled).contains(failure)
    }

    /// Waits until all effects have succeeded, or for the first failure that was not reported to the script.
    ///
    /// # Errors
    /// That failure.
    pub async fn settle(&self) -> Result<(), Failure> {
        loop {
            let batch = std::mem::take(&mut *crate::sync::lock(&self.all));
            if batch.is_empty() {
                return Ok(());
            }
            let checked = batch.into_iter().map(async |effect| match effect.await {
                Err(failure) if !self.is_handled(&failure) => Err(failure),
                _ => Ok(()),
            });
            futures_util::future::try_join_all(checked).await?;
        }
    }

    /// Resolves when the teardown starts.
    pub async fn cancelled(&self) {
        self.cancelled.cancelled().await;
    }

    /// Starts no further effects and waits for the running ones, at most this long. Objects of an effect that hangs are
    /// found later by their labels. Returns whether all effects have ended.
    pub async fn stop(&self, patience: Duration) -> bool {
        self.cancelled.cancel();
        self.running.close();
        tokio::time::timeout(patience, self.running.wait()).await.is_ok()
    }
}
