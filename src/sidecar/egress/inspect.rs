//! Scans a text or a message, on another thread if it is long, and reports findings in a body that is already being
//! sent.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use hyper::header::HeaderMap;

use super::capacity::Capacity;
use super::{Egress, LoggedDecision};
use crate::policy::{Intent, Reason};
use crate::scan::{Budget, Finding, Overlap, Scanner, is_key_header};
use crate::sync::lock;

/// Headers beside those for keys that are only for the head of a request.
const FOR_HEADS: [&str; 2] = ["cookie", "proxy-authorization"];

/// Why a body was cut off while it was being sent.
#[derive(Clone, Default)]
pub(super) struct BodyRefusal(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    reason: Option<Reason>,
    /// Records the reason if the response came first.
    answered: Option<(Arc<Egress>, Arc<Intent>)>,
}

impl BodyRefusal {
    pub(super) fn reason(&self) -> Option<Reason> {
        lock(&self.0).reason.clone()
    }

    /// The response has arrived: a later finding is recorded as an event of its own.
    pub(super) fn answered(&self, egress: &Arc<Egress>, intent: &Arc<Intent>) {
        lock(&self.0).answered = Some((egress.clone(), intent.clone()));
    }

    pub(super) fn set(&self, reason: &Reason) {
        let mut inner = lock(&self.0);
        if let Some((egress, intent)) = inner.answered.take() {
            egress.record(Some(&intent), LoggedDecision::Refuse(reason));
        }
        inner.reason = Some(reason.clone());
    }
}

/// Scans one text.
pub(super) async fn scan_text(
    capacity: &Capacity,
    scanner: &Arc<Scanner>,
    text: Bytes,
    place: &'static str,
) -> Result<(), Reason> {
    let scanner = scanner.clone();
    let result = capacity.scan(text.len(), move |budget: &mut Budget| {
        let found = scanner.scan(&text, budget)?;
        scanner.report_warnings(budget);
        Ok(found)
    });
    let found: Option<Finding> = result.await?;
    found.map_or(Ok(()), |finding| Err(Reason::SecretFound(finding, place)))
}

/// Scans a message of a stream, and its boundary with the preceding ones.
pub(super) async fn scan_message(
    egress: &Egress,
    scanner: &Arc<Scanner>,
    overlap: &mut Overlap,
    message: Bytes,
    place: &'static str,
) -> Result<(), Reason> {
    let (owned, before, text) = (scanner.clone(), overlap.clone(), message.clone());
    let found = egress.capacity.scan(message.len(), move |budget| {
        let found = match owned.scan(&text, budget)? {
            None => before.scan_overlap(&owned, &text, budget)?,
            found => found,
        };
        owned.report_warnings(budget);
        Ok(found)
    });
    let found = found.await?.or_else(|| overlap.accept(scanner, &message));
    found.map_or(Ok(()), |finding| Err(Reason::SecretFound(finding, place)))
}

/// Refuses trailers that are for authentication (RFC 9110, section 6.5.1): some servers take them for headers.
pub(super) fn check_trailers(trailers: &HeaderMap) -> Result<(), Reason> {
    let held = trailers.keys().any(|name| is_key_header(name.as_str()) || FOR_HEADS.contains(&name.as_str()));
    if held { Err(Reason::BadRequest("a credential in a trailer is not forwarded")) } else { Ok(()) }
}

pub(super) fn trailer_text(trailers: &HeaderMap) -> Vec<u8> {
    let lines =
        trailers.iter().map(|(name, value)| [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\n"].concat());
    lines.collect::<Vec<_>>().concat()
}
