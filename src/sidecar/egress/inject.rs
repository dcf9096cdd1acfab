//! Credentials in a request that is forwarded: what is put in before it is sent, what its response must be like, and what
//! is taken out of it.
//!
//! Rules:
//! * A request is judged as it came, and values are put in last: after the scan, and after the policy was checked again.
//! * A host that has a credential is asked for responses that can be read: without an encoding, and whole. One that is
//!   encoded all the same is refused.
//! * Each use is one audit event.
//!
//! Attacks that this stops: a value that comes back in a response: in its status line, headers, trailers or body,
//! compressed, or in ranges that are put together afterwards.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::ext::ReasonPhrase;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::{request, response};
use hyper::{Method, Response, StatusCode};
use tokio::time::Instant;

use super::protocol::Notice;
use super::snapshot::Snapshot;
use super::{Egress, LoggedDecision};
use crate::credential::{Redactor, Substitution};
use crate::policy::{Intent, Reason};
use crate::scan::DecodeError;
use crate::sidecar::run::notify;
use crate::sync::lock;

/// Dropped whole if a value is in them: clients keep them, and one with a placeholder would be sent back.
const DROPPED: [HeaderName; 3] = [
    header::SET_COOKIE,
    HeaderName::from_static("authentication-info"),
    HeaderName::from_static("proxy-authentication-info"),
];
/// How long no further need of a credential is reported.
const AGAIN: Duration = Duration::from_mins(1);

/// What is put into one request, and taken out of its response.
pub(super) struct Injection {
    substitution: Substitution,
    /// For a host that has a credential.
    pub(super) redactor: Option<Arc<Redactor>>,
    /// Whether the request is a HEAD: its response has no body, whatever its headers say.
    bodiless: bool,
    /// Whether some host of the bottle has a credential.
    notes_cookies: bool,
}

/// The credentials that a request used, attached to its response.
#[derive(Clone)]
pub(super) struct Used {
    names: Arc<str>,
    status: u16,
}

impl Used {
    /// As the audit log shows it.
    pub(super) fn logged(&self) -> LoggedDecision<'_> {
        LoggedDecision::Used(&self.names, Some(self.status))
    }
}

/// When a need was last reported, for each credential.
pub(super) type Needs = Mutex<HashMap<String, Instant>>;

/// Judges the head of a request, as it came.
///
/// # Errors
/// It holds a placeholder that is not in its slot, or another credential than the host's.
pub(super) fn judge(
    egress: &Egress,
    snapshot: &Snapshot,
    intent: &Intent,
    head: &mut request::Parts,
) -> Result<Injection, Reason> {
    let headers = head.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let websocket = head.headers.contains_key(header::UPGRADE);
    let substitution = snapshot.credentials.substitute(intent, headers, websocket)?;
    if substitution.elsewhere.is_some() {
        egress.record(Some(intent), LoggedDecision::Warn(&Reason::PlaceholderPassed("headers")));
    }
    let redactor = snapshot.credentials.redactor(&intent.host, intent.port).cloned();
    if redactor.is_some() && egress.cookies.keep_own(&intent.host, &mut head.headers) {
        egress.record(Some(intent), LoggedDecision::Warn(&Reason::CookiesLeftOut(intent.host.clone())));
    }
    let notes_cookies = !snapshot.credentials.all().is_empty();
    Ok(Injection { substitution, redactor, bodiless: head.method == Method::HEAD, notes_cookies })
}

impl Injection {
    /// Asks a host that has a credential for a response that can be read.
    pub(super) fn ask_readable(&self, headers: &mut HeaderMap) {
        if self.redactor.is_none() {
            return;
        }
        let identity = HeaderValue::from_static("identity");
        headers.insert(header::ACCEPT_ENCODING, identity.clone());
        let grpc = HeaderName::from_static("grpc-accept-encoding");
        if headers.contains_key(&grpc) {
            headers.insert(grpc, identity);
        }
        headers.remove(header::RANGE);
        headers.remove(header::IF_RANGE);
    }

    /// The path that is sent.
    pub(super) fn path<'a>(&'a self, intent: &'a Intent) -> &'a str {
        self.substitution.path.as_deref().or(intent.path.as_deref()).unwrap_or("/")
    }

