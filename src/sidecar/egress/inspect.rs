//! Looks at one text, aside where it is long.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use hyper::header::HeaderMap;

use super::load::Load;
use super::{Egress, Outcome};
use crate::policy::{Intent, Reason};
use crate::scan::{Finding, Scanner, Seam, Work};
use crate::sync::lock;

/// Why a body was cut off while it was being sent.
#[derive(Clone, Default)]
pub(super) struct Verdict(Arc<Mutex<Said>>);

#[derive(Default)]
struct Said {
    reason: Option<Reason>,
    /// Who is told when the answer has come before it.
    answered: Option<(Arc<Egress>, Arc<Intent>)>,
}

impl Verdict {
    pub(super) fn reason(&self) -> Option<Reason> {
        lock(&self.0).reason.clone()
    }

    /// The answer has come: what is found from now on is told by itself.
    pub(super) fn answered(&self, egress: &Arc<Egress>, intent: &Arc<Intent>) {
        lock(&self.0).answered = Some((egress.clone(), intent.clone()));
    }

    pub(super) fn set(&self, reason: &Reason) {
        let mut said = lock(&self.0);
        if let Some((egress, intent)) = said.answered.take() {
            egress.decided(Some(&intent), Outcome::Refuse(reason));
        }
        said.reason = Some(reason.clone());
    }
}

/// Looks at one text.
pub(super) async fn look(load: &Load, scanner: &Arc<Scanner>, text: Bytes, place: &'static str) -> Result<(), Reason> {
    let scanner = scanner.clone();
    let looked = load.look(text.len(), move |work: &mut Work| {
        let found = scanner.look(&text, work)?;
        scanner.tell(work);
        Ok(found)
    });
    let found: Option<Finding> = looked.await?;
    found.map_or(Ok(()), |finding| Err(Reason::SecretFound(finding, place)))
}

/// Looks at a message of a stream, and where it meets what came before.
pub(super) async fn look_at_message(
    egress: &Egress,
    scanner: &Arc<Scanner>,
    seam: &mut Seam,
    message: Bytes,
    place: &'static str,
) -> Result<(), Reason> {
    let (looking, before, text) = (scanner.clone(), seam.clone(), message.clone());
    let found = egress.load.look(message.len(), move |work| {
        let found = match looking.look(&text, work)? {
            None => before.meets(&looking, &text, work)?,
            found => found,
        };
        looking.tell(work);
        Ok(found)
    });
    let found = found.await?.or_else(|| seam.accept(scanner, &message));
    found.map_or(Ok(()), |finding| Err(Reason::SecretFound(finding, place)))
}

pub(super) fn trailer_text(trailers: &HeaderMap) -> Vec<u8> {
    let lines =
        trailers.iter().map(|(name, value)| [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\n"].concat());
    lines.collect::<Vec<_>>().concat()
}
