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

use std::sync::Arc;

use hyper::ext::ReasonPhrase;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::{request, response};
use hyper::{Method, Response, StatusCode};

use super::bodies::IncomingBody;
use super::meter::Pass;
use super::redacted::{Redacted, redact_headers};
use super::registries::Noted;
use super::snapshot::Snapshot;
use super::{Egress, LoggedDecision};
use crate::credential::{CONTENT_DIGEST, Redactor, Substitution, ToSign, Violation};
use crate::net::Host;
use crate::policy::{Credentials, Intent, Reason};
use crate::scan::{DecodeError, Scanner};

/// What is put into one request, and taken out of its response.
pub(super) struct Injection {
    substitution: Substitution,
    /// For a host that has a credential.
    pub(super) redactor: Option<Arc<Redactor>>,
    /// Whether the request is a HEAD: its response has no body, whatever its headers say.
    bodiless: bool,
    credentials: Arc<Credentials>,
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
    let headers = head.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let websocket = head.headers.contains_key(header::UPGRADE);
    let handed_out = |credential: &str, token: &str| egress.registries.handed_out(credential, token);
    let substitution = snapshot.credentials.substitute(intent, headers, websocket, &handed_out)?;
    if substitution.elsewhere.is_some() {
        egress.record(Some(intent), LoggedDecision::Warn(&Reason::PlaceholderPassed("headers")));
    }
    let redactor = snapshot.credentials.redactor(&intent.host, intent.port).cloned();
    if redactor.is_some() && egress.cookies.keep_own(&intent.host, &mut head.headers) {
        egress.record(Some(intent), LoggedDecision::Warn(&Reason::CookiesLeftOut(intent.host.clone())));
    }
    let credentials = snapshot.credentials.clone();
    Ok(Injection { substitution, redactor, bodiless: head.method == Method::HEAD, credentials })
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
        // Of what is signed, no secret is sent, and clients fetch large objects in ranges.
        if !self.is_signed() {
            headers.remove(header::RANGE);
            headers.remove(header::IF_RANGE);
        }
    }

    /// The scanner for the request: it lets a token through that the host has handed out.
    pub(super) fn scanner(&self, scanner: Arc<Scanner>) -> Arc<Scanner> {
        match &self.substitution.handed_out {
            Some(token) => Arc::new(scanner.exempting(token)),
            None => scanner,
        }
    }

    /// The body of the response, without the values. The tokens in it are noted if it is the answer of a registry's token
    /// service.
    pub(super) fn body<B: IncomingBody>(
        &self,
        egress: &Egress,
        intent: &Intent,
        status: StatusCode,
        body: B,
    ) -> impl IncomingBody + use<B> {
        let used = &self.substitution.used;
        let hands = status == StatusCode::OK && !used.is_empty() && egress.registries.is_service(intent);
        let handing = hands.then(|| (egress.registries.clone(), used.clone()));
        Noted { inner: Redacted::new(body, self.redactor.as_ref()), handing, answer: Vec::new() }
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

    /// Whether the request is signed.
    fn is_signed(&self) -> bool {
        self.substitution.signing.is_some()
    }

    /// Whether the digest of the body is needed: the request is signed, and no header says it.
    pub(super) fn needs_digest(&self, headers: &HeaderMap) -> bool {
        self.is_signed() && !headers.contains_key(CONTENT_DIGEST)
    }

    /// Signs the head of a request as it is sent. `digest` is that of its body, if that is known as a whole.
    ///
    /// # Errors
    /// It cannot be signed.
    pub(super) fn sign(&self, head: &mut request::Parts, digest: Option<[u8; 32]>) -> Result<(), Reason> {
        let Some(signing) = &self.substitution.signing else { return Ok(()) };
        let path = head.uri.path_and_query().map_or("/", hyper::http::uri::PathAndQuery::as_str);
        let host = head.uri.authority().map(hyper::http::uri::Authority::as_str).unwrap_or_default();
        let headers = head.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let request = ToSign { method: head.method.as_str(), path, host, headers, digest };
        let signed = signing.authorization(&request).map_err(|why| {
            Reason::Credential(Violation::NotSigned { credential: signing.credential().to_owned(), why })
        })?;
        let value = HeaderValue::from_str(&signed);
        let mut value = value.map_err(|_| Reason::BadRequest("the signature cannot be written as a header"))?;
        value.set_sensitive(true);
        head.headers.insert(header::AUTHORIZATION, value);
        Ok(())
    }

    /// Counts a use, and attaches the use to the response for the audit log.
    pub(super) fn answered<B>(&self, egress: &Egress, response: &mut Response<B>) {
        if self.substitution.used.is_empty() {
            return;
        }
        let status = response.status();
        self.count(egress);
        response.extensions_mut().insert(Used { names: self.names(), status: status.as_u16() });
    }

    /// Counts and records a use that got no response: the value may have been sent.
    pub(super) fn failed(&self, egress: &Egress, intent: &Intent) {
        if !self.substitution.used.is_empty() {
            self.record(egress, intent, None);
        }
    }

    /// Counts and records a use whose response the client does not get: its status, or none if there was no response.
    pub(super) fn record(&self, egress: &Egress, intent: &Intent, status: Option<StatusCode>) {
        self.count(egress);
        egress.record(Some(intent), LoggedDecision::Used(&self.names(), status.map(|status| status.as_u16())));
    }

    /// The names of the credentials that the request uses.
    pub(super) fn used(&self) -> &[String] {
        &self.substitution.used
    }

    /// Counts the request against the limits of its credentials; it is in progress until the result is dropped. Waits for its
    /// turn.
    ///
    /// # Errors
    /// A limit is reached.
    pub(super) async fn admit(&self, egress: &Egress) -> Result<Option<Pass>, Reason> {
        egress.meter.admit(self.used(), || egress.snapshot().limits.clone(), egress.capacity.times.turn).await
    }

    /// Whether one of the used credentials has another value by now.
    pub(super) fn is_outdated(&self, now: &Credentials) -> bool {
        self.used().iter().any(|name| self.credentials.value(name) != now.value(name))
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
        if !self.credentials.all().is_empty() {
            egress.cookies.note(&intent.host, &head.headers);
            let has_credential = |host: &Host, port| self.credentials.has_host(host, port);
            egress.registries.note_challenge(intent, head.status, &head.headers, has_credential);
        }
        let Some(redactor) = &self.redactor else { return Ok(()) };
        // The answer to a signed request: an object may be stored compressed.
        let empty = self.is_signed()
            || self.bodiless
            || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
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
