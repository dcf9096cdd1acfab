//! How much of one limit was used. Pure: the time is an argument.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::credential::{Bound, Limits, Rate};

/// Into how many parts a period is divided. A request counts for the rest of its part, and for this many more: for its
/// period, and up to one part longer.
const PARTS: u32 = 60;

/// Limits, and what was used of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitUse {
    /// The limits.
    pub limits: Limits,
    /// All requests so far, with the messages of `WebSockets`.
    pub requests: u64,
    /// Those of the rate's period, if there is a rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_period: Option<u32>,
    /// Those in progress.
    pub in_progress: u32,
    /// Those that wait for their turn.
    pub waiting: u32,
}

impl LimitUse {
    /// How many requests are left of a total.
    pub(super) fn left(&self) -> Option<u64> {
        Some(u64::from(self.limits.total()?).saturating_sub(self.requests))
    }
}

/// The requests of a credential, or of all.
#[derive(Default)]
pub(super) struct Usage {
    /// All so far.
    total: u64,
    /// Those in progress.
    concurrent: u32,
    /// Those that wait for their turn.
    pub(super) waiting: u32,
    window: Option<Window>,
}

/// The requests of a period, by the parts of time in which they began.
struct Window {
    per: Duration,
    /// Numbers of parts, counted from the start of the process, with their requests.
    parts: VecDeque<(u64, u32)>,
}

impl Window {
    fn part(&self) -> u64 {
        u64::try_from((self.per / PARTS).as_nanos()).unwrap_or(u64::MAX).max(1)
    }

    fn number(&self, now: Duration) -> u64 {
        u64::try_from(now.as_nanos()).unwrap_or(u64::MAX) / self.part()
    }

    fn forget(&mut self, now: Duration) {
        let oldest = self.number(now).saturating_sub(u64::from(PARTS));
        while self.parts.front().is_some_and(|(number, _)| *number < oldest) {
            self.parts.pop_front();
        }
    }

    fn count(&self) -> u32 {
        self.parts.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    fn add(&mut self, now: Duration, more: u32) {
        let number = self.number(now);
        match self.parts.back_mut() {
            Some((last, count)) if *last == number => *count = count.saturating_add(more),
            _ => self.parts.push_back((number, more)),
        }
    }

    /// After which time the oldest requests no longer count.
    fn wait(&self, now: Duration) -> Duration {
        let Some((number, _)) = self.parts.front() else { return Duration::ZERO };
        let end = (number + u64::from(PARTS) + 1).saturating_mul(self.part());
        Duration::from_nanos(end).saturating_sub(now)
    }
}

impl Usage {
    /// The requests in progress.
    pub(super) fn concurrent(&self) -> u32 {
        self.concurrent
    }

    /// All requests so far.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// The requests of the period of a rate.
    pub(super) fn in_period(&mut self, rate: Rate, now: Duration) -> u32 {
        self.window(rate, now).count()
    }

    /// The requests of a period. Those of another length all count as of now.
    fn window(&mut self, rate: Rate, now: Duration) -> &mut Window {
        let before = self.window.take();
        let window = self.window.insert(match before {
            Some(window) if window.per == rate.per => window,
            other => {
                let mut window = Window { per: rate.per, parts: VecDeque::new() };
                if let Some(count) = other.map(|other| other.count()).filter(|count| *count > 0) {
                    window.add(now, count);
                }
                window
            }
        });
        window.forget(now);
        window
    }

    /// Whether another request may be made now, or be sent as a part of one that is in progress already.
    ///
    /// # Errors
    /// The limit that it would exceed. That of concurrent requests is the last one: to wait helps only there.
    pub(super) fn check(&mut self, limits: &Limits, now: Duration, is_new: bool) -> Result<(), Bound> {
        if let Some(total) = limits.total().filter(|total| self.total >= u64::from(*total)) {
            return Err(Bound::Total(total));
        }
        if let Some(rate) = limits.rate() {
            let window = self.window(rate, now);
            if window.count() >= rate.requests {
                return Err(Bound::Rate(rate, window.wait(now)));
            }
        }
        match limits.concurrent().filter(|concurrent| is_new && self.concurrent >= *concurrent) {
            Some(concurrent) => Err(Bound::Concurrent(concurrent)),
            None => Ok(()),
        }
    }

