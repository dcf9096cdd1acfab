//! The adapter for what the agent says to the proxy: CONNECT and absolute-form requests become intents; refusals become
//! answers. What is inside TLS is the business of [`super::inside`].

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{self, HeaderMap};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, Uri, http};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::UnixStream;

use super::forward::{self, Answer, Body};
use super::{Egress, ROLE, inside};
use crate::policy::{Decision, Destination, Form, Host, Intent, Reason, authorize, canonical};
use crate::sidecar::audit;

/// Largest request head, in bytes.
pub(super) const MAX_HEAD: usize = 64 << 10;
/// How long a request head may take.
pub(super) const HEAD: Duration = Duration::from_secs(30);

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

async fn answer(egress: &Arc<Egress>, request: Request<Incoming>) -> Response<Body> {
    let intent = intent(&request);
    let answered = match &intent {
        Ok(intent) => decide(egress, intent, request).await,
        Err(reason) => Err(reason.clone()),
    };
    audit::decided(ROLE, intent.as_ref().ok(), answered.as_ref().map(drop));
    answered.unwrap_or_else(|reason| forward::refusal(&reason))
}

/// Reads what a request wants; the same for every form.
fn intent(request: &Request<Incoming>) -> Result<Intent, Reason> {
    let form = if request.method() == Method::CONNECT { Form::Connect } else { Form::Absolute };
    let (host, port) = target(form, request.uri())?;
    let default = if form == Form::Connect { port } else { 80 };
    check_host_header(request.headers(), &host, port, default)?;
    let path = match form {
        Form::Connect => None,
        _ => Some(canonical(request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str))?),
    };
    forward::check(request)?;
    Ok(Intent { form, method: request.method().to_string(), host, port, path })
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
        (_, Some("http"), port) => port.unwrap_or(80),
        _ => return Err(Reason::BadRequest("only http:// URLs are taken outside CONNECT")),
    };
    if port == 0 { Err(Reason::BadRequest("the port is 0")) } else { Ok((host, port)) }
}

/// Promise 4: the request's target and its Host header agree, and there is at most one Host.
pub(super) fn check_host_header(headers: &HeaderMap, host: &Host, port: u16, default: u16) -> Result<(), Reason> {
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
    if named == *host && authority.port_u16().unwrap_or(default) == port { Ok(()) } else { Err(mismatch()) }
}

async fn decide(egress: &Arc<Egress>, intent: &Intent, request: Request<Incoming>) -> Answer {
    let destination = match authorize(&egress.policy, intent) {
        Decision::Allow(Destination::Canary) => return Ok(forward::canary()),
        Decision::Allow(destination) => destination,
        Decision::Refuse(reason) => return Err(reason),
    };
    if intent.form != Form::Connect {
        return forward::forward(egress, intent, "http", request).await;
    }
    // A destination that cannot be reached is told while there is somebody to tell.
    let pinned = egress.connector.pin(&intent.host, destination).await?;
    let Some(pinned) = pinned else { return Ok(forward::canary()) };
    tokio::spawn(inside::serve(egress.clone(), intent.clone(), pinned, request));
    Ok(Response::new(forward::empty()))
}
