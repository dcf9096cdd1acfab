//! The adapter for requests to the proxy itself: `CONNECT` and absolute-form requests become intents, and refusals
//! become responses. [`super::after_connect`] serves what follows a `CONNECT`.

use std::convert::Infallible;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, Uri, http};
use hyper_util::rt::{TokioIo, TokioTimer};

use super::after_connect::HTTPS;
use super::bodies::{Body, empty};
use super::client::Client;
use super::connection_permit::ConnectionPermit;
use super::decide::{Allowed, HandlerResult, is_tunnel, judge, report_rejected, respond};
use super::drain::{self, RequestBody};
use super::hand_over::hand_over;
use super::refusal::ClientKind;
use super::request::{HEAD, check, check_host_header};
use super::strict::{MAX_HEAD, MAX_HEADERS, Strict};
use super::upgrade::ProtocolSwitch;
use super::{Egress, after_connect, forward};
use crate::net::{Host, canonical};
use crate::policy::{Destination, Form, GitRequest, Intent, Reason, is_probe_host};
use crate::sidecar::dialer::Connection;

/// Serves one connection from the agent.
pub(super) async fn serve(stream: Connection, egress: Arc<Egress>, permit: ConnectionPermit) {
    let (stream, refused, granted) = Strict::new(stream, false);
    let service = {
        let egress = egress.clone();
        service_fn(move |mut request: Request<Incoming>| {
            let egress = egress.clone();
            ProtocolSwitch::prepare(&mut request, Some(&permit), &granted);
            async move { Ok::<_, Infallible>(answer(&egress, request).await) }
        })
    };
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        // A client may close its sending side and still wait for the response.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    // How a connection ends concerns its peer only; decisions were recorded when they were made.
    let _ = served.await;
    report_rejected(&egress, None, &refused).await;
}

async fn answer(egress: &Arc<Egress>, request: Request<Incoming>) -> Response<Body> {
    let (request, keeper) = drain::wrap(request);
    let switch = ProtocolSwitch::of(&request);
    let client_kind = ClientKind::of(&request);
    let intent = intent(&request, &egress.own).map(Arc::new);
    let answered = match &intent {
        Ok(intent) => decide(egress, intent, request).await,
        Err(reason) => Err(reason.clone()),
    };
    let response = switch.end(respond(egress, intent.as_deref().ok(), client_kind, answered));
    drain::keep(response, keeper)
}

/// Parses a request, in either form.
fn intent(request: &Request<RequestBody>, own: &[String]) -> Result<Intent, Reason> {
    let form = if request.method() == Method::CONNECT { Form::Connect } else { Form::Absolute };
    let (host, port) = target(form, request.uri())?;
    let default = if form == Form::Connect { port } else { 80 };
    // Proxy agents of Node name the proxy here. The value is ignored: the target is judged and dialled.
    let names_proxy = |value: &HeaderValue| own.iter().any(|own| value.as_bytes() == own.as_bytes());
    let hosts: Vec<_> = request.headers().get_all(header::HOST).iter().collect();
    if !(form == Form::Connect && hosts.len() == 1 && names_proxy(hosts[0])) {
        check_host_header(request.headers(), &host, port, default)?;
    }
    let path = match form {
        Form::Connect => None,
        _ => Some(canonical(request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str))?),
    };
    check(request)?;
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

/// Whether a refused `CONNECT` is granted all the same, and its requests refused inside TLS, without resolving or dialling anything:
/// no client shows the body of a response to `CONNECT`, and inside, method and path are known. Sidecars of ours do read that body.
fn is_told_inside(egress: &Egress, intent: &Intent, reason: &Reason) -> bool {
    let told = matches!(reason, Reason::HostNotAllowed(_) | Reason::Denied(..));
    let probe = is_probe_host(&format!("{}:{}", intent.host, intent.port));
    told && !probe && intent.form == Form::Connect && intent.port == HTTPS && egress.client == Client::Agent
}

async fn decide(egress: &Arc<Egress>, intent: &Arc<Intent>, request: Request<RequestBody>) -> HandlerResult {
    let snapshot = egress.snapshot();
    let (destination, passed) = match judge(egress, &snapshot, intent) {
        Err(reason) if is_told_inside(egress, intent, &reason) => {
            crate::task::spawn(after_connect::refuse(egress.clone(), intent.clone(), reason, request));
            return Ok((Response::new(empty()), Some(Allowed::Inside)));
        }
        judged => judged?,
    };
    match &destination {
        Destination::Canary => return Ok((forward::canary(), None)),
        Destination::Gate(target) => {
            return Ok((hand_over(egress, &snapshot, intent, target, request).await?, passed));
        }
        _ => {}
    }
    if intent.form != Form::Connect {
        return Ok((forward::forward(egress, &snapshot, intent, "http", request).await?, passed));
    }
    // A destination that cannot be reached is reported before the tunnel is granted.
    let Some(pinned) = snapshot.connector.pin(&intent.host, destination).await? else {
        return Ok((forward::canary(), None));
    };
    if snapshot.policy.git.request(intent) == Some(GitRequest::Ssh) {
        // The gate's own, which ends at the pinned key of the host: nobody else could read it.
        let upstream = pinned.dial().await?;
        crate::task::spawn(after_connect::ssh(egress.clone(), snapshot, intent.clone(), upstream, request));
        return Ok((Response::new(empty()), Some(Allowed::Tunnel)));
    }
    let tunnel = is_tunnel(&snapshot, intent);
    crate::task::spawn(after_connect::serve(egress.clone(), snapshot, intent.clone(), pinned, request));
    Ok((Response::new(empty()), if tunnel { Some(Allowed::Tunnel) } else { passed }))
}