    /// Puts the values in.
    ///
    /// # Errors
    /// A value cannot be written as a header.
    pub(super) fn apply(&self, headers: &mut HeaderMap) -> Result<(), Reason> {
        for replaced in &self.substitution.headers {
            let mut value = HeaderValue::from_bytes(&replaced.after)
                .map_err(|_| Reason::BadRequest("the credential's value cannot be written as a header"))?;
            // HTTP/2 does not keep it in a table, and debug output does not show it.
            value.set_sensitive(true);
            let same = |(name, held): &(&HeaderName, &mut HeaderValue)| {
                name.as_str() == replaced.name && held.as_bytes() == replaced.before
            };
            if let Some((_, held)) = headers.iter_mut().find(same) {
                *held = value;
            }
        }
        Ok(())
    }

    /// Counts a use, reports that a value was not accepted, and attaches the use to the response for the audit log.
    pub(super) fn answered<B>(&self, egress: &Egress, response: &mut Response<B>) {
        if self.substitution.used.is_empty() {
            return;
        }
        let status = response.status();
        self.count(egress);
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            self.substitution.used.iter().for_each(|name| need(egress, name, status));
        }
        response.extensions_mut().insert(Used { names: self.names(), status: status.as_u16() });
    }

    /// Counts and records a use that got no response: the value may have been sent.
    pub(super) fn failed(&self, egress: &Egress, intent: &Intent) {
        if !self.substitution.used.is_empty() {
            self.count(egress);
            egress.record(Some(intent), LoggedDecision::Used(&self.names(), None));
        }
    }

    fn names(&self) -> Arc<str> {
        self.substitution.used.join(", ").into()
    }

    fn count(&self, egress: &Egress) {
        self.substitution.used.iter().for_each(|name| egress.counters.used(name));
    }

    /// Takes the values out of the head of a response.
    ///
    /// # Errors
    /// Its body is encoded.
    pub(super) fn redact_head(
        &self,
        egress: &Egress,
        intent: &Intent,
        head: &mut response::Parts,
    ) -> Result<(), Reason> {
        if self.notes_cookies {
            egress.cookies.note(&intent.host, &head.headers);
        }
        let Some(redactor) = &self.redactor else { return Ok(()) };
        let empty = self.bodiless || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if !empty && let Err(reason) = check_readable(&head.headers) {
            if let Some(used) = head.extensions.remove::<Used>() {
                egress.record(Some(intent), used.logged());
            }
            return Err(reason);
        }
        let shown = |phrase: &ReasonPhrase| redactor.text(phrase.as_bytes()).is_some();
        if head.extensions.get::<ReasonPhrase>().is_some_and(shown) {
            head.extensions.remove::<ReasonPhrase>();
        }
        redact_headers(redactor, &mut head.headers);
        Ok(())
    }
}

/// Takes the values out of headers or trailers.
pub(super) fn redact_headers(redactor: &Redactor, headers: &mut HeaderMap) {
    let shows = |headers: &HeaderMap, name: &HeaderName| {
        headers.get_all(name).iter().any(|value| redactor.text(value.as_bytes()).is_some())
    };
    let names: Vec<HeaderName> = headers.keys().cloned().collect();
    for name in names {
        if redactor.is_in_name(name.as_str()) || DROPPED.contains(&name) && shows(headers, &name) {
            headers.remove(name);
        }
    }
    for value in headers.values_mut() {
        let Some(text) = redactor.text(value.as_bytes()) else { continue };
        // A placeholder has no character that a header cannot hold.
        *value = HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static(""));
    }
}

/// Refuses a response that cannot be read.
fn check_readable(headers: &HeaderMap) -> Result<(), Reason> {
    let grpc = HeaderName::from_static("grpc-encoding");
    let encodings = [header::CONTENT_ENCODING, header::TRANSFER_ENCODING, grpc].into_iter();
    let mut encodings = encodings.flat_map(|name| headers.get_all(name)).map(HeaderValue::as_bytes);
    let plain = |encodings: &[u8]| {
        encodings.split(|&byte| byte == b',').all(|word| {
            let word = word.trim_ascii();
            word.is_empty() || [&b"identity"[..], b"chunked"].iter().any(|plain| word.eq_ignore_ascii_case(plain))
        })
    };
    if encodings.all(plain) {
        return Ok(());
    }
    let what = "of an answer of a host that has a credential, which was asked for as it is".to_owned();
    Err(Reason::NotDecoded(DecodeError::Unknown(what)))
}

/// Tells the holder that a host did not accept a value, once in a while: a client may retry at once.
fn need(egress: &Egress, credential: &str, status: StatusCode) {
    let now = Instant::now();
    {
        let mut needs = lock(&egress.needs);
        if needs.get(credential).is_some_and(|before| now - *before < AGAIN) {
            return;
        }
        needs.insert(credential.to_owned(), now);
    }
    notify::<Egress>(Notice::Need { credential: credential.to_owned(), status: status.as_u16() });
}
