//! The cred-proxy as a role: its listeners.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

use super::ROLE;
use super::forward::forward;
use super::routes::Route;
use crate::layout::sidecar::{SERVICE_DIR, SOCKET};
use crate::sidecar::message::Never;
use crate::sidecar::outward::{Outward, OutwardClient};
use crate::sidecar::place::{InsideAddresses, Uplink};
use crate::sidecar::role::Role;
use crate::sidecar::socket;

/// Connections at a time; others wait.
const CONNECTIONS: usize = 256;
/// The time limit for the head of a request.
const HEAD: Duration = Duration::from_secs(30);
/// How long to wait when accepting fails.
const AGAIN: Duration = Duration::from_millis(50);

/// The configuration, on standard input. Placeholders only: no value of a credential is in it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The port on the network inside.
    pub port: u16,
    /// Its address there, in a bottle that has such a network; otherwise it has a socket.
    pub inside: Option<InsideAddresses>,
    /// Its way out.
    pub outward: Uplink,
    /// Its routes.
    pub routes: Vec<Route>,
}

/// The role.
pub struct CredProxy {
    routes: Vec<Route>,
    client: OutwardClient<hyper::body::Incoming>,
    permits: Arc<Semaphore>,
}

impl Role for CredProxy {
    const NAME: &'static str = ROLE;
    type Config = Config;
    type Ready = ();
    type Update = Never;
    type Ask = Never;
    type Answer = Never;
    type Notice = Never;

    /// `at` is the folder of the socket for the agent.
    async fn start(config: Config, at: Option<&str>) -> anyhow::Result<(Arc<Self>, ())> {
        let client = Outward::new(&config.outward)?.client();
        let proxy = Arc::new(Self { routes: config.routes, client, permits: Arc::new(Semaphore::new(CONNECTIONS)) });
        unix(&config.outward.listen, &proxy)?;
        match config.inside {
            None => unix(&Path::new(at.unwrap_or(SERVICE_DIR)).join(SOCKET), &proxy)?,
            Some(InsideAddresses { own, agent }) => {
                let listener =
                    TcpListener::bind((own, config.port)).await.with_context(|| format!("listen on {own}"))?;
                let proxy = proxy.clone();
                tokio::spawn(accept(proxy, async move || {
                    let (stream, peer) = listener.accept().await?;
                    Ok((peer.ip() == agent).then_some(stream))
                }));
            }
        }
        Ok((proxy, ()))
    }

    async fn update(&self, update: Never) -> Result<(), String> {
        match update {}
    }

    async fn answer(&self, ask: Never) -> Result<Never, String> {
        match ask {}
    }
}

fn unix(path: &Path, proxy: &Arc<CredProxy>) -> anyhow::Result<()> {
    let listener: UnixListener = socket::listen_again(path, socket::OTHERS)?;
    tokio::spawn(accept(proxy.clone(), async move || Ok(Some(listener.accept().await?.0))));
    Ok(())
}

async fn accept<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    proxy: Arc<CredProxy>,
    mut next: impl AsyncFnMut() -> std::io::Result<Option<S>>,
) {
    loop {
        let Ok(permit) = proxy.permits.clone().acquire_owned().await else { return };
        match next().await {
            Ok(Some(stream)) => {
                let proxy = proxy.clone();
                tokio::spawn(async move {
                    serve(stream, proxy).await;
                    drop(permit);
                });
            }
            Ok(None) => {}
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, proxy: Arc<CredProxy>) {
    let service = service_fn(move |request| {
        let proxy = proxy.clone();
        async move { Ok::<_, Infallible>(forward(request, &proxy.routes, &proxy.client).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD);
    // A client that breaks off has no response to get.
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}
