//! `WebSockets` (RFC 6455). The handshake is inspected like any request; afterwards every message of the agent is
//! scanned, and masked where the policy says so. Extensions are not offered to the destination, so nothing is compressed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;
use hyper::upgrade::Upgraded;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tower_service::Service;

use super::bodies::{Body, empty};
use super::body::{self, check_head};
use super::capacity::{RequestPermit, hold};
use super::connection_permit::ConnectionPermit;
use super::drain::RequestBody;
use super::frames::{self, FrameHeader, Opcode};
use super::headers::{aim, join_cookies};
use super::inspect::{mask_message, scan_message};
use super::interim::Interim;
use super::meter::Pass;
use super::snapshot::Snapshot;
use super::stats::Counters;
use super::{Egress, inject};
use crate::credential::{RedactedStream, Redactor};
use crate::policy::{Intent, Reason};
use crate::scan::{Carrier, DecodeError, Overlap, Scanner};
use crate::sidecar::hop_by_hop::strip;

/// Maximum size of a message, in bytes: it is scanned as a whole.
pub(super) const MAX_MESSAGE: usize = 16 << 20;

/// Buffer size towards the agent, in bytes.
const BUFFER: usize = 16 << 10;
/// Close codes (section 7.4.1).
const VIOLATION: u16 = 1002;
const REFUSED: u16 = 1008;

const EXTENSIONS: HeaderName = header::SEC_WEBSOCKET_EXTENSIONS;

/// Forwards a handshake, and relays the connection if it is granted.
///
/// # Errors
/// The handshake contains a secret, the destination cannot be reached, or it grants what was not offered.
pub(super) async fn forward(
    egress: &Arc<Egress>,
    snapshot: &Snapshot,
    intent: &Arc<Intent>,
    scheme: &str,
    mut request: Request<RequestBody>,
    slot: RequestPermit,
) -> Result<Response<Body>, Reason> {
    let client = hyper::upgrade::on(&mut request);
    let place = request.extensions_mut().remove::<ConnectionPermit>();
    let scanner = egress.scanner(snapshot, intent);
    let (mut head, _) = request.into_parts();
    head.headers.remove(EXTENSIONS);
    head.headers.remove(header::CONTENT_LENGTH);
    join_cookies(&mut head.headers);
    let injection = inject::judge(egress, snapshot, intent, &mut head)?;
    let scanner = injection.scanner(scanner);
    check_head(&egress.capacity, &scanner, &head, intent.path.as_deref().unwrap_or("/")).await?;
    strip(&mut head.headers);
    upgrade_headers(&mut head.headers);
    injection.ask_readable(&mut head.headers);
    aim(&mut head, intent, injection.path(intent), scheme)?;
    injection.apply(&mut head.headers)?;
    injection.sign(&mut head, Some(Sha256::digest([]).into()))?;
    let pass = injection.admit(egress).await?;
    egress.recheck(snapshot, intent)?;
    let answer = ask(snapshot, intent, scheme, head).await;
    let mut answer = answer.inspect_err(|_| injection.failed(egress, intent))?;
    injection.answered(egress, &mut answer);
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let (mut head, body) = answer.into_parts();
        injection.redact_head(egress, intent, &mut head)?;
        strip(&mut head.headers);
        let body = injection.body(egress, intent, head.status, body);
        let answers = egress.response_scanner(snapshot, intent);
        let mut body = body::inspect_response(egress, answers.as_ref(), &head.headers, body, intent)?;
        if let Some(pass) = pass {
            body = hold(body, pass);
        }
        return Ok(egress.responses.track(Arc::downgrade(egress), intent, Response::from_parts(head, body), slot));
    }
    let websocket =
        answer.headers().get(header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    if !websocket || answer.headers().contains_key(EXTENSIONS) {
        return Err(Reason::BadRequest("the destination answers the handshake with what was not offered"));
    }
    let upstream = hyper::upgrade::on(&mut answer);
    let (mut head, _) = answer.into_parts();
    injection.redact_head(egress, intent, &mut head)?;
    strip(&mut head.headers);
    upgrade_headers(&mut head.headers);
    let redactor = injection.redactor.clone();
    let (egress, intent, policy) = (egress.clone(), intent.clone(), snapshot.policy.clone());
    crate::task::spawn(async move {
        if let (Ok(client), Ok(upstream)) = tokio::join!(client, upstream) {
            let forbidden = egress.until_forbidden(&policy, &intent);
            relay(client, upstream, (scanner, redactor), pass.as_ref(), (&egress, &intent), forbidden).await;
        }
        drop((place, slot, pass));
    });
    Ok(Response::from_parts(head, empty()))
}

