//! Destination → connection: every address is resolved once, checked, and exactly the checked ones are dialled. TLS
//! towards a destination is verified here.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hickory_resolver::TokioResolver;
use hyper::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::policy::{Destination, Host, Policy, Reason, check_addresses};

/// How long a name may take to resolve.
const RESOLVE: Duration = Duration::from_secs(5);
/// How long one address may take to answer, and how long TLS may take then.
const DIAL: Duration = Duration::from_secs(10);
/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 16;

/// Connects to what was authorized.
#[derive(Clone)]
pub(super) struct Connector {
    resolver: Arc<TokioResolver>,
    tls: TlsConnector,
    /// The same, offering HTTP/1.1 alone.
    tls_http1: TlsConnector,
    policy: Arc<Policy>,
}

/// Addresses that have passed the checks; nothing else is dialled.
#[derive(Debug)]
pub(super) struct Pinned {
    host: Host,
    addresses: Vec<SocketAddr>,
}

impl Connector {
    /// Trusts the public authorities and these further ones, in PEM.
    pub(super) fn new(policy: Arc<Policy>, roots: &[String], provider: Arc<CryptoProvider>) -> anyhow::Result<Self> {
        let mut store = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for pem in roots {
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                store.add(certificate?)?;
            }
        }
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let mut config = builder.with_root_certificates(store).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let resolver = Arc::new(TokioResolver::builder_tokio()?.build()?);
        let mut http1 = config.clone();
        http1.alpn_protocols = vec![b"http/1.1".to_vec()];
        let (tls, tls_http1) = (TlsConnector::from(Arc::new(config)), TlsConnector::from(Arc::new(http1)));
        Ok(Self { resolver, tls, tls_http1, policy })
    }

    /// The same for connections that speak HTTP/1.1 alone.
    pub(super) fn http1(&self) -> Self {
        Self { tls: self.tls_http1.clone(), ..self.clone() }
    }

    /// Resolves and checks an allowed destination. `None` for the canary, which is nowhere.
    pub(super) async fn pin(&self, host: &Host, destination: Destination) -> Result<Option<Pinned>, Reason> {
        let addresses = match destination {
            Destination::Canary => return Ok(None),
            Destination::Sidecar(address) => vec![address],
            Destination::Resolve(host, port) => {
                let addresses = self.resolve(&host).await?;
                check_addresses(&self.policy, &host, &addresses)?;
                addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect()
            }
        };
        Ok(Some(Pinned { host: host.clone(), addresses }))
    }

    async fn resolve(&self, host: &Host) -> Result<Vec<IpAddr>, Reason> {
        let unresolved = |why: String| Reason::NameUnresolved(host.clone(), why);
        let name = match host {
            Host::V4(address) => return Ok(vec![IpAddr::V4(*address)]),
            Host::V6(address) => return Ok(vec![IpAddr::V6(*address)]),
            // The final dot keeps search domains out.
            Host::Name(name) => format!("{name}."),
        };
        let answer = timeout(RESOLVE, self.resolver.lookup_ip(name))
            .await
            .map_err(|_| unresolved("no answer in time".into()))?;
        let addresses: Vec<IpAddr> =
            answer.map_err(|_| unresolved("no such name, or no resolver".into()))?.iter().take(MAX_ADDRESSES).collect();
        if addresses.is_empty() { Err(unresolved("no addresses".into())) } else { Ok(addresses) }
    }

    /// Connects to the origin of a URL that forwarding made out of an authorized intent.
    async fn open(&self, uri: Uri) -> Result<Upstream, Reason> {
        let tls = uri.scheme_str() == Some("https");
        let host = Host::parse(uri.host().unwrap_or_default())?;
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let sidecar = match &host {
            Host::Name(name) => self.policy.sidecars.get(name).copied(),
            _ => None,
        };
        let destination = sidecar.map_or_else(|| Destination::Resolve(host.clone(), port), Destination::Sidecar);
        let pinned = self.pin(&host, destination).await?;
        let unreachable = |why: String| Reason::Unreachable(host.clone(), why);
        let stream = pinned.ok_or_else(|| unreachable("it is nowhere".into()))?.dial().await?;
        if !tls {
            return Ok(Upstream { io: TokioIo::new(Box::new(stream)), h2: false });
        }
        let name = match &host {
            Host::Name(name) => ServerName::try_from(name.clone()).map_err(|error| unreachable(error.to_string()))?,
            Host::V4(address) => ServerName::from(IpAddr::V4(*address)),
            Host::V6(address) => ServerName::from(IpAddr::V6(*address)),
        };
        let secured = timeout(DIAL, self.tls.connect(name, stream)).await;
        let secured = secured.map_err(|_| unreachable("no TLS in time".into()))?;
        let secured = secured.map_err(|error| unreachable(format!("TLS: {error}")))?;
        let h2 = secured.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(Upstream { io: TokioIo::new(Box::new(secured)), h2 })
    }
}

impl Pinned {
    /// Connects to the first address that answers.
    pub(super) async fn dial(&self) -> Result<TcpStream, Reason> {
        let mut last = String::from("no addresses");
        for address in &self.addresses {
            match timeout(DIAL, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // Small requests must not wait for a full segment (measured: 40 ms each).
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Ok(Err(error)) => last = error.kind().to_string(),
                Err(_) => last = "no answer in time".into(),
            }
        }
        Err(Reason::Unreachable(self.host.clone(), last))
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = Upstream;
    type Error = Reason;
    type Future = BoxFuture<'static, Result<Upstream, Reason>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Reason>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        async move { connector.open(uri).await }.boxed()
    }
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection to a destination.
pub(super) struct Upstream {
    io: TokioIo<Box<dyn Io>>,
    h2: bool,
}

impl Connection for Upstream {
    fn connected(&self) -> Connected {
        if self.h2 { Connected::new().negotiated_h2() } else { Connected::new() }
    }
}

impl hyper::rt::Read for Upstream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl hyper::rt::Write for Upstream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
