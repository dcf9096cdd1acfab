//! Tells a web service that a request waits: one POST with the ids of the bottle and of the request, and its kind. Nothing that the
//! agent wrote is passed on.
//!
//! Rules:
//! * Nobody waits for it: it runs beside, within a time limit, and its failure is an audit event.
//! * A redirect is not followed: the service that the manifest names is told, and no other one.
//! * The URL may hold a key: no message repeats more of it than its host.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::handshake;
use hyper::header::{CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Request as HttpRequest, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::json;
use tokio::net::TcpStream;
use url::Url;

use crate::primitive::bottle::{Bottle, Request};
use crate::sidecar::dialer::Connection;
use crate::sidecar::{public_ca, tls};

/// The time limit, from the connection to the head of the response.
const PATIENCE: Duration = Duration::from_secs(10);

/// Starts the POST in the background.
pub(super) fn post(bottle: &Arc<Bottle>, request: &Request) {
    let Some(url) = bottle.plan.supervise.as_ref().and_then(|plan| plan.webhook.clone()) else { return };
    let told = json!({ "bottle": bottle.session.id, "id": request.id, "kind": request.wish.kind() }).to_string();
    let (bottle, id) = (bottle.clone(), request.id.clone());
    crate::task::spawn(async move {
        let sent = tokio::time::timeout(PATIENCE, send(&url, told)).await;
        let why = match sent {
            Ok(Ok(())) => return,
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => format!("it did not answer within {} s", PATIENCE.as_secs()),
        };
        let host = Url::parse(&url).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
        bottle.audit("supervise", "warn", "webhook_failed", format!("tell {host} of request {id}: {why}"));
    });
}

async fn send(url: &str, body: String) -> anyhow::Result<()> {
    let url = Url::parse(url)?;
    let host = url.host_str().context("the URL has no host")?;
    let port = url.port_or_known_default().context("the URL has no port")?;
    let stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).await.context("connect")?;
    stream.set_nodelay(true)?;
    let stream: Connection = match url.scheme() {
        "https" => {
            let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())?;
            Box::new(tls(public_ca())?.connect(name, stream).await.context("TLS")?)
        }
        _ => Box::new(stream),
    };
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.context("HTTP")?;
    // It ends with its request.
    let connection = crate::task::spawn(connection);
    let target = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let request = HttpRequest::post(target)
        .header(HOST, authority)
        .header(USER_AGENT, concat!("bottler/", env!("CARGO_PKG_VERSION")))
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))?;
    let answered = sender.send_request(request).await.map(|answer| answer.status());
    connection.abort();
    accept(answered.context("HTTP")?)
}

fn accept(status: StatusCode) -> anyhow::Result<()> {
    if status.is_redirection() {
        bail!("it answers {}, and a redirect is not followed", status.as_u16());
    }
    ensure!(status.is_success(), "it answers {}", status.as_u16());
    Ok(())
}