    /// Counts a request. `limits` are those that [`Self::check`] was called with.
    pub(super) fn count(&mut self, limits: Option<&Limits>, now: Duration) {
        self.total += 1;
        match limits.and_then(Limits::rate) {
            Some(rate) => self.window(rate, now).add(now, 1),
            None => self.window = None,
        }
    }

    /// A request begins.
    pub(super) fn begin(&mut self) {
        self.concurrent += 1;
    }

    /// A request has ended.
    pub(super) fn end(&mut self) {
        self.concurrent = self.concurrent.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(yaml: &str) -> Limits {
        serde_yaml::from_str(yaml).unwrap()
    }

    const fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Counts a request if it is allowed.
    fn request(usage: &mut Usage, limits: &Limits, now: Duration) -> Result<(), Bound> {
        usage.check(limits, now, true)?;
        usage.count(Some(limits), now);
        usage.begin();
        Ok(())
    }

    #[test]
    fn a_total_and_concurrent_requests_are_counted() {
        let (mut usage, limits) = (Usage::default(), limits("{total: 3, concurrent: 2}"));
        assert_eq!([(); 3].map(|()| request(&mut usage, &limits, at(0))), [Ok(()), Ok(()), Err(Bound::Concurrent(2))]);
        usage.end();
        assert_eq!(request(&mut usage, &limits, at(1)), Ok(()));
        usage.end();
        // A total is never free again, and to wait for others would not help.
        assert_eq!(request(&mut usage, &limits, at(1_000_000)), Err(Bound::Total(3)));
        assert_eq!((usage.total(), usage.concurrent()), (3, 1));
    }

    #[test]
    fn no_period_of_its_length_has_more_requests_than_a_rate() {
        // Requests come every 70 ms, as many as are let through.
        let (mut usage, limits) = (Usage::default(), limits("{requests: 5, per: 6s}"));
        let mut passed: Vec<Duration> = Vec::new();
        for now in (0..600).map(|step| at(step * 70)) {
            match request(&mut usage, &limits, now) {
                Ok(()) => passed.push(now),
                Err(Bound::Rate(_, wait)) => {
                    assert!(wait > Duration::ZERO && wait <= at(6100), "{wait:?}");
                    // It is right about when it ends.
                    let mut later = Usage { window: None, ..Usage::default() };
                    std::mem::swap(&mut later, &mut usage);
                    assert!(later.check(&limits, now + wait.saturating_sub(at(1)), true).is_err());
                    assert!(later.window.as_ref().is_some());
                    usage = later;
                }
                Err(other) => panic!("{other:?}"),
            }
        }
        for (place, begin) in passed.iter().enumerate() {
            let within = passed[place..].iter().filter(|time| time.saturating_sub(*begin) < at(6000)).count();
            assert!(within <= 5, "{within} from {begin:?} on");
        }
        // And it does not refuse much more than it must: 5 in 6.1 s.
        assert!(passed.len() >= 33, "{}", passed.len());
    }

    #[test]
    fn a_rate_of_another_period_begins_with_what_was_counted() {
        let mut usage = Usage::default();
        let hour = limits("{requests: 5, per: 1h}");
        assert_eq!([(); 4].map(|()| request(&mut usage, &hour, at(0))), [Ok(()); 4]);
        let minute = limits("{requests: 5, per: 1m}");
        assert_eq!(request(&mut usage, &minute, at(1000)), Ok(()));
        assert!(request(&mut usage, &minute, at(2000)).is_err());
        assert_eq!(request(&mut usage, &minute, at(63_000)), Ok(()));
        // Without a rate nothing is remembered.
        usage.count(None, at(63_000));
        assert_eq!(usage.in_period(hour.rate().unwrap(), at(63_000)), 0);
    }
}
