//! The adapter for what the agent says to the proxy: CONNECT and absolute-form requests become intents; refusals become
//! answers. What is inside TLS is the business of [`super::inside`].

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, Uri, http};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::connect::Stream;
use super::drain::{self, Asked};
use super::forward::{self, Answer};
use super::passing::{Body, empty};
use super::refusal::{self, Asker};
use super::serve::Place;
use super::state::State;
use super::strict::{Granted, Refused, Strict, Verdict};
use super::{Egress, Outcome, inside};
use crate::net::{Host, canonical};
use crate::policy::{Decision, Destination, Form, Intent, Reason, authorize};
use crate::scan::Work;

/// Largest request head, in bytes.
pub(super) const MAX_HEAD: usize = 64 << 10;
/// Most of a host that is told, in bytes: a name and a port.
const MAX_TOLD: usize = 260;
/// How long a request head may take.
pub(super) const HEAD: Duration = Duration::from_secs(30);

/// Serves one connection from the agent.
pub(super) async fn serve(stream: Stream, egress: Arc<Egress>, place: Place) {
    let (stream, refused, granted) = Strict::new(stream, false);
    let service = {
        let egress = egress.clone();
        service_fn(move |mut request: Request<Incoming>| {
            let egress = egress.clone();
            Switch::prepare(&mut request, Some(&place), &granted);
            async move { Ok::<_, Infallible>(answer(&egress, request).await) }
        })
    };
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
    say_refused(&egress, None, &refused).await;
}

