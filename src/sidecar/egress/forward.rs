//! Forwards an authorized request: inspects it, rebuilds its head, sends it, and streams the response back.

use std::error::Error;
use std::sync::{Arc, Weak};
use std::time::Duration;

use http_body_util::{BodyExt, Collected, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Request, Response};

use super::bodies::{Body, full};
use super::body::{self, Inspected, Wanted};
use super::capacity::{RequestPermit, hold};
use super::drain::RequestBody;
use super::headers::{aim, join_cookies};
use super::inject::Injection;
use super::inspect::BodyRefusal;
use super::interim::Interim;
use super::pipelock::refusal::{MAX_REFUSAL, may_be_refusal, refusal};
use super::renew::Retry;
use super::responses::{WaitFor, Waiting};
use super::snapshot::Snapshot;
use super::{Egress, LoggedDecision, inject, websocket};
use crate::net::Host;
use crate::policy::{Intent, Reason};
use crate::sidecar::hop_by_hop::strip;

/// The time limit for the text of a refusal.
const REFUSAL: Duration = Duration::from_secs(10);

/// Forwards a request and returns its response.
///
/// # Errors
/// The request contains a secret or cannot be inspected, or the destination cannot be reached.
pub(super) async fn forward(
    egress: &Arc<Egress>,
    snapshot: &Snapshot,
    intent: &Arc<Intent>,
    scheme: &str,
    request: Request<RequestBody>,
) -> Result<Response<Body>, Reason> {
    let slot = slot(egress).await?;
    if request.headers().contains_key(header::UPGRADE) {
        return websocket::forward(egress, snapshot, intent, scheme, request, slot).await;
    }
    let scanner = egress.scanner(snapshot, intent);
    let (mut head, body) = request.into_parts();
    join_cookies(&mut head.headers);
    let mut injection = inject::judge(egress, snapshot, intent, &mut head)?;
    let scanner = injection.scanner(scanner);
    body::check_head(&egress.capacity, &scanner, &head, intent.path.as_deref().unwrap_or("/")).await?;
    let trailers = head.headers.get(header::TE).is_some_and(|value| value == "trailers");
    strip(&mut head.headers);
    if trailers {
        // gRPC requires them end to end.
        head.headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    let response_scanner = egress.response_scanner(snapshot, intent);
    if response_scanner.is_some() || snapshot.connector.inspects(&intent.host, intent.port) {
        // Responses are inspected without an encoding.
        head.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    injection.ask_readable(&mut head.headers);
    let late_refusal = BodyRefusal::default();
    let bare = body.is_end_stream();
    let keep = !injection.used().is_empty();
    let wanted = Wanted { again: keep, digest: injection.needs_digest(&head.headers) };
    let inspected = body::inspect_request(egress, &scanner, &head.headers, body, &late_refusal, wanted).await?;
    let Inspected { body, whole, digest } = inspected;
    let pass = answered(egress, injection.admit(egress)).await?;
    egress.recheck(snapshot, intent)?;
    frame(&mut head, &body, bare);
    let retry = Retry::of(&injection, &head, whole);
    let sending = Sending { egress, snapshot, intent, scheme, refusal: &late_refusal, digest };
    let mut answer = sending.send(head, body, &injection).await?;
    if let Some(retry) = retry
        && let Some((newer, head, body)) = retry.again(egress, snapshot, intent, &injection, &answer).await?
    {
        injection = newer;
        answer = sending.send(head, body, &injection).await?;
    }
    late_refusal.answered(egress, intent);
    let may_be_refusal =
        snapshot.connector.inspects(&intent.host, intent.port) && may_be_refusal(answer.status(), answer.headers());
    if may_be_refusal {
        return refused_behind(answer).await.map(|answer| {
            let (mut head, body) = answer.into_parts();
            strip(&mut head.headers);
            egress.responses.track(Arc::downgrade(egress), intent, Response::from_parts(head, body), slot)
        });
    }
    injection.answered(egress, &mut answer);
    let (mut head, body) = answer.into_parts();
    injection.redact_head(egress, intent, &mut head)?;
    strip(&mut head.headers);
    let body = injection.body(egress, intent, head.status, body);
    let mut body = body::inspect_response(egress, response_scanner.as_ref(), &head.headers, body, intent)?;
    if let Some(pass) = pass {
        body = hold(body, pass);
    }
    Ok(egress.responses.track(Arc::downgrade(egress), intent, Response::from_parts(head, body), slot))
}

/// Reads a response that may be a refusal of Pipelock's; another's is given back.
async fn refused_behind(answer: Response<Incoming>) -> Result<Response<Body>, Reason> {
    let (head, body) = answer.into_parts();
    let read = tokio::time::timeout(REFUSAL, Limited::new(body, MAX_REFUSAL).collect()).await;
    let text = read.ok().and_then(Result::ok).map(Collected::to_bytes);
    let text = text.ok_or_else(|| Reason::Inspector("it broke off its own response".to_owned()))?;
    match refusal(&text) {
        Some(words) => Err(Reason::Inspector(words)),
        None => Ok(Response::from_parts(head, full(text))),
    }
}

/// What a request is sent with.
struct Sending<'a> {
    egress: &'a Arc<Egress>,
    snapshot: &'a Snapshot,
    intent: &'a Arc<Intent>,
    scheme: &'a str,
    refusal: &'a BodyRefusal,
    /// Of the body, if it is needed and known.
    digest: Option<[u8; 32]>,
}

impl Sending<'_> {
    /// Puts the values in, sends the request, and waits for the response.
    async fn send(&self, mut head: Parts, body: Body, injection: &Injection) -> Result<Response<Incoming>, Reason> {
        let Self { egress, snapshot, intent, scheme, refusal, digest } = *self;
        aim(&mut head, intent, injection.path(intent), scheme)?;
        injection.apply(&mut head.headers)?;
        injection.sign(&mut head, digest)?;
        if scheme == "http"
            && let Some(via) = snapshot.connector.proxy_for(&intent.host, intent.port)
            && let Some(value) = &via.authorization
        {
            head.headers.insert(header::PROXY_AUTHORIZATION, value.clone());
        }
        let mut request = Request::from_parts(head, body);
        let interim = Interim::watch(&mut request);
        let answer = tokio::select! {
            answer = answered(egress, snapshot.client.request(request)) => answer,
            () = interim.too_many() => {
                injection.failed(egress, intent);
                return Err(Interim::reason(&intent.host));
            }
        };
        answer.map_err(|error| {
            injection.failed(egress, intent);
            refusal.reason().unwrap_or_else(|| unreachable(&intent.host, &error))
        })
    }
}

