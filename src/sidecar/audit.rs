//! Audit events: one line of JSON for every decision. Repeated decisions are counted; [`crate::audit::Coalescer`] says
//! how.

use std::sync::{Arc, Condvar, Mutex, Once, Weak};
use std::time::{Duration, Instant};

use super::message::{Message, Never};
use super::stdio;
use crate::audit::{Coalescer, Details, Event, Limits, Subject, denial_id, now};
use crate::policy::{Form, Intent, Reason};
use crate::sync::lock;

/// How often due counts are looked for, and how often if there are none.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
const IDLE_INTERVAL: Duration = Duration::from_secs(5);
/// Maximum length of a reason, in bytes.
const MAX_REASON: usize = 512;

/// A decision about a request, as it is logged.
#[derive(Debug, Clone, Copy)]
pub(super) enum LoggedDecision<'a> {
    /// Allowed.
    Allow,
    /// Allowed without inspection.
    Tunnel,
    /// Allowed, and sent with the values of these credentials: their names, and the status of the response if there was
    /// one.
    Used(&'a str, Option<u16>),
    /// Allowed only because nothing is enforced.
    Audit(&'a Reason),
    /// Allowed although it contains a finding.
    Warn(&'a Reason),
    /// Allowed without the value of a finding.
    Mask(&'a Reason),
    /// Refused.
    Refuse(&'a Reason),
}

impl<'a> LoggedDecision<'a> {
    /// The decision's word, and the code of its reason.
    pub(super) fn words(self) -> (&'static str, &'static str) {
        let (decision, reason) = self.parts();
        (decision, reason.map_or(if let Self::Used(..) = self { "credential_used" } else { "allowed" }, Reason::code))
    }

    /// The reason in words, or how credentials were used.
    fn reason(self, intent: Option<&Intent>) -> String {
        let Self::Used(names, status) = self else {
            return self.parts().1.map(ToString::to_string).unwrap_or_default();
        };
        let path = intent.and_then(|intent| intent.path.as_deref()).unwrap_or("/");
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        let status = status.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
        format!("{names} for {path}: {status}")
    }

    fn parts(self) -> (&'static str, Option<&'a Reason>) {
        match self {
            Self::Allow | Self::Tunnel | Self::Used(..) => ("allow", None),
            Self::Audit(reason) => ("audit", Some(reason)),
            Self::Warn(reason) => ("warn", Some(reason)),
            Self::Mask(reason) => ("mask", Some(reason)),
            Self::Refuse(reason) => ("refuse", Some(reason)),
        }
    }
}

/// Logs decisions.
#[derive(Clone)]
pub(super) struct Log {
    sidecar: &'static str,
    bottle: Arc<str>,
    /// The sidecar whose requests these are; empty for the agent.
    client: Arc<str>,
    shared: Arc<Shared>,
}

struct Shared {
    began: Instant,
    coalescer: Mutex<Coalescer>,
    /// Wakes the writer for an event that is due at once.
    news: Condvar,
    /// Held while events are written, so that they keep their order.
    writing: Mutex<()>,
    writer: Once,
}

impl Log {
    pub(super) fn new(sidecar: &'static str, bottle: &str) -> Self {
        let shared = Shared {
            began: Instant::now(),
            coalescer: Mutex::new(Coalescer::new(Limits::SIDECAR, 0)),
            news: Condvar::new(),
            writing: Mutex::default(),
            writer: Once::new(),
        };
        Self { sidecar, bottle: bottle.into(), client: "".into(), shared: Arc::new(shared) }
    }

    /// The same for the requests of a sidecar.
    pub(super) fn of_client(&self, name: &str) -> Self {
        Self { client: name.into(), ..self.clone() }
    }

    /// Logs a decision about an intent, that was made so many times; `None` if the request could not be parsed. Text from the
    /// agent that contains a secret is left out: audit logs are shared.
    pub(super) fn record(
        &self,
        intent: Option<&Intent>,
        outcome: LoggedDecision<'_>,
        times: u64,
        holds: impl Fn(&str) -> bool,
    ) {
        self.note_times(self.details(intent, outcome, holds), times);
    }

    /// Logs a refusal; returns its id.
    pub(super) fn refuse(&self, intent: Option<&Intent>, reason: &Reason, holds: impl Fn(&str) -> bool) -> String {
        let details = self.details(intent, LoggedDecision::Refuse(reason), holds);
        let id = denial_id(&details);
        self.note(details);
        id
    }

    /// A decision as it is logged.
    fn details(&self, intent: Option<&Intent>, outcome: LoggedDecision<'_>, holds: impl Fn(&str) -> bool) -> Details {
        let (decision, reason) = outcome.parts();
        let form = match (outcome, intent.map(|intent| intent.form)) {
            (LoggedDecision::Tunnel, _) => "tunnel",
            (_, Some(Form::Connect)) => "connect",
            (_, Some(Form::Absolute)) => "absolute",
            (_, Some(Form::Inside)) => "inside",
            (_, Some(Form::Tcp)) => "tcp",
            (_, None) => "",
        };
        let mut kind = Details {
            subject: Subject::Request,
            sidecar: self.sidecar.to_owned(),
            bottle: self.bottle.to_string(),
            client: self.client.to_string(),
            decision: decision.to_owned(),
            code: outcome.words().1.to_owned(),
            reason: outcome.reason(intent),
            form: form.to_owned(),
            method: intent.map(|intent| intent.method.chars().take(20).collect()).unwrap_or_default(),
            destination: intent.map(|intent| format!("{}:{}", intent.host, intent.port)).unwrap_or_default(),
        };
        // Not truncated: half of a secret would not be found.
        let asked = intent.map(|intent| (intent.method.as_str(), intent.path.as_deref().unwrap_or_default()));
        let (method, path) = asked.unwrap_or_default();
        let Details { reason: words, destination, .. } = &kind;
        // For a finding only its name is logged, and nothing of the request.
        let found = matches!(reason, Some(Reason::SecretFound(..) | Reason::SecretMasked(_)));
        let passed = matches!(outcome, LoggedDecision::Allow | LoggedDecision::Tunnel);
        let where_to = !passed && [method, destination, &destination.replace('.', "")].into_iter().any(&holds);
        let why = !passed && !found && [words, path].into_iter().any(&holds);
        if where_to {
            (kind.method, kind.destination) = (String::new(), String::new());
        }
        if where_to && !found || why {
            "it is not told, for it holds what must not leave".clone_into(&mut kind.reason);
        }
        shorten(&mut kind.reason);
        kind
    }

    /// The bottle's id.
    pub(super) fn bottle(&self) -> &str {
        &self.bottle
    }

    /// Logs a decision that is described already.
    pub(super) fn note(&self, kind: Details) {
        self.note_times(kind, 1);
    }

    fn note_times(&self, kind: Details, times: u64) {
        self.shared.writer.call_once(|| {
            let shared = Arc::downgrade(&self.shared);
            // Without a writer thread, events are written by the next flush.
            let _ = std::thread::Builder::new().name("audit".into()).spawn(move || write_due(&shared));
        });
        if lock(&self.shared.coalescer).note_times(kind, times, now(), self.shared.clock()) {
            self.shared.news.notify_one();
        }
    }

    /// Writes everything that was recorded.
    pub(super) fn flush(&self) {
        let _telling = lock(&self.shared.writing);
        let events = lock(&self.shared.coalescer).flush(self.shared.clock());
        events.into_iter().for_each(write);
    }
}

impl Shared {
    fn clock(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Writes what is due, on a thread of its own: a blocked reader delays no request, and further events are counted
/// meanwhile.
fn write_due(shared: &Weak<Shared>) {
    while let Some(shared) = shared.upgrade() {
        {
            let _telling = lock(&shared.writing);
            let events = lock(&shared.coalescer).due(shared.clock());
            events.into_iter().for_each(write);
        }
        let coalescer = lock(&shared.coalescer);
        // If nobody records anything any more, this thread ends.
        let wait = if coalescer.is_empty() { IDLE_INTERVAL } else { POLL_INTERVAL };
        drop(shared.news.wait_timeout(coalescer, wait));
    }
}

/// Truncates text that an agent may have made long; the whole of it was scanned.
fn shorten(text: &mut String) {
    if text.len() > MAX_REASON {
        text.truncate(text.floor_char_boundary(MAX_REASON));
        text.push('…');
    }
}

fn write(event: Event) {
    stdio::write(&Message::<Never, Never, Never>::Audit(Box::new(event)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_cut_off() {
        for (length, expected) in [(MAX_REASON, MAX_REASON), (MAX_REASON + 1, MAX_REASON + '…'.len_utf8())] {
            let mut text = "x".repeat(length);
            shorten(&mut text);
            assert_eq!((text.len(), text.ends_with('…')), (expected, length > MAX_REASON));
        }
        // Never within a letter.
        let mut text = "ä".repeat(MAX_REASON);
        shorten(&mut text);
        assert_eq!(text, "ä".repeat(MAX_REASON / 2) + "…");
    }
}
