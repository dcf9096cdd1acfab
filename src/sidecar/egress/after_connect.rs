//! Serves what follows a `CONNECT`: TLS for the host that it named, which is intercepted, so that every request inside
//! becomes an intent of its own. Where the policy says `tunnel`, the bytes are forwarded once the first message was
//! checked. Many clients use `CONNECT` for plain `http://` as well; these requests are judged like those in absolute
//! form. Port 443 accepts TLS only. Requests to a service of the user's machine come from [`tcp`](super::tcp) as well.
//!
//! Attacks that this stops: another host behind a granted `CONNECT`, by SNI, `Host` or `:authority`; a protocol other
//! than TLS in a tunnel.

use std::convert::Infallible;
use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, http};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::LazyConfigAcceptor;

use super::bodies::Body;
use super::connect::Pinned;
use super::connection_permit::ConnectionPermit;
use super::decide::{HandlerResult, is_tunnel, judge, report_rejected, respond};
use super::drain::{self, RequestBody};
use super::hand_over::hand_over;
use super::http1_required::Http1Required;
use super::peeked::Peeked;
use super::refusal::ClientKind;
use super::request::{HEAD, check, check_host_header, short};
use super::snapshot::Snapshot;
use super::strict::{MAX_HEAD, MAX_HEADERS, Strict};
use super::upgrade::ProtocolSwitch;
use super::{Egress, LoggedDecision, forward};
use crate::net::{Host, canonical};
use crate::policy::{Destination, Form, Intent, Reason, check_server_name};
use crate::sidecar::dialer::Connection;
use crate::splice;

/// The time limit for a client's first message, and for the handshake after it.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(15);
/// Maximum size of the first message, in bytes.
const MAX_HELLO: usize = 64 << 10;
/// Buffer size of a tunnel in each direction, in bytes.
const TUNNEL_BUFFER: usize = 256 << 10;
/// Maximum number of concurrent requests on one connection.
pub(super) const MAX_STREAMS: u32 = 128;
/// HTTP/2 windows for what a client sends, for a stream and for a connection, in bytes.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 128 << 10;
/// How much of a response is buffered until the client reads it, in bytes.
const SEND_BUFFER: usize = 64 << 10;

/// The port that accepts TLS only (RFC 9110, section 4.2.2).
pub(super) const HTTPS: u16 = 443;

/// The scheme of the requests after a `CONNECT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    /// Inside TLS.
    Https,
    /// Without TLS.
    Http,
}

impl Scheme {
    fn as_str(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
        }
    }

    /// The form of the intent, and the default port.
    fn form(self) -> (Form, u16) {
        match self {
            Self::Https => (Form::Inside, HTTPS),
            Self::Http => (Form::Absolute, 80),
        }
    }
}

type Client = Peeked<TokioIo<Upgraded>>;

/// Serves what follows one `CONNECT`. `pinned` is the destination of a tunnel.
pub(super) async fn serve(
    egress: Arc<Egress>,
    snapshot: Arc<Snapshot>,
    intent: Arc<Intent>,
    pinned: Pinned,
    mut request: Request<RequestBody>,
) {
    let permit = request.extensions_mut().remove::<ConnectionPermit>();
    let Ok(client) = hyper::upgrade::on(request).await else { return };
    let served = match tokio::time::timeout(HANDSHAKE, Peeked::read(TokioIo::new(client))).await {
        Err(_) => Err(Reason::NotTls(intent.host.clone(), "nothing came in time")),
        // The client closed the connection without sending anything.
        Ok(Err(_)) => Ok(()),
        Ok(Ok(client)) if client.first().is_empty() => Ok(()),
        Ok(Ok(client)) if begins_request(client.first()) && intent.port != HTTPS => {
            requests(&egress, client, &intent, Scheme::Http, permit.as_ref(), &Arc::default()).await;
            Ok(())
        }
        Ok(Ok(client)) if is_tunnel(&snapshot, &intent) => tunnel(&egress, client, (&snapshot, &intent), &pinned).await,
        Ok(Ok(client)) => intercept(&egress, client, &intent, permit.as_ref(), &Arc::default()).await,
    };
    if let Err(reason) = served {
        egress.record(Some(&intent), LoggedDecision::Refuse(&reason));
    }
}

