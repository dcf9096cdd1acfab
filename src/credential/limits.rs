//! How many requests may use a credential: in all, in a time, and at once. As text and in the manifest `{total, requests, per,
//! concurrent}`.
//!
//! A limit bounds what an agent can spend or do with a key that it may use. It is no protection of the key itself.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The largest number of requests of a limit: egress counts in 32 bits.
const MAX_REQUESTS: u64 = 1_000_000_000;
/// Egress forwards no more at the same time.
const MAX_CONCURRENT: u64 = 256;
/// The longest time of a rate. A longer one is a `total`.
const MAX_PER: Duration = Duration::from_hours(31 * 24);

/// The limits of a credential, or of all credentials of a bottle together. At least one is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Written", into = "Written")]
#[schemars(with = "Written")]
pub struct Limits {
    total: Option<u32>,
    rate: Option<Rate>,
    concurrent: Option<u32>,
}

/// A number of requests in any period of this length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// The number.
    pub requests: u32,
    /// The length of the period.
    pub per: Duration,
}

/// The limits as they are written.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "limits with their names, as `{total: 100}`")]
pub struct Written {
    /// Most requests as long as the bottle lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// Most requests in any period of the length `per`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    /// The length of the period, such as `1m` or `1h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per: Option<String>,
    /// Most requests at the same time; another one waits for a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrent: Option<u64>,
}

/// Why limits cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitsError {
    /// Nothing is limited.
    #[error("limits: it limits nothing; it has `total`, `requests` with `per`, `concurrent`, or several of them")]
    None,
    /// Not a number of requests.
    #[error("limits: {0}: {1} is not from 1 to {2}; to forbid a credential, leave it out")]
    Number(&'static str, u64, u64),
    /// A number without a period.
    #[error("limits: `requests` needs a period, as in `per: 1h`; for the whole life of the bottle, use `total`")]
    NoPeriod,
    /// A period without a number.
    #[error("limits: `per` needs a number, as in `requests: 1000`")]
    NoNumber,
    /// The period cannot be read.
    #[error("limits: per: {0:?} is not a time from 1s to 31days, such as 1m or 1h")]
    Period(String),
}

impl TryFrom<Written> for Limits {
    type Error = LimitsError;

    fn try_from(written: Written) -> Result<Self, LimitsError> {
        let number = |key, number: Option<u64>, most: u64| {
            let in_range = |number| u32::try_from(number).ok().filter(|_| (1..=most).contains(&number));
            number.map(|number| in_range(number).ok_or(LimitsError::Number(key, number, most))).transpose()
        };
        let rate = match (number("requests", written.requests, MAX_REQUESTS)?, written.per) {
            (Some(requests), Some(per)) => {
                let time = humantime::parse_duration(&per).ok();
                let time = time.filter(|time| (Duration::from_secs(1)..=MAX_PER).contains(time));
                Some(Rate { requests, per: time.ok_or(LimitsError::Period(per))? })
            }
            (Some(_), None) => return Err(LimitsError::NoPeriod),
            (None, Some(_)) => return Err(LimitsError::NoNumber),
            (None, None) => None,
        };
        let total = number("total", written.total, MAX_REQUESTS)?;
        let limits = Self { total, rate, concurrent: number("concurrent", written.concurrent, MAX_CONCURRENT)? };
        if limits.total.is_none() && limits.rate.is_none() && limits.concurrent.is_none() {
            return Err(LimitsError::None);
        }
        Ok(limits)
    }
}

impl From<Limits> for Written {
    fn from(limits: Limits) -> Self {
        Self {
            total: limits.total.map(u64::from),
            requests: limits.rate.map(|rate| u64::from(rate.requests)),
            per: limits.rate.map(|rate| period(rate.per)),
            concurrent: limits.concurrent.map(u64::from),
        }
    }
}

impl Limits {
    /// Most requests as long as the bottle lives.
    pub fn total(&self) -> Option<u32> {
        self.total
    }

    /// Most requests in a period.
    pub fn rate(&self) -> Option<Rate> {
        self.rate
    }

    /// Most requests at the same time.
    pub fn concurrent(&self) -> Option<u32> {
        self.concurrent
    }

    /// These, with those of `others` that are not here.
    #[must_use]
    pub fn or(self, others: Option<Self>) -> Self {
        let Some(others) = others else { return self };
        Self {
            total: self.total.or(others.total),
            rate: self.rate.or(others.rate),
            concurrent: self.concurrent.or(others.concurrent),
        }
    }
}

/// A period without its spaces, as in `1h30m`.
fn period(per: Duration) -> String {
    humantime::format_duration(per).to_string().replace(' ', "")
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.requests, period(self.per))
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            self.total.map(|total| format!("{total} in all")),
            self.rate.map(|rate| rate.to_string()),
            self.concurrent.map(|concurrent| format!("{concurrent} at a time")),
        ];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

