//! Counts requests with credentials, and refuses those that exceed a limit. The counters live as long as the process: a
//! change of the policy or of a credential's value does not begin them anew.
//!
//! Rules:
//! * All limits of a request are checked together; a request that is refused is not counted.
//! * A request counts when it is sent, whatever becomes of it, and is in progress until its response has been read. One that
//!   egress itself sends again counts once.
//! * A WebSocket counts as a request, and so does each message that the agent sends in it: some APIs take requests as
//!   messages.
//! * Where only too many are in progress, a request waits for its turn.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::usage::{LimitUse, Usage};
use crate::credential::{Bound, LimitReached};
use crate::policy::{Reason, RequestLimits};
use crate::sync::lock;

/// The counters.
pub(super) struct Meter {
    began: Instant,
    used: Mutex<Used>,
    /// A request ended, or the limits changed.
    news: Notify,
}

#[derive(Default)]
struct Used {
    /// Requests with any credential.
    all: Usage,
    /// By the name of the credential.
    credentials: BTreeMap<String, Usage>,
}

impl Used {
    /// The counters of a credential; of all together if it has no name.
    fn by_name(&mut self, credential: Option<&str>) -> &mut Usage {
        let Some(name) = credential else { return &mut self.all };
        if !self.credentials.contains_key(name) {
            self.credentials.insert(name.to_owned(), Usage::default());
        }
        self.credentials.get_mut(name).expect("it was inserted")
    }

    /// Calls `each` with the counters of each credential and of all together, until one call fails.
    fn each<E>(
        &mut self,
        names: &[String],
        mut each: impl FnMut(Option<&str>, &mut Usage) -> Result<(), E>,
    ) -> Result<(), E> {
        names.iter().try_for_each(|name| each(Some(name), self.by_name(Some(name))))?;
        each(None, &mut self.all)
    }
}

/// A request in progress that uses credentials.
pub(super) struct Pass {
    meter: Arc<Meter>,
    names: Arc<[String]>,
}

impl Drop for Pass {
    fn drop(&mut self) {
        let _ = lock(&self.meter.used).each(&self.names, |_, usage| {
            usage.end();
            Ok::<_, ()>(())
        });
        self.meter.news.notify_waiters();
    }
}

/// A request that waits because of a limit.
struct Waiting {
    meter: Arc<Meter>,
    credential: Option<String>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        lock(&self.meter.used).by_name(self.credential.as_deref()).waiting -= 1;
    }
}

impl Default for Meter {
    fn default() -> Self {
        Self { began: Instant::now(), used: Mutex::default(), news: Notify::new() }
    }
}

impl Meter {
    /// Counts a request with these credentials, and keeps it in progress until the result is dropped. `limits` gives the
    /// active limits. Waits for up to `patience` where too many are in progress.
    ///
    /// # Errors
    /// [`Reason::LimitReached`]
    pub(super) async fn admit(
        self: &Arc<Self>,
        names: &[String],
        limits: impl Fn() -> Arc<RequestLimits>,
        patience: Duration,
    ) -> Result<Option<Pass>, Reason> {
        if names.is_empty() {
            return Ok(None);
        }
        let mut waited = None;
        loop {
            // Registered before the check, so that no news is missed.
            let mut news = std::pin::pin!(self.news.notified());
            news.as_mut().enable();
            let reached = match self.count(names, &limits(), true) {
                Ok(()) => return Ok(Some(Pass { meter: self.clone(), names: names.into() })),
                Err(reached) => reached,
            };
            if !matches!(reached.bound, Bound::Concurrent(_)) {
                return Err(Reason::LimitReached(reached));
            }
            let (waited, _waiting) =
                waited.get_or_insert_with(|| (Box::pin(sleep(patience)), self.waiting(reached.credential.clone())));
            tokio::select! {
                () = news => {}
                () = waited => return Err(Reason::LimitReached(reached)),
            }
        }
    }

    /// Counts a request that waits, until the result is dropped.
    fn waiting(self: &Arc<Self>, credential: Option<String>) -> Waiting {
        lock(&self.used).by_name(credential.as_deref()).waiting += 1;
        Waiting { meter: self.clone(), credential }
    }