/// Serves what follows a `CONNECT` that is refused: the requests inside TLS, each of which is judged, and refused as long as the policy
/// stays. Without a request, the refusal of the `CONNECT` is recorded.
pub(super) async fn refuse(
    egress: Arc<Egress>,
    intent: Arc<Intent>,
    reason: Reason,
    mut request: Request<RequestBody>,
) {
    let permit = request.extensions_mut().remove::<ConnectionPermit>();
    let answered = Arc::new(AtomicBool::new(false));
    let served = async {
        let Ok(client) = hyper::upgrade::on(request).await else { return };
        let Ok(Ok(client)) = tokio::time::timeout(HANDSHAKE, Peeked::read(TokioIo::new(client))).await else { return };
        if !client.first().is_empty() && !begins_request(client.first()) {
            // How TLS fails says nothing more than that the host is refused.
            let _ = intercept(&egress, client, &intent, permit.as_ref(), &answered).await;
        }
    };
    served.await;
    if !answered.load(Ordering::Relaxed) {
        egress.record(Some(&intent), LoggedDecision::Refuse(&reason));
    }
}

/// Whether the bytes may begin an HTTP/1 request: with a method (RFC 9110, section 9.1). TLS does not.
fn begins_request(first: &[u8]) -> bool {
    first.first().is_some_and(u8::is_ascii_alphabetic)
}

/// Forwards bytes in both directions, after the client's first message was checked.
async fn tunnel(
    egress: &Egress,
    mut client: Client,
    (snapshot, intent): (&Snapshot, &Intent),
    pinned: &Pinned,
) -> Result<(), Reason> {
    let not_tls = |why| Reason::NotTls(intent.host.clone(), why);
    let mut hello = Vec::new();
    let mut acceptor = Acceptor::default();
    let read = async {
        loop {
            let from = hello.len();
            hello.resize(from + 4096, 0);
            let length = client.read(&mut hello[from..]).await.unwrap_or_default();
            hello.truncate(from + length);
            if length == 0 || hello.len() > MAX_HELLO {
                return Err(not_tls("it ended, or was too long, before its first message was whole"));
            }
            let mut fresh = Cursor::new(&hello[from..]);
            if acceptor.read_tls(&mut fresh).is_err() {
                return Err(not_tls("its first message cannot be read"));
            }
            match acceptor.accept() {
                Ok(Some(accepted)) => return check_server_name(&intent.host, accepted.client_hello().server_name()),
                Ok(None) => {}
                Err(_) => return Err(not_tls("its first message is no ClientHello")),
            }
        }
    };
    tokio::time::timeout(HANDSHAKE, read).await.map_err(|_| not_tls("nothing came in time"))??;
    let mut upstream = pinned.dial().await?;
    if upstream.write_all(&hello).await.is_ok() {
        egress.counters.request_bytes.fetch_add(hello.len() as u64, Ordering::Relaxed);
        let (first, client) = client.into_parts();
        carry(egress, client.into_inner(), first, &mut upstream, (snapshot, intent)).await?;
    }
    Ok(())
}

/// Forwards bytes in both directions until an end closes, or the policy forbids it.
async fn carry(
    egress: &Egress,
    client: Upgraded,
    first: Bytes,
    upstream: &mut Connection,
    (snapshot, intent): (&Snapshot, &Intent),
) -> Result<(), Reason> {
    // How the connection ends concerns its two ends only.
    let carried = tokio::select! {
        carried = relay_upgraded(client, first, upstream) => carried,
        reason = egress.until_forbidden(&snapshot.policy, intent) => return Err(reason),
    };
    let (sent, received) = carried.unwrap_or_default();
    egress.counters.request_bytes.fetch_add(sent, Ordering::Relaxed);
    egress.counters.response_bytes.fetch_add(received, Ordering::Relaxed);
    Ok(())
}