/// Sends the handshake on a connection of its own, which carries no other request, so that none can be hidden behind
/// it.
async fn ask(
    snapshot: &Snapshot,
    intent: &Intent,
    scheme: &str,
    mut head: Parts,
) -> Result<Response<Incoming>, Reason> {
    let upstream = snapshot.connector.http1().call(head.uri.clone()).await?;
    let authority = head.uri.authority().map(Authority::as_str).unwrap_or_default();
    let host = HeaderValue::from_str(authority).map_err(|_| Reason::BadRequest("the host cannot be written"))?;
    head.headers.insert(header::HOST, host);
    if scheme == "http"
        && let Some(via) = snapshot.connector.proxy_for(&intent.host, intent.port)
    {
        // A proxy gets the whole URL, and its credentials.
        if let Some(value) = &via.authorization {
            head.headers.insert(header::PROXY_AUTHORIZATION, value.clone());
        }
    } else {
        head.uri = head.uri.path_and_query().map_or_else(|| Uri::from_static("/"), |path| Uri::from(path.clone()));
    }
    let unreachable = |error: hyper::Error| Reason::Unreachable(intent.host.clone(), error.to_string());
    let (mut sender, connection) = http1::handshake(upstream).await.map_err(unreachable)?;
    crate::task::spawn(connection.with_upgrades());
    let mut request = Request::from_parts(head, Empty::<Bytes>::new());
    let interim = Interim::watch(&mut request);
    tokio::select! {
        answer = sender.send_request(request) => answer.map_err(unreachable),
        () = interim.too_many() => Err(Interim::reason(&intent.host)),
    }
}

fn upgrade_headers(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

/// Relays messages until one side ends, a message is refused, or the policy forbids the connection. A refusal is recorded, and the
/// client reads its id in the close frame, of which clients show the text.
async fn relay(
    client: Upgraded,
    upstream: Upgraded,
    (scanner, redactor): (Arc<Scanner>, Option<Arc<Redactor>>),
    pass: Option<&Pass>,
    (egress, intent): (&Egress, &Intent),
    forbidden: impl Future<Output = Reason>,
) {
    let (mut from_client, mut to_client) = tokio::io::split(TokioIo::new(client));
    let (mut from_upstream, mut to_upstream) = tokio::io::split(TokioIo::new(upstream));
    let between = AtomicBool::new(true);
    let ended = {
        let out = send(&mut from_client, &mut to_upstream, &scanner, pass, egress);
        let back = async {
            match redactor {
                None => receive(&mut from_upstream, &mut to_client, &between, &egress.counters).await,
                Some(redactor) => {
                    receive_redacted(&mut from_upstream, &mut to_client, &redactor, &between, &egress.counters).await
                }
            }
        };
        tokio::select! {
            sent = out => sent,
            _ = back => Ok(()),
            reason = forbidden => Err(reason),
        }
    };
    let _ = to_upstream.shutdown().await;
    if let Err(reason) = &ended {
        let refused = egress.refuse(Some(intent), reason);
        // Within a frame of the destination, no close frame can be sent.
        if between.load(Ordering::Relaxed) {
            let code = if matches!(reason, Reason::BadRequest(_)) { VIOLATION } else { REFUSED };
            let why = closing(reason, &refused.id, egress.asks());
            let _ = to_client
                .write_all(&frames::frame(Opcode::Close, &[&code.to_be_bytes()[..], why.as_bytes()].concat(), None))
                .await;
        }
    }
    let _ = to_client.shutdown().await;
}

/// The text of a close frame, of at most 123 bytes (RFC 6455, section 5.5).
fn closing(reason: &Reason, id: &str, asks: bool) -> String {
    let next = if asks { "; call explain_denial with it" } else { "" };
    format!("refused by bottler: {}; refusal {id}{next}", reason.code())
}

/// Relays the agent's messages. A message is scanned as a whole, together with the end of the preceding ones, and sent
/// as one frame. Control frames may stand between its frames.
async fn send<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    from: &mut R,
    to: &mut W,
    scanner: &Arc<Scanner>,
    pass: Option<&Pass>,
    egress: &Egress,
) -> Result<(), Reason> {
    let (mut messages, mut controls) = (Overlap::messages(), Overlap::messages());
    let (mut opened, mut content) = (None, BytesMut::new());
    let (mut memory, stall) = (egress.capacity.memory(), egress.capacity.times.stall);
    loop {
        let head = frames::head(from, true);
        let head = if opened.is_some() { timeout(stall, head).await.map_err(|_| Reason::Stalled)? } else { head.await };
        // How a connection ends concerns its two ends only.
        let Ok(Some(head)) = head else { return Ok(()) };
        let FrameHeader { fin, opcode, length, mask, .. } = head.map_err(Reason::BadRequest)?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if opcode.is_control() {
            let mut control = vec![0; length];
            if read(from, &mut control, stall).await?.is_none() {
                return Ok(());
            }
            frames::mask(&mut control, mask.unwrap_or_default());
            scan_message(egress, scanner, &mut controls, control.clone().into(), "control frame").await?;
            if to.write_all(&frames::frame(opcode, &control, Some(key()?))).await.is_err() {
                return Ok(());
            }
            continue;
        }
        match (opcode, opened) {
            (Opcode::Continuation, None) => {
                return Err(Reason::BadRequest("a message of a WebSocket begins in its middle"));
            }
            (Opcode::Continuation, Some(_)) => {}
            (_, Some(_)) => return Err(Reason::BadRequest("a message of a WebSocket begins within another")),
            (opcode, None) => opened = Some(opcode),
        }
        let before = content.len();
        if length > MAX_MESSAGE - before {
            return Err(Reason::NotDecoded(DecodeError::TooLarge));
        }
        memory.reserve(before + length).await?;
        content.resize(before + length, 0);
        if read(from, &mut content[before..], stall).await?.is_none() {
            return Ok(());
        }
        frames::mask(&mut content[before..], mask.unwrap_or_default());
        if let (true, Some(opcode)) = (fin, opened) {
            let message = content.split().freeze();
            let message = mask_message(egress, scanner, &mut messages, message, Carrier::Text, "message").await?;
            if let Some(pass) = pass {
                pass.message(&egress.snapshot().limits)?;
            }
            egress.counters.request_bytes.fetch_add(message.len() as u64, Ordering::Relaxed);
            if to.write_all(&frames::frame(opcode, &message, Some(key()?))).await.is_err() {
                return Ok(());
            }
            (opened, content) = (None, BytesMut::new());
            memory.shrink(0);
        }
        let _ = to.flush().await;
    }
}

