//! Effects: engine work that runs in tasks of its own, so that dropping a script drops no answer.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Class, Failure};

/// The outcome of an effect that others wait for: shared, so cloned.
pub struct Pending<T: Clone + Send + Sync + 'static> {
    outcome: Shared<BoxFuture<'static, Result<T, Failure>>>,
}

impl<T: Clone + Send + Sync + 'static> Clone for Pending<T> {
    fn clone(&self) -> Self {
        Self { outcome: self.outcome.clone() }
    }
}

impl<T: Clone + Send + Sync + 'static> Pending<T> {
    /// An outcome whose work runs in a task of its own and is not part of any session's effects.
    pub fn detached(work: BoxFuture<'static, Result<T, Failure>>) -> Self {
        let outcome = work.shared();
        tokio::spawn(outcome.clone().map(drop));
        Self { outcome }
    }

    /// Waits for the outcome.
    ///
    /// # Errors
    /// The effect's own failure.
    pub async fn get(&self) -> Result<T, Failure> {
        self.outcome.clone().await
    }
}

/// Failures that are remembered as told: a script may fail and catch for ever.
const MAX_HANDLED: usize = 10_000;

/// The effects of one session.
#[derive(Default)]
pub struct Effects {
    running: TaskTracker,
    cancelled: CancellationToken,
    all: Mutex<Vec<BoxFuture<'static, Result<(), Failure>>>>,
    /// Failures that a script was told: what it went on from is its own affair.
    handled: Mutex<VecDeque<Failure>>,
}

impl Effects {
    /// Starts an effect. Cancelled before its first step it does nothing; once begun it runs to its end, because an
    /// engine call under way has an outcome that somebody must know.
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

    /// Notes that a script was told a failure.
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

    /// Whether a script was told a failure.
    pub fn is_handled(&self, failure: &Failure) -> bool {
        crate::sync::lock(&self.handled).contains(failure)
    }

    /// Waits until every effect started so far has succeeded, or for the first failure that no script was told.
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

    /// Resolves when the session is being unwound.
    pub async fn cancelled(&self) {
        self.cancelled.cancelled().await;
    }

    /// Lets no further effect begin and waits for those under way, at most this long: one that hangs is left to the
    /// label it was made with. Whether all have ended.
    pub async fn stop(&self, patience: Duration) -> bool {
        self.cancelled.cancel();
        self.running.close();
        tokio::time::timeout(patience, self.running.wait()).await.is_ok()
    }
}