/// Relays what a client sends after its request, beginning with what was read of it already.
async fn relay_upgraded(client: Upgraded, first: Bytes, upstream: &mut Connection) -> std::io::Result<(u64, u64)> {
    upstream.write_all(&first).await?;
    let read = first.len() as u64;
    let client = match client.downcast::<TokioIo<Strict<Connection>>>() {
        Ok(parts) => {
            let (rest, mut client) = parts.io.into_inner().into_parts();
            upstream.write_all(&parts.read_buf).await?;
            upstream.write_all(&rest).await?;
            let read = read + (parts.read_buf.len() + rest.len()) as u64;
            let (sent, received) = match ((*client).socket(), (**upstream).socket()) {
                (Some(client), Some(upstream)) => splice::relay(client, upstream).await?,
                _ => copy(&mut client, upstream).await?,
            };
            return Ok((read + sent, received));
        }
        // Inside TLS.
        Err(client) => client,
    };
    let (sent, received) = copy(&mut TokioIo::new(client), upstream).await?;
    Ok((read + sent, received))
}

async fn copy(
    near: &mut (impl AsyncRead + AsyncWrite + Unpin + ?Sized),
    far: &mut (impl AsyncRead + AsyncWrite + Unpin + ?Sized),
) -> std::io::Result<(u64, u64)> {
    tokio::io::copy_bidirectional_with_sizes(near, far, TUNNEL_BUFFER, TUNNEL_BUFFER).await
}

/// Serves the git gate's connection to an ssh server.
pub(super) async fn ssh(
    egress: Arc<Egress>,
    snapshot: Arc<Snapshot>,
    intent: Arc<Intent>,
    mut upstream: Connection,
    mut request: Request<RequestBody>,
) {
    let _permit = request.extensions_mut().remove::<ConnectionPermit>();
    let Ok(client) = hyper::upgrade::on(request).await else { return };
    let carried = carry(&egress, client, Bytes::new(), &mut upstream, (&snapshot, &intent)).await;
    if let Err(reason) = carried {
        egress.record(Some(&intent), LoggedDecision::Refuse(&reason));
    }
}

/// Serves requests of a client that knows no proxy, to a service of the user's machine: each is judged as after a `CONNECT`.
pub(super) async fn direct(
    egress: &Arc<Egress>,
    client: Peeked<Connection>,
    intent: &Arc<Intent>,
    permit: &ConnectionPermit,
) {
    requests(egress, client, intent, Scheme::Http, Some(permit), &Arc::default()).await;
}

async fn intercept(
    egress: &Arc<Egress>,
    client: Client,
    intent: &Arc<Intent>,
    permit: Option<&ConnectionPermit>,
    answered: &Arc<AtomicBool>,
) -> Result<(), Reason> {
    let not_tls = |why| Reason::NotTls(intent.host.clone(), why);
    let hello = LazyConfigAcceptor::new(Acceptor::default(), client);
    let start = tokio::time::timeout(HANDSHAKE, hello).await.map_err(|_| not_tls("nothing came in time"))?;
    let start = match start {
        // The client closed the connection without sending anything.
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
        start => start.map_err(|_| not_tls("its first message is no ClientHello"))?,
    };
    check_server_name(&intent.host, start.client_hello().server_name())?;
    let config = egress.authority.config(&intent.host);
    let config = config.map_err(|error| Reason::Unreachable(intent.host.clone(), format!("{error:#}")))?;
    let accepted = tokio::time::timeout(HANDSHAKE, start.into_stream(config)).await;
    // A client that does not trust the bottle's CA closes the connection here; it reports that better than we could.
    let Ok(Ok(stream)) = accepted else { return Ok(()) };
    requests(egress, Http1Required::new(stream), intent, Scheme::Https, permit, answered).await;
    Ok(())
}

