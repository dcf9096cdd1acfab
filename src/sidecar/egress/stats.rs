//! The counters of egress, as JSON and in Prometheus' text format.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::meter::Meter;
use super::usage::LimitUse;
use crate::policy::RequestLimits;
use crate::sync::lock;

/// The counters. All but `open` only grow.
pub(super) struct Counters {
    began: Instant,
    pub(super) connections: AtomicU64,
    pub(super) open: AtomicU64,
    pub(super) request_bytes: AtomicU64,
    pub(super) response_bytes: AtomicU64,
    decisions: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
    /// By the name of the credential.
    credentials: Mutex<BTreeMap<String, u64>>,
}

/// The counters since the start of the process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Seconds since the start.
    pub uptime: u64,
    /// The generation of the active policy.
    pub generation: u64,
    /// Connections from the agent so far.
    pub connections: u64,
    /// Open connections.
    pub open: u64,
    /// Bytes of request bodies, messages and tunnels that were let through.
    pub request_bytes: u64,
    /// Bytes of responses.
    pub response_bytes: u64,
    /// Decisions, by kind.
    pub decisions: Vec<Decisions>,
    /// Resident memory, in bytes.
    pub resident: u64,
    /// Requests with a credential, by its name.
    #[serde(default)]
    pub credentials: Vec<CredentialUses>,
    /// The limits of all credentials together, if there are some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<LimitUse>,
}

/// How often a credential was used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialUses {
    /// Its name.
    pub name: String,
    /// The number of requests that it was sent with.
    pub count: u64,
    /// Its limits, if there are some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<LimitUse>,
}

/// The number of decisions of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decisions {
    /// `allow`, `refuse`, `audit`, `warn` or `mask`.
    pub decision: String,
    /// The reason's code.
    pub code: String,
    /// The number.
    pub count: u64,
}

impl Counters {
    pub(super) fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            began: Instant::now(),
            connections: zero(),
            open: zero(),
            request_bytes: zero(),
            response_bytes: zero(),
            decisions: Mutex::default(),
            credentials: Mutex::default(),
        }
    }

    pub(super) fn record(&self, decision: &'static str, code: &'static str, times: u64) {
        *lock(&self.decisions).entry((decision, code)).or_default() += times;
    }

    /// Counts a use of a credential.
    pub(super) fn used(&self, credential: &str) {
        *lock(&self.credentials).entry(credential.to_owned()).or_default() += 1;
    }

    pub(super) fn read(&self, generation: u64, meter: &Meter, limits: &RequestLimits) -> Stats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let decisions = lock(&self.decisions);
        let row = |(&(decision, code), &count): (&(&str, &str), &u64)| Decisions {
            decision: decision.to_owned(),
            code: code.to_owned(),
            count,
        };
        Stats {
            uptime: self.began.elapsed().as_secs(),
            generation,
            connections: get(&self.connections),
            open: get(&self.open),
            request_bytes: get(&self.request_bytes),
            response_bytes: get(&self.response_bytes),
            decisions: decisions.iter().map(row).collect(),
            resident: resident().unwrap_or_default(),
            credentials: self.uses(meter, limits),
            limit: meter.read(None, limits),
        }
    }
}

impl Counters {
    /// The uses of each credential that was used or has limits.
    fn uses(&self, meter: &Meter, limits: &RequestLimits) -> Vec<CredentialUses> {
        let mut counts = lock(&self.credentials).clone();
        for name in limits.credentials.keys() {
            counts.entry(name.clone()).or_default();
        }
        let uses = |(name, count): (String, u64)| {
            let limit = meter.read(Some(&name), limits);
            CredentialUses { name, count, limit }
        };
        counts.into_iter().map(uses).collect()
    }
}

/// proc(5): `VmRSS` of this process, in bytes.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

impl Stats {
    /// Prometheus' text exposition format, version 0.0.4. `bottle` becomes a label of every sample.
    pub fn prometheus(&self, bottle: &str) -> String {
        let mut text = String::new();
        let mut sample = |name: &str, kind: &str, help: &str, rows: &[(String, u64)]| {
            let _ = writeln!(text, "# HELP bottler_egress_{name} {help}\n# TYPE bottler_egress_{name} {kind}");
            for (labels, value) in rows {
                let _ = writeln!(text, "bottler_egress_{name}{{bottle=\"{bottle}\"{labels}}} {value}");
            }
        };
        let one = |value: u64| [(String::new(), value)];
        sample("uptime_seconds", "gauge", "Seconds since it began.", &one(self.uptime));
        sample("policy_generation", "gauge", "How often its policy was read.", &one(self.generation));
        sample("connections_total", "counter", "Connections from the agent.", &one(self.connections));
        sample("connections_open", "gauge", "Connections that are open.", &one(self.open));
        sample("request_bytes_total", "counter", "Bytes that were let through.", &one(self.request_bytes));
        sample("response_bytes_total", "counter", "Bytes that came back.", &one(self.response_bytes));
        sample("resident_bytes", "gauge", "Memory that is resident.", &one(self.resident));
        let rows: Vec<(String, u64)> = self
            .decisions
            .iter()
            .map(|row| (format!(",decision=\"{}\",code=\"{}\"", row.decision, row.code), row.count))
            .collect();
        sample("decisions_total", "counter", "Decisions by their reasons.", &rows);
        let rows: Vec<(String, u64)> =
            self.credentials.iter().map(|row| (format!(",credential=\"{}\"", row.name), row.count)).collect();
        if !rows.is_empty() {
            sample("credential_requests_total", "counter", "Requests with a credential.", &rows);
        }
        let of = |row: &CredentialUses| Some((format!(",credential=\"{}\"", row.name), row.limit.as_ref()?.left()?));
        let all = self.limit.iter().filter_map(|limit| Some((String::new(), limit.left()?)));
        let rows: Vec<(String, u64)> = self.credentials.iter().filter_map(of).chain(all).collect();
        if !rows.is_empty() {
            sample("credential_requests_left", "gauge", "Requests until a total is reached.", &rows);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_out_as_prometheus_reads_them() {
        let (counters, limits) = (Counters::new(), RequestLimits::default());
        counters.record("refuse", "host_not_allowed", 2);
        let text = counters.read(3, &Meter::default(), &limits).prometheus("probe-abcde");
        assert!(text.contains("# TYPE bottler_egress_policy_generation gauge\nbottler_egress_policy_generation{bottle=\"probe-abcde\"} 3\n"), "{text}");
        let row =
            "bottler_egress_decisions_total{bottle=\"probe-abcde\",decision=\"refuse\",code=\"host_not_allowed\"} 2\n";
        assert!(text.ends_with(row), "{text}");
        assert!(counters.read(1, &Meter::default(), &limits).resident > 0);
    }
}
