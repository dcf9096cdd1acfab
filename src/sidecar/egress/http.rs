//! The HTTP/1.1 adapter: CONNECT and absolute-form requests become intents; refusals become answers.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri, http};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpStream, UnixStream};

use super::{Egress, ROLE};
use crate::policy::{Decision, Destination, Form, Host, Intent, Reason, authorize};
use crate::sidecar::audit;

/// Largest request head, in bytes.
const MAX_HEAD: usize = 64 << 10;
/// How long a request head may take.
const HEAD: Duration = Duration::from_secs(30);

/// Headers that concern one connection only (RFC 9110, section 7.6.1), and the proxy's own.
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
];

type Body = BoxBody<Bytes, hyper::Error>;
type Answer = Result<Response<Body>, Reason>;

/// Serves one connection from the agent.
pub(super) async fn serve(stream: UnixStream, egress: Arc<Egress>) {
    let service = service_fn(move |request| {
        let egress = egress.clone();
        async move { Ok::<_, Infallible>(answer(&egress, request).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(MAX_HEAD)
        // A client may have said all it has to say and still wants the answer.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    // What ends a connection early concerns its peer only; decisions were told when they were made.
    let _ = served.await;
}

async fn answer(egress: &Egress, request: Request<Incoming>) -> Response<Body> {
    let intent = intent(&request);
    let answered = match &intent {
        Ok(intent) => decide(egress, intent, request).await,
        Err(reason) => Err(reason.clone()),
    };
    audit::decided(ROLE, intent.as_ref().ok(), answered.as_ref().map(drop));
    answered.unwrap_or_else(|reason| refusal(&reason))
}

/// Reads what a request wants; the same for every form.
fn intent(request: &Request<Incoming>) -> Result<Intent, Reason> {
    let form = if request.method() == Method::CONNECT { Form::Connect } else { Form::Absolute };
    let (host, port) = target(form, request.uri())?;
    check_host_header(request.headers(), form, &host, port)?;
    if request.method() == Method::TRACE {
        return Err(Reason::BadRequest("TRACE is not forwarded"));
    }
    if request.headers().contains_key(header::UPGRADE) {
        return Err(Reason::BadRequest("protocol upgrades are not forwarded outside CONNECT"));
    }
    Ok(Intent { form, method: request.method().to_string(), host, port })
}

fn target(form: Form, uri: &Uri) -> Result<(Host, u16), Reason> {
    let authority = uri.authority().ok_or(Reason::BadRequest("the request target names no host"))?;
    if authority.as_str().contains('@') {
        return Err(Reason::BadRequest("the request target holds user information"));
    }
    let host = Host::parse(authority.host())?;
    let port = match (form, uri.scheme_str(), authority.port_u16()) {
        (Form::Connect, None, Some(port)) => port,
        (Form::Connect, ..) => return Err(Reason::BadRequest("CONNECT takes host:port")),
        (Form::Absolute, Some("http"), port) => port.unwrap_or(80),
        (Form::Absolute, ..) => return Err(Reason::BadRequest("only http:// URLs are taken outside CONNECT")),
    };
    if port == 0 { Err(Reason::BadRequest("the port is 0")) } else { Ok((host, port)) }
}

/// Promise 4: request target and Host agree, and there is at most one Host.
fn check_host_header(headers: &HeaderMap, form: Form, host: &Host, port: u16) -> Result<(), Reason> {
    let mut values = headers.get_all(header::HOST).iter();
    let (first, second) = (values.next(), values.next());
    if second.is_some() {
        return Err(Reason::BadRequest("there are two Host headers"));
    }
    let Some(value) = first else { return Ok(()) };
    let text = value.to_str().map_err(|_| Reason::BadRequest("the Host header is not ASCII"))?;
    let mismatch = || Reason::HostMismatch(host.clone(), text.chars().take(100).collect());
    let authority: http::uri::Authority = text.parse().map_err(|_| mismatch())?;
    let named = Host::parse(authority.host()).map_err(|_| mismatch())?;
    let default = if form == Form::Connect { port } else { 80 };
    if named == *host && authority.port_u16().unwrap_or(default) == port { Ok(()) } else { Err(mismatch()) }
}

async fn decide(egress: &Egress, intent: &Intent, request: Request<Incoming>) -> Answer {
    let destination: Destination = match authorize(&egress.policy, intent) {
        Decision::Allow(destination) => destination,
        Decision::Refuse(reason) => return Err(reason),
    };
    let Some(pinned) = egress.connector.pin(&intent.host, destination).await? else { return Ok(canary()) };
    let stream = pinned.dial().await?;
    match intent.form {
        Form::Connect => {
            tokio::spawn(tunnel(request, stream));
            Ok(Response::new(empty()))
        }
        Form::Absolute => forward(intent, request, stream).await,
    }
}

fn canary() -> Response<Body> {
    Response::new(full("{\"canary\":true}\n".into()))
}

/// Carries bytes both ways until both sides have ended.
async fn tunnel(request: Request<Incoming>, mut upstream: TcpStream) {
    if let Ok(client) = hyper::upgrade::on(request).await {
        let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut upstream).await;
    }
}

async fn forward(intent: &Intent, request: Request<Incoming>, stream: TcpStream) -> Answer {
    let unreachable = |error: hyper::Error| Reason::Unreachable(intent.host.clone(), error.to_string());
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(unreachable)?;
    tokio::spawn(connection);
    let (mut head, body) = request.into_parts();
    strip(&mut head.headers);
    let host = if intent.port == 80 { intent.host.to_string() } else { format!("{}:{}", intent.host, intent.port) };
    let host = HeaderValue::try_from(host).map_err(|_| Reason::BadRequest("the host is no header value"))?;
    head.headers.insert(header::HOST, host);
    let path = head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
    head.uri = path.parse().map_err(|_| Reason::BadRequest("the path cannot be read"))?;
    head.version = hyper::Version::HTTP_11;
    let answer = sender.send_request(Request::from_parts(head, body)).await.map_err(unreachable)?;
    let (mut head, body) = answer.into_parts();
    strip(&mut head.headers);
    Ok(Response::from_parts(head, body.boxed()))
}

/// Removes what concerns one connection only, also what the Connection header names.
fn strip(headers: &mut HeaderMap) {
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
}

/// A refusal: its status, and one line of JSON.
fn refusal(reason: &Reason) -> Response<Body> {
    let line = serde_json::json!({
        "error": "refused by bottler",
        "code": reason.code(),
        "reason": reason.to_string(),
        "hint": reason.hint(),
    });
    let mut response = Response::new(full(format!("{line}\n")));
    *response.status_mut() = StatusCode::from_u16(reason.status()).unwrap_or(StatusCode::FORBIDDEN);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed()
}

fn full(text: String) -> Body {
    Full::from(text).map_err(|never| match never {}).boxed()
}
