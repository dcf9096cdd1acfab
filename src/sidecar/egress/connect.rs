//! Connects to destinations. Every name is resolved once, every address is checked, and only the checked addresses are
//! dialled, or the user's upstream proxy. The certificates of destinations are verified here.
//!
//! Attacks that this stops: a name that resolves to a private address, and one that resolves differently the second
//! time (DNS rebinding).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hyper::Uri;
use hyper_util::client::legacy::connect::{self as pool, Connected};
use hyper_util::rt::TokioIo;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::UnixStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::upstream_proxy::UpstreamProxy;
use crate::net::Host;
use crate::policy::{Connect, Destination, Endpoint, Policy, Reason, check_addresses, check_proxy};
use crate::sidecar::dialer::{Connection, DIAL, Outside, tcp};
use crate::sidecar::host_service::Channel;

/// How egress connects.
#[derive(Clone)]
pub(super) struct Ways {
    /// To the world.
    pub(super) outside: Outside,
    /// To services of the user's machine.
    pub(super) host: Channel,
}

/// Connects to authorized destinations.
#[derive(Clone)]
pub(super) struct Connector {
    ways: Ways,
    tls: TlsConnector,
    /// The same, offering HTTP/1.1 alone.
    tls_http1: TlsConnector,
    /// What connecting depends on: addresses and sidecars, and none of the lists.
    pub(super) policy: Arc<Policy>,
    proxy: Option<Arc<UpstreamProxy>>,
}

/// Addresses that passed the checks; nothing else is dialled.
pub(super) struct Pinned {
    host: Host,
    ways: Ways,
    targets: Vec<Target>,
    /// The upstream proxy that these addresses belong to, and the destination as it is named to the proxy.
    proxy: Option<(Arc<UpstreamProxy>, String)>,
    tls: TlsConnector,
}

/// An address to dial.
enum Target {
    /// One of the bottle's own sidecars, or a service of the user's machine.
    Sidecar(Endpoint),
    /// An address outside.
    Outside(SocketAddr),
}