    /// Checks the limits and counts a request, or a message of one that is in progress.
    fn count(&self, names: &[String], limits: &RequestLimits, is_new: bool) -> Result<(), LimitReached> {
        let now = self.began.elapsed();
        let mut used = lock(&self.used);
        used.each(names, |name, usage| match limits.of(name) {
            Some(limits) => usage
                .check(&limits, now, is_new)
                .map_err(|bound| LimitReached { credential: name.map(str::to_owned), bound }),
            None => Ok(()),
        })?;
        used.each(names, |name, usage| {
            usage.count(limits.of(name).as_ref(), now);
            if is_new {
                usage.begin();
            }
            Ok(())
        })
    }

    /// Wakes the requests that wait: the limits have changed.
    pub(super) fn limits_changed(&self) {
        self.news.notify_waiters();
    }

    /// What was used of the limits of a credential, or of all together.
    pub(super) fn read(&self, credential: Option<&str>, limits: &RequestLimits) -> Option<LimitUse> {
        let limits = limits.of(credential)?;
        let now = self.began.elapsed();
        let mut used = lock(&self.used);
        let usage = used.by_name(credential);
        Some(LimitUse {
            limits,
            requests: usage.total(),
            in_period: limits.rate().map(|rate| usage.in_period(rate, now)),
            in_progress: usage.concurrent(),
            waiting: usage.waiting,
        })
    }
}

impl Pass {
    /// Counts a message that the agent sends in a WebSocket.
    ///
    /// # Errors
    /// [`Reason::LimitReached`]
    pub(super) fn message(&self, limits: &RequestLimits) -> Result<(), Reason> {
        self.meter.count(&self.names, limits, false).map_err(Reason::LimitReached)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn limits(all: &str, own: &str) -> Arc<RequestLimits> {
        let read = |text: &str| serde_yaml::from_str(text).ok();
        let credentials = read(own).map(|own| ("own".to_owned(), own)).into_iter().collect();
        Arc::new(RequestLimits { all: read(all), credentials })
    }

    async fn admit(meter: &Arc<Meter>, name: &str, limits: &Arc<RequestLimits>) -> Result<Option<Pass>, Reason> {
        meter.admit(&[name.to_owned()], || limits.clone(), PATIENCE).await
    }

    fn reached<T>(result: Result<T, Reason>) -> (Option<String>, Bound) {
        match result.err() {
            Some(Reason::LimitReached(LimitReached { credential, bound })) => (credential, bound),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_refused_by_one_limit_counts_for_none() {
        let (meter, limits) = (Arc::new(Meter::default()), limits("{total: 2}", "{total: 1}"));
        assert!(admit(&meter, "own", &limits).await.is_ok());
        assert_eq!(reached(admit(&meter, "own", &limits).await), (Some("own".into()), Bound::Total(1)));
        assert!(admit(&meter, "other", &limits).await.is_ok());
        assert_eq!(reached(admit(&meter, "other", &limits).await), (None, Bound::Total(2)));
        assert_eq!(meter.read(None, &limits).unwrap().requests, 2);
        // Without a credential nothing is counted.
        assert!(meter.admit(&[], || limits.clone(), PATIENCE).await.unwrap().is_none());
        // What was counted without a limit counts under one.
        assert!(reached(admit(&meter, "other", &self::limits("{total: 1}", "")).await).0.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_for_its_turn_and_not_for_ever() {
        let (meter, limits) = (Arc::new(Meter::default()), limits("", "{concurrent: 1}"));
        let first = admit(&meter, "own", &limits).await.unwrap();
        let second = crate::task::spawn({
            let (meter, limits) = (meter.clone(), limits.clone());
            async move { admit(&meter, "own", &limits).await }
        });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        drop(first);
        let second = second.await.unwrap().unwrap();
        let began = Instant::now();
        assert_eq!(reached(admit(&meter, "own", &limits).await), (Some("own".into()), Bound::Concurrent(1)));
        assert_eq!(began.elapsed(), PATIENCE);
        assert_eq!(meter.read(Some("own"), &limits).unwrap().in_progress, 1);
        drop(second);
        assert!(admit(&meter, "own", &limits).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_counts_for_the_total_of_its_request() {
        let (meter, limits) = (Arc::new(Meter::default()), limits("", "{total: 2, concurrent: 1}"));
        let pass = admit(&meter, "own", &limits).await.unwrap().unwrap();
        assert_eq!(pass.message(&limits), Ok(()));
        assert_eq!(reached(pass.message(&limits)), (Some("own".into()), Bound::Total(2)));
    }
}
