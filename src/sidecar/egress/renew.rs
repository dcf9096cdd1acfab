//! A host that did not accept the value of a credential: its source is read once more, and if it has another value now, the request
//! is sent once more with that.
//!
//! Only a request that is whole in memory is sent again; the body of any other one has already left.

use std::sync::Arc;

use bytes::Bytes;
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};

use super::Egress;
use super::bodies::{Body, Sliced, empty};
use super::capacity::{MemoryPermit, hold};
use super::inject::{self, Injection};
use super::needs::{Need, next};
use super::protocol::Notice;
use super::snapshot::Snapshot;
use crate::policy::{Intent, Reason};
use crate::sidecar::run::notify;

/// Longest body that is kept until the response arrives, in bytes.
const MAX_KEPT: usize = 1 << 20;

/// The body of a request that was buffered. It counts against egress' memory as long as it is kept.
#[derive(Clone)]
pub(super) struct Whole {
    bytes: Bytes,
    memory: Option<Arc<MemoryPermit>>,
}

impl Whole {
    /// No body.
    pub(super) fn none() -> Self {
        Self { bytes: Bytes::new(), memory: None }
    }

    /// A buffered body; `None` if it is too long to be kept.
    pub(super) fn new(bytes: &Bytes, memory: &Arc<MemoryPermit>) -> Option<Self> {
        (bytes.len() <= MAX_KEPT).then(|| Self { bytes: bytes.clone(), memory: Some(memory.clone()) })
    }

    fn body(self) -> Body {
        if self.bytes.is_empty() { empty() } else { hold(Sliced(self.bytes), self.memory) }
    }
}

/// A request that can be sent again: its head with placeholders, and its body.
pub(super) struct Retry {
    head: Parts,
    whole: Whole,
}

impl Retry {
    /// Keeps a request that uses a credential, if it is whole.
    pub(super) fn of(injection: &Injection, head: &Parts, whole: Option<Whole>) -> Option<Self> {
        if injection.used().is_empty() {
            return None;
        }
        Some(Self { head: head.clone(), whole: whole? })
    }

    /// The request with newer values, if the response says that a value was not accepted and there is another one. The use of the
    /// old value is recorded.
    ///
    /// # Errors
    /// The policy has changed meanwhile, and no longer allows the request.
    pub(super) async fn again<B>(
        self,
        egress: &Arc<Egress>,
        begun: &Snapshot,
        intent: &Intent,
        injection: &Injection,
        response: &Response<B>,
    ) -> Result<Option<(Injection, Parts, Body)>, Reason> {
        if response.status() != StatusCode::UNAUTHORIZED || !has_newer(egress, injection).await {
            return Ok(None);
        }
        egress.recheck(begun, intent)?;
        injection.record(egress, intent, Some(StatusCode::UNAUTHORIZED));
        let Self { mut head, whole } = self;
        let newer = inject::judge(egress, &egress.snapshot(), intent, &mut head)?;
        Ok(Some((newer, head, whole.body())))
    }
}

/// Whether there are newer values than those that a request had. Waits for the holder.
async fn has_newer(egress: &Egress, injection: &Injection) -> bool {
    let mut updates = egress.needs.updates();
    if injection.is_outdated(&egress.snapshot().credentials) {
        return true;
    }
    let mut wait = false;
    for name in injection.used() {
        let need = egress.needs.note(name);
        if need == Need::Report {
            notify::<Egress>(Notice::Need { credential: name.clone() });
        }
        wait |= need != Need::Known;
    }
    if wait {
        next(&mut updates).await;
    }
    injection.is_outdated(&egress.snapshot().credentials)
}
