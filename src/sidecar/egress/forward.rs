//! An authorized request → its destination: looked at, made clean, sent, and the answer passed back as it comes.

use std::error::Error;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use hyper::body::Body as _;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Response, Uri, http};

use tokio::sync::Notify;

use super::answers::{For, Waiting};
use super::body::{self, Verdict};
use super::drain::Asked;
use super::load::Slot;
use super::passing::{Body, full};
use super::state::State;
use super::{Egress, Outcome, websocket};
use crate::net::Host;
use crate::policy::{Intent, Reason};

/// An answer, and how it came that the request went if not simply because it may.
pub(super) type Answer = Result<(Response<Body>, Option<Passed>), Reason>;

/// How it came that a request went.
pub(super) enum Passed {
    /// Nothing is enforced.
    Audit(Reason),
    /// Nobody looks inside.
    Tunnel,
}

impl Passed {
    pub(super) fn outcome(&self) -> Outcome<'_> {
        match self {
            Self::Audit(reason) => Outcome::Audit(reason),
            Self::Tunnel => Outcome::Tunnel,
        }
    }
}

/// Headers that concern one connection only (RFC 9110, section 7.6.1), and the proxy's own.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "expect",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
];
/// Headers by which some servers take another method, or another path, than the one that was judged: the latter of IIS,
/// Symfony and Zend.
const OVERRIDES: [&str; 5] =
    ["x-http-method", "x-http-method-override", "x-method-override", "x-original-url", "x-rewrite-url"];

/// Refuses headers that are not forwarded in any form; of methods and paths, [`crate::policy::authorize`] decides.
pub(super) fn check(request: &Request<Asked>) -> Result<(), Reason> {
    if request.headers().contains_key(header::UPGRADE) && !websocket::is_handshake(request) {
        return Err(Reason::BadRequest("of protocol upgrades only WebSockets are forwarded, without a body"));
    }
    if OVERRIDES.iter().any(|name| request.headers().contains_key(*name)) {
        return Err(Reason::BadRequest("headers that override the method or the path are not forwarded"));
    }
    Ok(())
}

/// Sends a request on and gives its answer.
///
/// # Errors
/// It holds what must not leave, cannot be looked at, or its destination cannot be reached.
pub(super) async fn forward(
    egress: &Arc<Egress>,
    state: &State,
    intent: &Arc<Intent>,
    scheme: &str,
    request: Request<Asked>,
) -> Result<Response<Body>, Reason> {
    let slot = slot(egress).await?;
    if request.headers().contains_key(header::UPGRADE) {
        return websocket::forward(egress, state, intent, scheme, request, slot).await;
    }
    let scanner = state.scanner(egress, intent);
    let (mut head, body) = request.into_parts();
    join_cookies(&mut head.headers);
    let path = intent.path.clone().unwrap_or_else(|| "/".to_owned());
    body::check_head(&egress.load, &scanner, &head, &path).await?;
    let trailers = head.headers.get(header::TE).is_some_and(|value| value == "trailers");
    strip(&mut head.headers);
    if trailers {
        // gRPC asks for them, end to end.
        head.headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    let looks = state.response_scanner(egress, intent);
    if looks.is_some() {
        // What is looked at comes as it is.
        head.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    let verdict = Verdict::default();
    let bare = body.is_end_stream();
    let body = body::admit(egress, &scanner, &head.headers, body, &verdict).await?;
    egress.check_again(state, intent)?;
    frame(&mut head, &body, bare);
    aim(&mut head, intent, scheme)?;
    if scheme == "http"
        && let Some(via) = state.connector.via(&intent.host, intent.port)
        && let Some(value) = &via.authorization
    {
        head.headers.insert(header::PROXY_AUTHORIZATION, value.clone());
    }
    let mut request = Request::from_parts(head, body);
    let interim = Interim::watch(&mut request);
    let answer = tokio::select! {
        answer = answered(egress, state.client.request(request)) => answer,
        () = interim.too_many() => return Err(Interim::reason(&intent.host)),
    };
    let answer = answer.map_err(|error| verdict.reason().unwrap_or_else(|| unreachable(&intent.host, &error)))?;
    verdict.answered(egress, intent);
    let (mut head, body) = answer.into_parts();
    strip(&mut head.headers);
    let body = body::answer(egress, looks.as_ref(), &head.headers, body, intent)?;
    Ok(egress.answers.track(Arc::downgrade(egress), intent, Response::from_parts(head, body), slot))
}

/// A request's place.
async fn slot(egress: &Arc<Egress>) -> Result<Slot, Reason> {
    let _waiting = wait(egress, For::Place);
    egress.load.slot().await
}

/// What a destination says to a request.
async fn answered<T>(egress: &Arc<Egress>, awaited: impl Future<Output = T>) -> T {
    let _waiting = wait(egress, For::Destination);
    awaited.await
}

/// Notes that a request waits for something that unread answers may be in the way of. One task looks after all of them: a
/// timer for each request would wake a thread for each.
fn wait(egress: &Arc<Egress>, what: For) -> Waiting<'_> {
    egress.answers.wait(what, || drop(tokio::spawn(watch(Arc::downgrade(egress), egress.load.times.unread))))
}

async fn watch(egress: Weak<Egress>, long: Duration) {
    loop {
        tokio::time::sleep(long / 8).await;
        let Some(egress) = egress.upgrade() else { return };
        for (client, intent) in egress.answers.make_way(long) {
            if let Some(client) = client.upgrade() {
                client.decided(Some(&intent), Outcome::Refuse(&Reason::Unread));
            }
        }
    }
}

/// Interim answers (RFC 9110, section 15.2) to one request.
const MAX_INTERIM: u32 = 100;

/// Counts the interim answers to a request, of which a destination could send without end.
pub(super) struct Interim(Arc<(AtomicU32, Notify)>);

impl Interim {
    pub(super) fn watch<B>(request: &mut Request<B>) -> Self {
        let counted: Arc<(AtomicU32, Notify)> = Arc::default();
        let count = counted.clone();
        hyper::ext::on_informational(request, move |_| {
            if count.0.fetch_add(1, Ordering::Relaxed) == MAX_INTERIM {
                count.1.notify_one();
            }
        });
        Self(counted)
    }

    /// Once there are more than anybody needs.
    pub(super) async fn too_many(&self) {
        self.0.1.notified().await;
    }

    pub(super) fn reason(host: &Host) -> Reason {
        Reason::Unreachable(
            host.clone(),
            format!("it sends more than {MAX_INTERIM} interim answers (1xx) to a request"),
        )
    }
}

/// Joins what HTTP/2 has in several headers, as HTTP/1.1 has it (RFC 9113, section 8.2.3): servers take one of them, and not
/// all the same one.
pub(super) fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(header::COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    // What was made of values is one.
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(header::COOKIE, joined);
    }
}