/// Serves the requests of a connection. `answered` says afterwards whether there was one.
async fn requests<S>(
    egress: &Arc<Egress>,
    stream: S,
    intent: &Arc<Intent>,
    scheme: Scheme,
    permit: Option<&ConnectionPermit>,
    answered: &Arc<AtomicBool>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    // HTTP/2 is negotiated within TLS.
    let (stream, refused, granted) = Strict::new(stream, scheme == Scheme::Https);
    let service = {
        let (egress, intent, permit, answered) = (egress.clone(), intent.clone(), permit.cloned(), answered.clone());
        service_fn(move |mut request: Request<Incoming>| {
            answered.store(true, Ordering::Relaxed);
            let (egress, intent) = (egress.clone(), intent.clone());
            ProtocolSwitch::prepare(&mut request, permit.as_ref(), &granted);
            async move { Ok::<_, Infallible>(answer(&egress, &intent, scheme, request).await) }
        })
    };
    let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(MAX_HEAD).half_close(true);
    builder.http1().max_headers(MAX_HEADERS);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(MAX_STREAMS).max_header_list_size(64 << 10);
    builder.http2().initial_stream_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
    builder.http2().max_send_buf_size(SEND_BUFFER);
    let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
    report_rejected(egress, Some(intent), &refused).await;
}

async fn answer(egress: &Arc<Egress>, outer: &Intent, scheme: Scheme, request: Request<Incoming>) -> Response<Body> {
    let (request, keeper) = drain::wrap(request);
    let switch = ProtocolSwitch::of(&request);
    let client_kind = ClientKind::of(&request);
    let intent = intent(outer, scheme, &request).map(Arc::new);
    let answered = match &intent {
        Ok(intent) => decide(egress, intent, scheme, request).await,
        Err(reason) => Err(reason.clone()),
    };
    let response = switch.end(respond(egress, Some(intent.as_deref().unwrap_or(outer)), client_kind, answered));
    drain::keep(response, keeper)
}

/// Parses a request: it must be for the host and port of its `CONNECT`.
fn intent(outer: &Intent, scheme: Scheme, request: &Request<RequestBody>) -> Result<Intent, Reason> {
    if request.method() == Method::CONNECT {
        return Err(Reason::BadRequest("CONNECT after CONNECT is not forwarded"));
    }
    let (host, port) = (&outer.host, outer.port);
    let (form, default) = scheme.form();
    // A client that is connected to the service may leave its port out.
    let default = if outer.form == Form::Tcp { port } else { default };
    if let Some(authority) = request.uri().authority() {
        let mismatch = || Reason::HostMismatch(host.clone(), short(authority.as_str()));
        let named = Host::parse(authority.host()).map_err(|_| mismatch())?;
        if named != *host || authority.port_u16().unwrap_or(default) != port || authority.as_str().contains('@') {
            return Err(mismatch());
        }
    }
    if request.uri().scheme_str().is_some_and(|named| named != scheme.as_str()) {
        return Err(Reason::BadRequest("the scheme is https inside TLS, and http without it"));
    }
    check_host_header(request.headers(), host, port, default)?;
    let path = canonical(request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str))?;
    check(request)?;
    Ok(Intent { form, method: request.method().to_string(), host: host.clone(), port, path: Some(path) })
}

async fn decide(
    egress: &Arc<Egress>,
    intent: &Arc<Intent>,
    scheme: Scheme,
    request: Request<RequestBody>,
) -> HandlerResult {
    let snapshot = egress.snapshot();
    let (destination, passed) = judge(egress, &snapshot, intent)?;
    match destination {
        Destination::Canary => return Ok((forward::canary(), None)),
        Destination::Gate(target) => {
            return Ok((hand_over(egress, &snapshot, intent, &target, request).await?, passed));
        }
        _ => {}
    }
    Ok((forward::forward(egress, &snapshot, intent, scheme.as_str(), request).await?, passed))
}
