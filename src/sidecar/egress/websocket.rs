//! `WebSockets` (RFC 6455): the handshake is a request like any other; then every message that the agent sends is looked
//! at.
//! Extensions are not offered on, so that nothing is compressed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http_body_util::Empty;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tower_service::Service;

use super::body::{self, check_head};
use super::drain::Asked;
use super::forward::{self, Body};
use super::serve::Place;
use super::state::State;
use super::stats::Counters;
use super::{Egress, Outcome};
use crate::policy::{Intent, Reason};
use crate::scan::{Finding, Scanner, Seam};

/// Largest message, in bytes: it is looked at whole.
const MAX_MESSAGE: usize = 16 << 20;

const EXTENSIONS: HeaderName = header::SEC_WEBSOCKET_EXTENSIONS;

/// Whether a request asks for a WebSocket, and for nothing else: it has no body (RFC 9110, section 7.8; RFC 6455, section
/// 4.1), and no framing of one, which a destination that does not grant it would go by.
pub(super) fn is_handshake(request: &Request<Asked>) -> bool {
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

/// Forwards a handshake; where it is granted, what follows it too.
///
/// # Errors
/// It holds what must not leave, or its destination cannot be reached or does what was not asked for.
pub(super) async fn forward(
    egress: &Arc<Egress>,
    state: &State,
    intent: &Intent,
    scheme: &str,
    mut request: Request<Asked>,
) -> Result<Response<Body>, Reason> {
    let client = hyper::upgrade::on(&mut request);
    let place = request.extensions_mut().remove::<Place>();
    let scanner = state.scanner(egress, intent);
    let (mut head, _) = request.into_parts();
    head.headers.remove(EXTENSIONS);
    head.headers.remove(header::CONTENT_LENGTH);
    forward::join_cookies(&mut head.headers);
    check_head(&scanner, &head, intent.path.as_deref().unwrap_or("/"))?;
    forward::strip(&mut head.headers);
    upgrade_headers(&mut head.headers);
    forward::aim(&mut head, intent, scheme)?;
    let mut answer = ask(state, intent, scheme, head).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let (mut head, body) = answer.into_parts();
        forward::strip(&mut head.headers);
        let answers = state.response_scanner(egress, intent);
        let body = body::answer(egress, answers.as_ref(), &head.headers, body, intent)?;
        return Ok(Response::from_parts(head, body));
    }
    let websocket =
        answer.headers().get(header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    if !websocket || answer.headers().contains_key(EXTENSIONS) {
        return Err(Reason::BadRequest("the destination answers the handshake with what was not offered"));
    }
    let upstream = hyper::upgrade::on(&mut answer);
    let (mut head, _) = answer.into_parts();
    forward::strip(&mut head.headers);
    upgrade_headers(&mut head.headers);
    let (egress, intent) = (egress.clone(), intent.clone());
    tokio::spawn(async move {
        if let (Ok(client), Ok(upstream)) = tokio::join!(client, upstream)
            && let Err(finding) = relay(client, upstream, &scanner, &egress.counters).await
        {
            egress.decided(Some(&intent), Outcome::Refuse(&Reason::SecretFound(finding, "message")));
        }
        drop(place);
    });
    Ok(Response::from_parts(head, forward::empty()))
}

/// Asks on a connection of its own, which ends with the answer unless that grants the upgrade: no other request is ever on
/// it, so that none can be hidden behind a handshake.
async fn ask(state: &State, intent: &Intent, scheme: &str, mut head: Parts) -> Result<Response<Incoming>, Reason> {
    let upstream = state.connector.http1().call(head.uri.clone()).await?;
    let authority = head.uri.authority().map(Authority::as_str).unwrap_or_default();
    let host = HeaderValue::from_str(authority).map_err(|_| Reason::BadRequest("the host cannot be written"))?;
    head.headers.insert(header::HOST, host);
    if scheme == "http"
        && let Some(via) = state.connector.via(&intent.host, intent.port)
    {
        // To a proxy the whole URL is said, and who asks.
        if let Some(value) = &via.authorization {
            head.headers.insert(header::PROXY_AUTHORIZATION, value.clone());
        }
    } else {
        head.uri = head.uri.path_and_query().map_or_else(|| Uri::from_static("/"), |path| Uri::from(path.clone()));
    }
    let unreachable = |error: hyper::Error| Reason::Unreachable(intent.host.clone(), error.to_string());
    let (mut sender, connection) = http1::handshake(upstream).await.map_err(unreachable)?;
    tokio::spawn(connection.with_upgrades());
    sender.send_request(Request::from_parts(head, Empty::<Bytes>::new())).await.map_err(unreachable)
}

fn upgrade_headers(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

/// Carries messages both ways until one side ends, or one must not leave.
async fn relay(client: Upgraded, upstream: Upgraded, scanner: &Scanner, counters: &Counters) -> Result<(), Finding> {
    let config = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
    let client = WebSocketStream::from_raw_socket(TokioIo::new(client), Role::Server, Some(config)).await;
    let upstream = WebSocketStream::from_raw_socket(TokioIo::new(upstream), Role::Client, Some(config)).await;
    let (mut to_client, mut from_client) = client.split();
    let (mut to_upstream, mut from_upstream) = upstream.split();
    let out = async {
        let mut seam = Seam::default();
        while let Some(Ok(message)) = from_client.next().await {
            if let Some(finding) = seam.look(scanner, &payload(&message)) {
                return Err(finding);
            }
            counters.request_bytes.fetch_add(message.len() as u64, Ordering::Relaxed);
            // Pings are answered on each side by itself; they are looked at, for they say what an agent tries.
            let control = message.is_ping() || message.is_pong();
            if !control && to_upstream.send(message).await.is_err() {
                break;
            }
        }
        let _ = to_upstream.close().await;
        Ok(())
    };
    let back = async {
        while let Some(Ok(message)) = from_upstream.next().await {
            counters.response_bytes.fetch_add(message.len() as u64, Ordering::Relaxed);
            let control = message.is_ping() || message.is_pong();
            if !control && to_client.send(message).await.is_err() {
                break;
            }
        }
    };
    let ended = tokio::select! {
        ended = out => ended,
        () = back => Ok(()),
    };
    let frame = ended.as_ref().err().map(|_| CloseFrame {
        code: CloseCode::Policy,
        reason: Utf8Bytes::from_static("refused by bottler: secret_found"),
    });
    let _ = to_client.send(Message::Close(frame)).await;
    let _ = to_client.close().await;
    ended
}

fn payload(message: &Message) -> Bytes {
    match message {
        Message::Close(Some(frame)) => Bytes::copy_from_slice(frame.reason.as_bytes()),
        Message::Close(None) => Bytes::new(),
        other => other.clone().into_data(),
    }
}
