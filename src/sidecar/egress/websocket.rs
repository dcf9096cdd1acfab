//! `WebSockets` (RFC 6455): the handshake is a request like any other; then every message that the agent sends is looked
//! at.
//! Extensions are not offered on, so that nothing is compressed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http_body_util::BodyExt;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::body::check_head;
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

/// Whether a request asks for a WebSocket, and for nothing else.
pub(super) fn is_handshake(request: &Request<Asked>) -> bool {
    let is = |name: HeaderName, word: &str| {
        let mut values = request.headers().get_all(name).iter();
        let first = values.next().and_then(|value| value.to_str().ok());
        first.is_some_and(|value| value.eq_ignore_ascii_case(word)) && values.next().is_none()
    };
    request.method() == Method::GET
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
    check_head(&scanner, &head, intent.path.as_deref().unwrap_or("/"))?;
    forward::strip(&mut head.headers);
    upgrade_headers(&mut head.headers);
    forward::aim(&mut head, intent, scheme)?;
    let answer = state.client_http1.request(Request::from_parts(head, forward::empty())).await;
    let mut answer = answer.map_err(|error| forward::unreachable(&intent.host, &error))?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let (mut head, body) = answer.into_parts();
        forward::strip(&mut head.headers);
        return Ok(Response::from_parts(head, body.map_err(Into::into).boxed()));
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