impl Connector {
    /// A connector that trusts the public CAs and the given ones, in PEM.
    pub(super) fn new(
        policy: &Policy,
        roots: &[String],
        proxy: Option<Arc<UpstreamProxy>>,
        ways: Ways,
        provider: Arc<CryptoProvider>,
    ) -> anyhow::Result<Self> {
        let mut store = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for pem in roots {
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                store.add(certificate?)?;
            }
        }
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let mut config = builder.with_root_certificates(store).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let mut http1 = config.clone();
        http1.alpn_protocols = vec![b"http/1.1".to_vec()];
        let (tls, tls_http1) = (TlsConnector::from(Arc::new(config)), TlsConnector::from(Arc::new(http1)));
        Ok(Self { ways, tls, tls_http1, policy: Arc::new(of_connections(policy)), proxy })
    }

    /// The same for another policy.
    pub(super) fn with_policy(&self, policy: &Policy) -> Self {
        Self { policy: Arc::new(of_connections(policy)), ..self.clone() }
    }

    /// The same past an inspector.
    pub(super) fn uninspected(&self) -> Self {
        Self { proxy: self.proxy.clone().filter(|proxy| !proxy.inspects), ..self.clone() }
    }

    /// Whether an inspector sees requests to a host.
    pub(super) fn inspects(&self, host: &Host, port: u16) -> bool {
        self.proxy_for(host, port).is_some_and(|proxy| proxy.inspects)
    }

    /// Whether connecting under this policy is the same.
    pub(super) fn is_for(&self, policy: &Policy) -> bool {
        let own = &self.policy;
        own.ip_allow == policy.ip_allow && own.own_host == policy.own_host && own.sidecars == policy.sidecars
    }

    /// The same for HTTP/1.1 alone.
    pub(super) fn http1(&self) -> Self {
        Self { tls: self.tls_http1.clone(), ..self.clone() }
    }

    /// The upstream proxy for a host, if it applies.
    pub(super) fn proxy_for(&self, host: &Host, port: u16) -> Option<&Arc<UpstreamProxy>> {
        let own = matches!(host, Host::Name(name) if self.policy.sidecars.contains_key(name));
        self.proxy.as_ref().filter(|proxy| !own && proxy.applies_to(host, port))
    }

    /// Resolves and checks an allowed destination. `None` for the canary, which has no address.
    pub(super) async fn pin(&self, host: &Host, destination: Destination) -> Result<Option<Pinned>, Reason> {
        let pinned = |targets, proxy| Pinned {
            host: host.clone(),
            ways: self.ways.clone(),
            targets,
            proxy,
            tls: self.tls_http1.clone(),
        };
        let (named, port) = match destination {
            Destination::Canary => return Ok(None),
            // Each request inside has a destination of its own.
            Destination::Inside | Destination::Gate(_) => return Ok(Some(pinned(Vec::new(), None))),
            Destination::Sidecar(sibling) => {
                return Ok(Some(pinned(vec![Target::Sidecar(sibling.at)], None)));
            }
            Destination::Resolve(named, port) => (named, port),
        };
        let resolved = self.resolve(&named).await;
        if let Ok(addresses) = &resolved {
            check_addresses(&self.policy, &named, addresses)?;
        }
        let Some(proxy) = self.proxy_for(&named, port) else {
            return Ok(Some(pinned(targets(resolved?, port), None)));
        };
        let target = match proxy.connect {
            Connect::Name => format!("{named}:{port}"),
            Connect::Address => {
                let checked = resolved?.first().map(|&address| SocketAddr::new(address, port).to_string());
                checked.ok_or_else(|| Reason::NameUnresolved(named.clone(), "no addresses".into()))?
            }
        };
        let targets = self.proxy_targets(proxy).await?;
        Ok(Some(pinned(targets, Some((proxy.clone(), target)))))
    }

    async fn proxy_targets(&self, proxy: &UpstreamProxy) -> Result<Vec<Target>, Reason> {
        if proxy.inspects {
            return Ok(targets(vec![Ipv4Addr::LOCALHOST.into()], proxy.port));
        }
        if let Host::Name(name) = &proxy.host
            && let Some(sibling) = self.policy.sidecars.get(name)
        {
            return Ok(vec![Target::Sidecar(sibling.at.clone())]);
        }
        let addresses = self.resolve(&proxy.host).await?;
        check_proxy(&proxy.host, &addresses)?;
        Ok(targets(addresses, proxy.port))
    }

    async fn resolve(&self, host: &Host) -> Result<Vec<IpAddr>, Reason> {
        self.ways.outside.resolve(host).await.map_err(|why| Reason::NameUnresolved(host.clone(), why))
    }

    /// Connects to the origin of a URL that was built from an authorized intent.
    async fn open(&self, uri: Uri) -> Result<DestinationStream, Reason> {
        let tls = uri.scheme_str() == Some("https");
        let host = Host::parse(uri.host().unwrap_or_default())?;
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let sidecar = match &host {
            Host::Name(name) => self.policy.sidecars.get(name).cloned(),
            _ => None,
        };
        let destination = sidecar.map_or_else(|| Destination::Resolve(host.clone(), port), Destination::Sidecar);
        let pinned = self.pin(&host, destination).await?;
        let pinned = pinned.ok_or_else(|| Reason::Unreachable(host.clone(), "it is nowhere".into()))?;
        if !tls {
            // A proxy receives such a request in absolute form (RFC 9112, section 3.2.2).
            let proxied = pinned.proxy.is_some();
            return Ok(DestinationStream { io: TokioIo::new(pinned.connect().await?), h2: false, proxied });
        }
        let secured = secure(&self.tls, &host, pinned.dial().await?).await?;
        let h2 = secured.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(DestinationStream { io: TokioIo::new(Box::new(secured)), h2, proxied: false })
    }
}

/// The part of a policy that connecting depends on.
fn of_connections(policy: &Policy) -> Policy {
    let Policy { ip_allow, own_host, sidecars, .. } = policy.clone();
    Policy { ip_allow, own_host, sidecars, ..Policy::default() }
}

fn targets(addresses: Vec<IpAddr>, port: u16) -> Vec<Target> {
    addresses.into_iter().map(|address| Target::Outside(SocketAddr::new(address, port))).collect()
}

/// Opens a connection.
async fn open(target: &Target, ways: &Ways) -> Result<Connection, String> {
    match target {
        Target::Outside(address) => ways.outside.connect(*address).await,
        Target::Sidecar(Endpoint::Address(address)) => Ok(Box::new(tcp(*address).await?)),
        Target::Sidecar(Endpoint::Socket(path)) => {
            let stream = UnixStream::connect(path).await.map_err(|error| error.kind().to_string())?;
            Ok(Box::new(stream))
        }
        Target::Sidecar(Endpoint::HostService(service)) => ways.host.connect(service).await,
    }
}

/// Starts TLS and verifies the host's certificate.
async fn secure(
    tls: &TlsConnector,
    host: &Host,
    stream: Connection,
) -> Result<tokio_rustls::client::TlsStream<Connection>, Reason> {
    let unreachable = |why: String| Reason::Unreachable(host.clone(), why);
    let name = match host {
        Host::Name(name) => ServerName::try_from(name.clone()).map_err(|error| unreachable(error.to_string()))?,
        Host::V4(address) => ServerName::from(IpAddr::V4(*address)),
        Host::V6(address) => ServerName::from(IpAddr::V6(*address)),
    };
    let secured = timeout(DIAL, tls.connect(name, stream)).await;
    let secured = secured.map_err(|_| unreachable("no TLS in time".into()))?;
    secured.map_err(|error| unreachable(format!("TLS: {error}")))
}

