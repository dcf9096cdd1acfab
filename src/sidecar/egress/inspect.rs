//! Scans a text or a message, on another thread if it is long, masks what is to be masked in it, and reports findings in a
//! body that is already being sent.
//!
//! One gate: what leaves was scanned as it leaves, and nothing was found. A text that was masked is scanned again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use hyper::header::HeaderMap;

use super::capacity::Capacity;
use super::{Egress, LoggedDecision};
use crate::policy::{Intent, Reason};
use crate::scan::{Budget, Carrier, DecodeError, Exhausted, Finding, Look, Overlap, Scanner, is_key_header};
use crate::sync::lock;

/// Headers beside those for keys that are only for the head of a request.
const FOR_HEADS: [&str; 2] = ["cookie", "proxy-authorization"];

/// How often a text is masked. Masking may show what was hidden by a longer match; nothing honest needs more than two.
const MAX_MASKED: usize = 4;

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

/// Scans a text in which findings may be masked, with `look`; returns the text that may leave.
pub(super) async fn scan_or_mask(
    capacity: &Capacity,
    scanner: &Arc<Scanner>,
    mut text: Bytes,
    place: &'static str,
    look: impl Fn(&Scanner, &Bytes, &mut Budget) -> Result<Look, DecodeError> + Send + Sync + 'static,
) -> Result<Bytes, Reason> {
    let look = Arc::new(look);
    let mut masked: BTreeMap<Finding, u64> = BTreeMap::new();
    for _ in 0..=MAX_MASKED {
        let (scanner_, text_, look) = (scanner.clone(), text.clone(), look.clone());
        // Each time with a budget of its own: nobody pays for what masking costs but this request.
        let pending = capacity.scan(text.len(), move |budget| {
            let found = look(&scanner_, &text_, budget)?;
            if !matches!(found, Look::Masked(..)) {
                scanner_.report_warnings(budget);
            }
            Ok(found)
        });
        match pending.await? {
            Look::Clean => {
                scanner.report_masked(masked);
                return Ok(text);
            }
            Look::Blocked(finding, would_mask) => {
                return Err(Reason::SecretFound(finding, if would_mask { unmasked(place) } else { place }));
            }
            Look::Masked(bytes, found) => {
                text = bytes.into();
                for (finding, count) in found {
                    *masked.entry(finding).or_default() += count;
                }
            }
        }
    }
    Err(Reason::TooMuchWork(Exhausted))
}

/// The place of a finding that would be masked in plain text.
fn unmasked(place: &'static str) -> &'static str {
    match place {
        "body" => "body, where it cannot be masked",
        "compressed body" => "compressed body, where it cannot be masked",
        "message" => "message, where it cannot be masked",
        other => other,
    }
}

/// Scans a message of a stream in which findings may be masked, and its boundary with the preceding ones; returns the message
/// that may leave.
pub(super) async fn mask_message(
    egress: &Egress,
    scanner: &Arc<Scanner>,
    overlap: &mut Overlap,
    message: Bytes,
    carrier: Carrier<'static>,
    place: &'static str,
) -> Result<Bytes, Reason> {
    let before = overlap.clone();
    let look = move |scanner: &Scanner, text: &Bytes, budget: &mut Budget| match scanner.look(text, carrier, budget)? {
        Look::Clean => {
            let found = before.scan_overlap(scanner, text, budget)?;
            Ok(found.map_or(Look::Clean, |finding| Look::Blocked(finding, false)))
        }
        found => Ok(found),
    };
    let message = scan_or_mask(&egress.capacity, scanner, message, place, look).await?;
    overlap.accept(scanner, &message).map_or(Ok(message), |finding| Err(Reason::SecretFound(finding, place)))
}

/// Scans a message of a stream in which nothing is masked, and its boundary with the preceding ones.
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

#[cfg(test)]
mod tests {
    use super::super::capacity::TIMEOUTS;
    use super::*;
    use crate::scan::{Actions, Dlp, Rules};

    #[tokio::test]
    async fn promise_15_a_text_is_masked_so_often_and_not_once_more() {
        let scanner = Scanner::new(&[], Arc::new(Rules::none()), Arc::new(Actions::new(&Dlp::default())));
        let (scanner, capacity) = (Arc::new(scanner), Capacity::new(TIMEOUTS));
        // Each look finds what the one before has shown.
        let look = |_: &Scanner, text: &Bytes, _: &mut Budget| match text.split_last() {
            Some((_, rest)) => Ok(Look::Masked(
                rest.to_vec(),
                vec![(Finding { rule: "known-secret".to_owned(), fingerprint: None }, 1)],
            )),
            None => Ok(Look::Clean),
        };
        let masked = scan_or_mask(&capacity, &scanner, vec![b'x'; MAX_MASKED].into(), "body", look).await;
        assert_eq!(masked, Ok(Bytes::new()));
        let more = scan_or_mask(&capacity, &scanner, vec![b'x'; MAX_MASKED + 1].into(), "body", look).await;
        assert_eq!(more, Err(Reason::TooMuchWork(Exhausted)));
    }
}