/// Waits for the permit of a request.
pub(super) async fn slot(egress: &Arc<Egress>) -> Result<RequestPermit, Reason> {
    let _waiting = wait(egress, WaitFor::RequestPermit);
    egress.capacity.request_permit().await
}

/// Waits for the destination's response.
pub(super) async fn answered<T>(egress: &Arc<Egress>, awaited: impl Future<Output = T>) -> T {
    let _waiting = wait(egress, WaitFor::Destination);
    awaited.await
}

/// Registers a request that unread responses may block. One task watches all of them: a timer for each request would
/// wake a thread for each.
fn wait(egress: &Arc<Egress>, what: WaitFor) -> Waiting<'_> {
    egress
        .responses
        .wait(what, || drop(crate::task::spawn(watch(Arc::downgrade(egress), egress.capacity.times.unread))))
}

async fn watch(egress: Weak<Egress>, long: Duration) {
    loop {
        tokio::time::sleep(long / 8).await;
        let Some(egress) = egress.upgrade() else { return };
        for (client, intent) in egress.responses.evict_unread(long) {
            if let Some(client) = client.upgrade() {
                client.record(Some(&intent), LoggedDecision::Refuse(&Reason::Unread));
            }
        }
    }
}

/// Sets the framing by the body that is sent, not by the client's headers: a known length, or chunks, whatever the
/// method. `bare` says that the request had no body.
pub(super) fn frame(head: &mut Parts, body: &Body, bare: bool) {
    let declared = head.headers.remove(header::CONTENT_LENGTH).is_some();
    match body.size_hint().exact() {
        Some(0) if bare && !declared => {}
        Some(length) => drop(head.headers.insert(header::CONTENT_LENGTH, length.into())),
        None => drop(head.headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"))),
    }
}

/// The reason of our own among the error's causes; otherwise the innermost cause.
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

/// The response of the canary.
pub(super) fn canary() -> Response<Body> {
    Response::new(full("{\"canary\":true}\n".into()))
}