impl Pinned {
    /// Connects to the destination, through the upstream proxy if there is one.
    pub(super) async fn dial(&self) -> Result<Connection, Reason> {
        let stream = self.connect().await?;
        match &self.proxy {
            None => Ok(stream),
            Some((proxy, target)) => proxy.tunnel(stream, target).await.map_err(|why| self.unreachable(why)),
        }
    }

    /// Connects to the first address that accepts: the destination's, or the proxy's.
    async fn connect(&self) -> Result<Connection, Reason> {
        let mut last = String::from("no addresses");
        for target in &self.targets {
            match timeout(DIAL, open(target, &self.ways)).await {
                Ok(Ok(stream)) => {
                    return match &self.proxy {
                        Some((proxy, _)) if proxy.tls => Ok(Box::new(secure(&self.tls, &proxy.host, stream).await?)),
                        _ => Ok(stream),
                    };
                }
                Ok(Err(why)) => last = why,
                Err(_) => last = "no answer in time".into(),
            }
        }
        Err(self.unreachable(last))
    }

    fn unreachable(&self, why: String) -> Reason {
        let why = match &self.proxy {
            Some((proxy, _)) if proxy.inspects => format!("through Pipelock: {why}"),
            Some(_) => format!("through the upstream proxy: {why}"),
            None => why,
        };
        Reason::Unreachable(self.host.clone(), why)
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = DestinationStream;
    type Error = Reason;
    type Future = BoxFuture<'static, Result<DestinationStream, Reason>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Reason>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        async move { connector.open(uri).await }.boxed()
    }
}

/// A connection to a destination.
pub(super) struct DestinationStream {
    io: TokioIo<Connection>,
    h2: bool,
    proxied: bool,
}

impl pool::Connection for DestinationStream {
    fn connected(&self) -> Connected {
        let connected = Connected::new().proxy(self.proxied);
        if self.h2 { connected.negotiated_h2() } else { connected }
    }
}

impl hyper::rt::Read for DestinationStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl hyper::rt::Write for DestinationStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio::net::UnixListener;
    use tokio::time::Instant;

    use super::*;
    use crate::policy::{HostService, Sibling};

    /// As where all connections of the channel are in use.
    #[tokio::test(start_paused = true)]
    async fn a_service_of_this_host_has_so_long_to_answer() {
        let ways = Ways { outside: Outside::Dialer(Path::new("/nonexistent").into()), host: Channel::silent() };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let connector = Connector::new(&Policy::default(), &[], None, ways.clone(), provider).unwrap();
        let service = HostService { name: "full".to_owned(), port: 80 };
        let host = Host::parse("full").unwrap();
        let sibling = Sibling { at: Endpoint::HostService(service), port: 80 };
        let pinned = connector.pin(&host, Destination::Sidecar(sibling)).await.unwrap().unwrap();
        let began = Instant::now();
        let dialled = pinned.dial().await;
        assert_eq!(dialled.err(), Some(Reason::Unreachable(host, "no answer in time".into())));
        assert_eq!(began.elapsed(), DIAL);
    }

    /// An address that never answers takes so long, and then the next one is tried.
    #[tokio::test(start_paused = true)]
    async fn promise_15_each_address_has_so_long_to_answer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dialer");
        // It accepts, and is silent.
        let _listener = UnixListener::bind(&path).unwrap();
        let ways = Ways { outside: Outside::Dialer(path.into()), host: Channel::closed() };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let connector = Connector::new(&Policy::default(), &[], None, ways.clone(), provider).unwrap();
        let host = Host::parse("api.example.com").unwrap();
        for count in [1_u8, 3] {
            let addresses = (1..=count).map(|last| IpAddr::from([93, 184, 215, last])).collect();
            let pinned = Pinned {
                host: host.clone(),
                ways: ways.clone(),
                targets: targets(addresses, 443),
                proxy: None,
                tls: connector.tls_http1.clone(),
            };
            let began = Instant::now();
            let dialled = pinned.dial().await;
            assert_eq!(dialled.err(), Some(Reason::Unreachable(host.clone(), "no answer in time".into())));
            assert_eq!(began.elapsed(), DIAL * u32::from(count));
        }
        // The same for TLS that does not begin.
        let (near, _far) = UnixStream::pair().unwrap();
        let began = Instant::now();
        let secured = secure(&connector.tls, &host, Box::new(near)).await;
        assert_eq!(secured.err(), Some(Reason::Unreachable(host, "no TLS in time".into())));
        assert_eq!(began.elapsed(), DIAL);
    }
}
