//! How a sidecar goes out: an HTTP client whose connections all pass through egress, by the socket that the two share, with TLS that
//! egress intercepts. So the allowlist, the scan and the audit cover every request, as they do the agent's.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hyper::Uri;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::UnixStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::place::Uplink;

/// The time limit for a tunnel and the TLS in it: egress connects to the destination meanwhile.
const CONNECT: Duration = Duration::from_secs(30);
/// Maximum length of the head of egress' response, and of the text of a refusal, in bytes.
const MAX_HEAD: usize = 8 << 10;
const MAX_REFUSAL: u64 = 4 << 10;
/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_mins(1);

/// Connects through egress.
#[derive(Clone)]
pub(super) struct Outward {
    proxy: Arc<Path>,
    tls: TlsConnector,
}

/// A client of HTTP/1.1 over such connections.
pub(super) type OutwardClient<B> = Client<Outward, B>;

impl Outward {
    /// Trusts the bottle's CA only: whatever comes through egress has its certificates.
    pub(super) fn new(uplink: &Uplink) -> anyhow::Result<Self> {
        Ok(Self { proxy: uplink.proxy.as_path().into(), tls: tls(bottle_ca(uplink)?)? })
    }

    /// A client that keeps connections.
    pub(super) fn client<B: hyper::body::Body + Send>(self) -> OutwardClient<B>
    where
        B::Data: Send,
    {
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).build(self)
    }

    async fn connect(&self, uri: &Uri) -> io::Result<OutwardStream> {
        let host = uri.host().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        let port = uri.port_u16().unwrap_or(443);
        let stream = tunnel(&self.proxy, &format!("{host}:{port}")).await.map_err(io::Error::other)?;
        let name = ServerName::try_from(host).map_err(io::Error::other)?;
        Ok(OutwardStream(self.tls.connect(name, stream).await?))
    }
}

/// Why there is no tunnel.
#[derive(Debug, thiserror::Error)]
pub(super) enum TunnelError {
    /// The socket of egress does not answer.
    #[error("connect to egress: {0}")]
    Io(#[from] io::Error),
    /// The head of its response is longer than [`MAX_HEAD`].
    #[error("egress' response to a CONNECT is too long")]
    TooLong,
    /// Egress' words, as it sent them.
    #[error("{0}")]
    Refused(String),
}

/// Opens a tunnel through egress to `HOST:PORT`.
pub(super) async fn tunnel(proxy: &Path, authority: &str) -> Result<UnixStream, TunnelError> {
    let mut stream = UnixStream::connect(proxy).await?;
    let request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= MAX_HEAD {
            return Err(TunnelError::TooLong);
        }
        head.push(stream.read_u8().await?);
    }
    if head.starts_with(b"HTTP/1.1 200 ") {
        return Ok(stream);
    }
    let mut text = Vec::new();
    stream.take(MAX_REFUSAL).read_to_end(&mut text).await?;
    Err(TunnelError::Refused(String::from_utf8_lossy(&text).trim().to_owned()))
}

/// The only authority behind egress: the bottle's CA.
pub(super) fn bottle_ca(uplink: &Uplink) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(uplink.ca.as_bytes()).context("read the bottle's CA")?)?;
    Ok(roots)
}

/// The public authorities, for connections that do not go through egress.
pub(crate) fn public_ca() -> RootCertStore {
    RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.into() }
}

/// TLS with servers that these authorities certify.
pub(crate) fn tls(roots: RootCertStore) -> anyhow::Result<TlsConnector> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(TlsConnector::from(Arc::new(builder.with_root_certificates(roots).with_no_client_auth())))
}

impl tower_service::Service<Uri> for Outward {
    type Response = TokioIo<OutwardStream>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<TokioIo<OutwardStream>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let outward = self.clone();
        async move {
            let connected = timeout(CONNECT, outward.connect(&uri)).await;
            connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?.map(TokioIo::new)
        }
        .boxed()
    }
}

/// A connection to a destination.
pub(super) struct OutwardStream(TlsStream<UnixStream>);

impl Connection for OutwardStream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for OutwardStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for OutwardStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
