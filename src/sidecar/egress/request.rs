//! Checks that apply to every form of request before it becomes an intent.
//!
//! Attacks that this stops: a method or path that is overridden by a header, an upgrade to an unknown protocol, and a
//! `Host` header other than the target.

use std::time::Duration;

use hyper::body::Body as _;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Version, http};

use super::drain::RequestBody;
use super::strict::{MAX_HEADERS, TOO_MANY};
use crate::net::Host;
use crate::policy::Reason;

/// Maximum length of a host that is repeated in a message, in bytes: a name and a port.
const MAX_TOLD: usize = 260;
/// The time limit for a request head.
pub(super) const HEAD: Duration = Duration::from_secs(30);

/// Headers by which some servers replace the judged method or path; the last two are of IIS, Symfony and Zend.
const OVERRIDES: [&str; 5] =
    ["x-http-method", "x-http-method-override", "x-method-override", "x-original-url", "x-rewrite-url"];

/// Refuses headers that are never forwarded; [`crate::policy::authorize`] decides about methods and paths.
pub(super) fn check(request: &Request<RequestBody>) -> Result<(), Reason> {
    if request.headers().contains_key(header::UPGRADE) && !is_handshake(request) {
        return Err(Reason::BadRequest("of protocol upgrades only WebSockets are forwarded, without a body"));
    }
    // Over HTTP/1.1 they are counted before they are parsed.
    if request.headers().len() > MAX_HEADERS {
        return Err(Reason::BadRequest(TOO_MANY));
    }
    if OVERRIDES.iter().any(|name| request.headers().contains_key(*name)) {
        return Err(Reason::BadRequest("headers that override the method or the path are not forwarded"));
    }
    Ok(())
}

/// Whether a request is a WebSocket handshake and nothing else: it has no body (RFC 9110, section 7.8; RFC 6455,
/// section 4.1) and no framing for one, which a destination that refuses the upgrade would apply.
pub(super) fn is_handshake(request: &Request<RequestBody>) -> bool {
    let is = |name: HeaderName, word: &str| {
        let mut values = request.headers().get_all(name).iter();
        let first = values.next().and_then(|value| value.to_str().ok());
        first.is_some_and(|value| value.eq_ignore_ascii_case(word)) && values.next().is_none()
    };
    let none = |value: &HeaderValue| value.as_bytes() == b"0";
    request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && request.body().is_end_stream()
        && !request.headers().contains_key(header::TRANSFER_ENCODING)
        && request.headers().get_all(header::CONTENT_LENGTH).iter().all(none)
        && is(header::UPGRADE, "websocket")
        && is(header::SEC_WEBSOCKET_VERSION, "13")
        && request.headers().contains_key(header::SEC_WEBSOCKET_KEY)
}

/// A host from the request, for a message. Never truncated: half of a secret would not be recognised as one.
pub(super) fn short(text: &str) -> String {
    if text.len() <= MAX_TOLD { text.to_owned() } else { "more than a host has".to_owned() }
}

/// Promise 4: the request target and the `Host` header agree, and there is at most one `Host`.
pub(super) fn check_host_header(headers: &HeaderMap, host: &Host, port: u16, default: u16) -> Result<(), Reason> {
    let mut values = headers.get_all(header::HOST).iter();
    let (first, second) = (values.next(), values.next());
    if second.is_some() {
        return Err(Reason::BadRequest("there are two Host headers"));
    }
    let Some(value) = first else { return Ok(()) };
    let text = value.to_str().map_err(|_| Reason::BadRequest("the Host header is not ASCII"))?;
    let mismatch = || Reason::HostMismatch(host.clone(), short(text));
    let authority: http::uri::Authority = text.parse().map_err(|_| mismatch())?;
    let named = Host::parse(authority.host()).map_err(|_| mismatch())?;
    if named == *host && authority.port_u16().unwrap_or(default) == port { Ok(()) } else { Err(mismatch()) }
}