/// Sets a request's framing by what is sent after it, and by nothing that the client wrote: a length that is known, or
/// chunks, whatever the method. `bare` is whether it came without a body.
fn frame(head: &mut http::request::Parts, body: &Body, bare: bool) {
    let said = head.headers.remove(header::CONTENT_LENGTH).is_some();
    match body.size_hint().exact() {
        Some(0) if bare && !said => {}
        Some(length) => drop(head.headers.insert(header::CONTENT_LENGTH, length.into())),
        None => drop(head.headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"))),
    }
}

/// Sets a request's destination: what was judged, in its one form, and nothing that the client wrote.
pub(super) fn aim(head: &mut http::request::Parts, intent: &Intent, scheme: &str) -> Result<(), Reason> {
    let authority = authority(&intent.host, intent.port, scheme);
    let path = intent.path.clone().unwrap_or_else(|| "/".to_owned());
    // The client writes one for HTTP/1; in HTTP/2 it is `:authority`, and servers refuse both.
    head.headers.remove(header::HOST);
    let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query(path).build();
    head.uri = uri.map_err(|_| Reason::BadRequest("the path cannot be read"))?;
    head.version = hyper::Version::HTTP_11;
    head.extensions = http::Extensions::new();
    Ok(())
}

/// Our own reason where there is one among the causes; else the innermost in words.
pub(super) fn unreachable(host: &Host, error: &hyper_util::client::legacy::Error) -> Reason {
    let mut cause: &dyn Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
        if let Some(reason) = cause.downcast_ref::<Reason>() {
            return reason.clone();
        }
    }
    Reason::Unreachable(host.clone(), cause.to_string())
}

fn authority(host: &Host, port: u16, scheme: &str) -> String {
    let host = match host {
        Host::V6(address) => format!("[{address}]"),
        other => other.to_string(),
    };
    let default = if scheme == "https" { 443 } else { 80 };
    if port == default { host } else { format!("{host}:{port}") }
}

/// Removes what concerns one connection only, also what the Connection header names.
pub(super) fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        // A sender may not use Connection to take framing or the destination away.
        .filter(|name| ![header::HOST, header::CONTENT_LENGTH, header::TRANSFER_ENCODING].contains(name))
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    // Framing is that of each connection.
    headers.remove(header::TRANSFER_ENCODING);
}

/// What egress itself answers as the canary.
pub(super) fn canary() -> Response<Body> {
    Response::new(full("{\"canary\":true}\n".into()))
}