/// Says why a connection ended, where its bytes did not come in.
pub(super) async fn say_refused<S: AsyncWrite + Unpin>(egress: &Egress, outer: Option<&Intent>, refused: &Refused<S>) {
    let Some(Verdict { mut stream, why, unanswered }) = crate::sync::lock(refused).take() else { return };
    let reason = Reason::BadRequest(why);
    egress.decided(outer, Outcome::Refuse(&reason));
    if !unanswered {
        return;
    }
    let line = refusal::line(&reason, Asker::Other, &egress.bottle);
    let (status, words) = (refusal::status(&reason, outer.is_some()).as_u16(), refusal::phrase(&reason));
    let head = "content-type: application/json\r\nconnection: close\r\ncontent-length:";
    let answer = format!("HTTP/1.1 {status} {words}\r\n{head} {}\r\n\r\n{line}", line.len());
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

async fn answer(egress: &Arc<Egress>, request: Request<Incoming>) -> Response<Body> {
    let (request, keeper) = drain::wrap(request);
    let switch = Switch::of(&request);
    let asker = Asker::of(&request);
    let intent = intent(&request, &egress.own).map(Arc::new);
    let answered = match &intent {
        Ok(intent) => decide(egress, intent, request).await,
        Err(reason) => Err(reason.clone()),
    };
    let response = switch.end(told(egress, intent.as_deref().ok(), asker, answered));
    drain::keep(response, keeper)
}

/// What a request makes of its connection, if it is granted.
pub(super) enum Switch {
    Nothing,
    Tunnel,
    Upgrade(Option<Granted>),
}

impl Switch {
    /// What a request makes of its connection has the connection's place, too, and may be granted; most make nothing of it.
    pub(super) fn prepare(request: &mut Request<Incoming>, place: Option<&Place>, granted: &Granted) {
        if request.method() == Method::CONNECT || request.headers().contains_key(header::UPGRADE) {
            let extensions = request.extensions_mut();
            extensions.insert(granted.clone());
            if let Some(place) = place {
                extensions.insert(place.clone());
            }
        }
    }

    pub(super) fn of(request: &Request<Asked>) -> Self {
        if request.method() == Method::CONNECT {
            Self::Tunnel
        } else if request.headers().contains_key(header::UPGRADE) {
            Self::Upgrade(request.extensions().get::<Granted>().cloned())
        } else {
            Self::Nothing
        }
    }

    /// Ends the connection after an answer that does not grant what was asked for: only a tunnel is granted by any 2xx, and
    /// an upgrade by 101 alone (RFC 9110, section 15.2.2).
    pub(super) fn end(self, mut response: Response<Body>) -> Response<Body> {
        let granted = match self {
            Self::Nothing => true,
            Self::Tunnel => response.status().is_success(),
            Self::Upgrade(granted) => {
                let switched = response.status() == hyper::StatusCode::SWITCHING_PROTOCOLS;
                granted.filter(|_| switched).iter().for_each(Granted::grant);
                switched
            }
        };
        if !granted {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// Tells what was decided about a request; the answer to it.
pub(super) fn told(egress: &Egress, intent: Option<&Intent>, asker: Asker, answered: Answer) -> Response<Body> {
    match answered {
        Ok((answer, outcome)) => {
            egress.decided(intent, outcome.as_ref().map_or(Outcome::Allow, |passed| passed.outcome()));
            answer
        }
        Err(reason) => {
            egress.decided(intent, Outcome::Refuse(&reason));
            refusal::answer(&reason, intent, asker, &egress.bottle)
        }
    }
}

/// Reads what a request wants; the same for every form.
fn intent(request: &Request<Asked>, own: &[String]) -> Result<Intent, Reason> {
    let form = if request.method() == Method::CONNECT { Form::Connect } else { Form::Absolute };
    let (host, port) = target(form, request.uri())?;
    let default = if form == Form::Connect { port } else { 80 };
    // Node's proxy agents name the proxy there. Nothing is done with it: what is judged and dialled is the target.
    let names_proxy = |value: &HeaderValue| own.iter().any(|own| value.as_bytes() == own.as_bytes());
    let hosts: Vec<_> = request.headers().get_all(header::HOST).iter().collect();
    if !(form == Form::Connect && hosts.len() == 1 && names_proxy(hosts[0])) {
        check_host_header(request.headers(), &host, port, default)?;
    }
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

/// What a request calls a host, to be told: not cut, for half of a secret would not be known as one.
pub(super) fn short(text: &str) -> String {
    if text.len() <= MAX_TOLD { text.to_owned() } else { "more than a host has".to_owned() }
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
    let mismatch = || Reason::HostMismatch(host.clone(), short(text));
    let authority: http::uri::Authority = text.parse().map_err(|_| mismatch())?;
    let named = Host::parse(authority.host()).map_err(|_| mismatch())?;
    if named == *host && authority.port_u16().unwrap_or(default) == port { Ok(()) } else { Err(mismatch()) }
}

async fn decide(egress: &Arc<Egress>, intent: &Arc<Intent>, request: Request<Asked>) -> Answer {
    let state = egress.state();
    let (destination, passed) = judge(egress, &state, intent)?;
    if destination == Destination::Canary {
        return Ok((forward::canary(), None));
    }
    if intent.form != Form::Connect {
        return Ok((forward::forward(egress, &state, intent, "http", request).await?, passed));
    }
    // A destination that cannot be reached is told while there is somebody to tell.
    let Some(pinned) = state.connector.pin(&intent.host, destination).await? else {
        return Ok((forward::canary(), None));
    };
    let tunnel = inside::is_tunnel(&state, intent);
    tokio::spawn(inside::serve(egress.clone(), state, intent.clone(), pinned, request));
    Ok((Response::new(empty()), if tunnel { Some(forward::Passed::Tunnel) } else { passed }))
}

/// Whether a request may go, before anybody is asked about its host; and, where nothing is enforced, why it might not.
pub(super) fn judge(
    egress: &Arc<Egress>,
    state: &State,
    intent: &Arc<Intent>,
) -> Result<(Destination, Option<forward::Passed>), Reason> {
    if let Host::Name(name) = &intent.host
        && intent.form != Form::Inside
    {
        let (scanner, mut work) = (state.scanner(egress, intent), Work::of(name.len()));
        let found = scanner.host(name, &mut work).map_err(Reason::TooMuchWork)?;
        scanner.tell(&mut work);
        if let Some(finding) = found {
            return Err(Reason::SecretFound(finding, "host"));
        }
    }
    let decision = authorize(&state.policy, intent);
    // A CONNECT is no request yet, but where nobody sees those that follow it.
    if !matches!(decision, Decision::Refuse(_)) && (intent.form != Form::Connect || inside::is_tunnel(state, intent)) {
        egress.spend(state, intent)?;
    }
    match decision {
        Decision::Allow(destination) => Ok((destination, None)),
        Decision::Audit(destination, reason) => Ok((destination, Some(forward::Passed::Audit(reason)))),
        Decision::Refuse(reason) => Err(reason),
    }
}