/// Reads the payload of a frame, with a time limit for the memory that it occupies.
async fn read<R: AsyncRead + Unpin>(
    from: &mut R,
    mut content: &mut [u8],
    stall: Duration,
) -> Result<Option<()>, Reason> {
    while !content.is_empty() {
        match timeout(stall, from.read(content)).await.map_err(|_| Reason::Stalled)? {
            Ok(length @ 1..) => content = &mut content[length..],
            _ => return Ok(None),
        }
    }
    Ok(Some(()))
}

/// An unpredictable masking key (section 5.3).
fn key() -> Result<[u8; 4], Reason> {
    let mut key = [0; 4];
    getrandom::fill(&mut key).map_err(|_| Reason::BadRequest("there is no randomness for a mask"))?;
    Ok(key)
}

/// Relays the destination's frames, and tracks whether one is incomplete.
async fn receive<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    from: &mut R,
    to: &mut W,
    between: &AtomicBool,
    counters: &Counters,
) -> std::io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    while let Some(Ok(head)) = frames::head(from, false).await? {
        between.store(false, Ordering::Relaxed);
        to.write_all(&head.wire).await?;
        let mut left = head.length;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let length = from.read(&mut buffer[..most]).await?;
            if length == 0 {
                return Ok(());
            }
            to.write_all(&buffer[..length]).await?;
            counters.response_bytes.fetch_add(length as u64, Ordering::Relaxed);
            left -= length as u64;
        }
        to.flush().await?;
        between.store(true, Ordering::Relaxed);
    }
    Ok(())
}

/// Relays the destination's messages without the values of credentials. A message may leave in other frames than it came
/// in; what a frame ends within is held back until the message continues, but not beyond its end.
async fn receive_redacted<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    from: &mut R,
    to: &mut W,
    redactor: &Arc<Redactor>,
    between: &AtomicBool,
    counters: &Counters,
) -> std::io::Result<()> {
    let mut stream = RedactedStream::new(redactor.clone());
    let mut buffer = vec![0; BUFFER];
    // Whether the message's first frame has left.
    let mut begun = false;
    while let Some(Ok(head)) = frames::head(from, false).await? {
        let mut left = head.length;
        loop {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            from.read_exact(&mut buffer[..most]).await?;
            left -= most as u64;
            counters.response_bytes.fetch_add(most as u64, Ordering::Relaxed);
            let content = &buffer[..most];
            let (opcode, last, content) = if head.opcode.is_control() {
                (head.opcode, true, redactor.text(content).unwrap_or_else(|| content.to_vec()))
            } else {
                let last = head.fin && left == 0;
                let mut shown = stream.push(&Bytes::copy_from_slice(content)).to_vec();
                if last {
                    shown.extend_from_slice(&stream.boundary());
                }
                (if begun { Opcode::Continuation } else { head.opcode }, last, shown)
            };
            if last || !content.is_empty() {
                between.store(false, Ordering::Relaxed);
                to.write_all(&frames::part(opcode, last, &content, None)).await?;
                between.store(true, Ordering::Relaxed);
                if !head.opcode.is_control() {
                    begun = !last;
                }
            }
            if left == 0 {
                break;
            }
        }
        to.flush().await?;
    }
    Ok(())
}