/// A limit that a request would exceed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitReached {
    /// The credential; `None` for the limit of the whole bottle.
    pub credential: Option<String>,
    /// Which of its limits.
    pub bound: Bound,
}

/// One of several limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// All requests as long as the bottle lives.
    Total(u32),
    /// Requests in a period, and after which time another one is allowed.
    Rate(Rate, Duration),
    /// Requests at the same time.
    Concurrent(u32),
}

impl LimitReached {
    /// After which time another request is allowed, in whole seconds, if that is known.
    pub fn wait(&self) -> Option<u64> {
        match self.bound {
            Bound::Rate(_, wait) => Some(wait.as_secs() + u64::from(wait.subsec_nanos() > 0)),
            Bound::Total(_) | Bound::Concurrent(_) => None,
        }
    }
}

impl fmt::Display for LimitReached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = match &self.credential {
            Some(name) => format!("with the credential {name}"),
            None => "with credentials".to_owned(),
        };
        match self.bound {
            Bound::Total(total) => write!(f, "this bottle may make {total} requests {whose}, and has made them"),
            // Without the time to wait: equal decisions are counted in one event.
            Bound::Rate(Rate { requests, per }, _) => {
                write!(f, "this bottle may make {requests} requests {whose} in {}, and has made them", period(per))
            }
            Bound::Concurrent(concurrent) => {
                write!(
                    f,
                    "this bottle may make {concurrent} requests {whose} at a time, and none of them ended in time"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<Limits, String> {
        serde_yaml::from_str(yaml).map_err(|error| error.to_string())
    }

    #[test]
    fn limits_are_read_written_and_shown() {
        for (yaml, shown) in [
            ("{total: 5000, requests: 60, per: 1m, concurrent: 8}", "5000 in all, 60 in 1m, 8 at a time"),
            ("{requests: 1, per: 90s}", "1 in 1m30s"),
            ("{concurrent: 1}", "1 at a time"),
            ("{total: 1000000000}", "1000000000 in all"),
        ] {
            let limits = read(yaml).unwrap();
            assert_eq!(limits.to_string(), shown);
            let json = serde_json::to_string(&limits).unwrap();
            assert_eq!(serde_json::from_str::<Limits>(&json).unwrap(), limits, "{json}");
        }
        let both = read("{total: 9}").unwrap().or(Some(read("{total: 5, requests: 1, per: 1h}").unwrap()));
        assert_eq!(both.to_string(), "9 in all, 1 in 1h");
    }

    #[test]
    fn what_limits_nothing_or_cannot_be_read_is_an_error() {
        for (yaml, words) in [
            ("{}", "it limits nothing"),
            ("{total: 0}", "total: 0 is not from 1"),
            ("{concurrent: 257}", "concurrent: 257 is not from 1 to 256"),
            ("{requests: 5}", "`total`"),
            ("{per: 1h}", "`requests: 1000`"),
            ("{requests: 5, per: soon}", "\"soon\" is not a time"),
            ("{requests: 5, per: 0s}", "is not a time from 1s"),
            ("{requests: 5, per: 40days}", "to 31days"),
            ("{requests: -5, per: 1h}", "expected u64"),
            ("{request: 5}", "unknown field `request`"),
        ] {
            let error = read(yaml).unwrap_err();
            assert!(error.contains(words), "{yaml}: {error}");
        }
    }

    #[test]
    fn limits_have_bounds_of_their_own() {
        for (yaml, fits) in [
            (format!("{{concurrent: {MAX_CONCURRENT}}}"), true),
            (format!("{{concurrent: {}}}", MAX_CONCURRENT + 1), false),
            (format!("{{total: {MAX_REQUESTS}}}"), true),
            (format!("{{total: {}}}", MAX_REQUESTS + 1), false),
            ("{requests: 1, per: 1s}".to_owned(), true),
            ("{requests: 1, per: 999ms}".to_owned(), false),
            (format!("{{requests: 1, per: {}s}}", MAX_PER.as_secs()), true),
            (format!("{{requests: 1, per: {}s}}", MAX_PER.as_secs() + 1), false),
        ] {
            assert_eq!(read(&yaml).is_ok(), fits, "{yaml}");
        }
    }

    #[test]
    fn a_limit_that_is_reached_names_whose_it_is_and_when_it_ends() {
        let reached =
            |credential: Option<&str>, bound| LimitReached { credential: credential.map(str::to_owned), bound };
        let rate = Rate { requests: 60, per: Duration::from_mins(1) };
        for (reached, words, wait) in [
            (reached(Some("own"), Bound::Total(5)), "may make 5 requests with the credential own, and has made", None),
            (
                reached(Some("own"), Bound::Rate(rate, Duration::from_millis(2001))),
                "60 requests with the credential own in 1m, and has made them",
                Some(3),
            ),
            (reached(None, Bound::Concurrent(2)), "2 requests with credentials at a time", None),
        ] {
            assert!(reached.to_string().contains(words), "{reached}");
            assert_eq!(reached.wait(), wait);
        }
    }
}
