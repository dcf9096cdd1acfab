//! Audit events: one line of JSON for every decision. What an agent repeats is told once, and then counted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::{Message, stdio};
use crate::policy::{Form, Intent, Reason};
use crate::sync::lock;

/// How long decisions that are alike are counted before the count is told.
const WINDOW: Duration = Duration::from_millis(500);
/// Different decisions in one such time; further ones are counted by their code alone.
const MAX_KINDS: usize = 512;

/// One decision, or several that are alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When, in milliseconds since 1970; of several, the last.
    pub time: u64,
    /// How many decisions this is.
    #[serde(default = "one")]
    pub count: u64,
    /// What was decided.
    #[serde(flatten)]
    pub kind: Kind,
}

fn one() -> u64 {
    1
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Kind {
    /// Which sidecar decided.
    pub sidecar: String,
    /// In which bottle.
    #[serde(default)]
    pub bottle: String,
    /// `allow`, `refuse`; `audit` for what passed only because nothing is enforced, `warn` for a finding that passed.
    pub decision: String,
    /// The reason's stable code, `allowed` for what may go.
    pub code: String,
    /// The reason in words; empty for what may go.
    pub reason: String,
    /// How it was asked for: `connect`, `absolute`, `inside` TLS that was taken off, `tcp`, or `tunnel`, where nobody looks
    /// inside.
    pub form: String,
    /// The request's method.
    pub method: String,
    /// Where it wanted to go, as far as it could be read and may be told: `host:port`.
    pub destination: String,
}

/// What was decided about a request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Outcome<'a> {
    /// It may go.
    Allow,
    /// It may go, where nobody looks.
    Tunnel,
    /// It goes because nothing is enforced.
    Audit(&'a Reason),
    /// It goes although it holds something.
    Warn(&'a Reason),
    /// It may not.
    Refuse(&'a Reason),
}

impl<'a> Outcome<'a> {
    /// The decision's word and its reason's code.
    pub(super) fn words(self) -> (&'static str, &'static str) {
        let (decision, reason) = self.parts();
        (decision, reason.map_or("allowed", Reason::code))
    }

    fn parts(self) -> (&'static str, Option<&'a Reason>) {
        match self {
            Self::Allow | Self::Tunnel => ("allow", None),
            Self::Audit(reason) => ("audit", Some(reason)),
            Self::Warn(reason) => ("warn", Some(reason)),
            Self::Refuse(reason) => ("refuse", Some(reason)),
        }
    }
}

/// Where decisions are told.
#[derive(Clone)]
pub(super) struct Log {
    sidecar: &'static str,
    bottle: Arc<str>,
    counts: Arc<Mutex<HashMap<Kind, u64>>>,
}

impl Log {
    pub(super) fn new(sidecar: &'static str, bottle: &str) -> Self {
        Self { sidecar, bottle: bottle.into(), counts: Arc::default() }
    }

    /// Tells a decision about an intent; `None` where none could be read from the request. What an agent wrote is told as far
    /// as it does not hold what must not leave: this goes to files that people show each other.
    pub(super) fn tell(&self, intent: Option<&Intent>, outcome: Outcome<'_>, holds: impl Fn(&str) -> bool) {
        let (decision, reason) = outcome.parts();
        let form = match (outcome, intent.map(|intent| intent.form)) {
            (Outcome::Tunnel, _) => "tunnel",
            (_, Some(Form::Connect)) => "connect",
            (_, Some(Form::Absolute)) => "absolute",
            (_, Some(Form::Inside)) => "inside",
            (_, Some(Form::Tcp)) => "tcp",
            (_, None) => "",
        };
        let mut kind = Kind {
            sidecar: self.sidecar.to_owned(),
            bottle: self.bottle.to_string(),
            decision: decision.to_owned(),
            code: reason.map_or("allowed", Reason::code).to_owned(),
            reason: reason.map(ToString::to_string).unwrap_or_default(),
            form: form.to_owned(),
            method: intent.map(|intent| intent.method.chars().take(20).collect()).unwrap_or_default(),
            destination: intent.map(|intent| format!("{}:{}", intent.host, intent.port)).unwrap_or_default(),
        };
        // Whole: half of a secret is looked for in vain.
        let asked = intent.map(|intent| (intent.method.as_str(), intent.path.as_deref().unwrap_or_default()));
        let (method, path) = asked.unwrap_or_default();
        let Kind { reason: words, destination, .. } = &kind;
        // Of a finding its name is told, and nothing of the request.
        let found = matches!(reason, Some(Reason::SecretFound(..)));
        let passed = matches!(outcome, Outcome::Allow | Outcome::Tunnel);
        let where_to = !passed && [method, destination, &destination.replace('.', "")].into_iter().any(&holds);
        let why = !passed && !found && [words, path].into_iter().any(&holds);
        if where_to {
            (kind.method, kind.destination) = (String::new(), String::new());
        }
        if where_to && !found || why {
            "it is not told, for it holds what must not leave".clone_into(&mut kind.reason);
        }
        self.count(kind);
    }

    /// Tells the first of a kind at once; further ones are counted, and the count is told after a while.
    fn count(&self, mut kind: Kind) {
        let mut counts = lock(&self.counts);
        if counts.len() >= MAX_KINDS && !counts.contains_key(&kind) {
            kind = Kind {
                reason: String::new(),
                form: String::new(),
                method: String::new(),
                destination: String::new(),
                ..kind
            };
        }
        if let Some(count) = counts.get_mut(&kind) {
            *count += 1;
            return;
        }
        if counts.is_empty() {
            let log = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(WINDOW).await;
                log.flush();
            });
        }
        tell(kind.clone(), 1);
        counts.insert(kind, 0);
    }

    /// Tells what was counted.
    pub(super) fn flush(&self) {
        let counts = std::mem::take(&mut *lock(&self.counts));
        counts.into_iter().filter(|(_, count)| *count > 0).for_each(|(kind, count)| tell(kind, count));
    }
}

fn tell(kind: Kind, count: u64) {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let time = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    stdio::tell(&Message::Audit(Event { time, count, kind }));
}
