//! The cred-proxy as a role: its listeners.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::ROLE;
use super::forward::forward;
use super::routes::Route;
use crate::sidecar::dialer::Connection;
use crate::sidecar::listener::Listener;
use crate::sidecar::message::Never;
use crate::sidecar::outward::{Outward, OutwardClient};
use crate::sidecar::place::{InsideAddresses, Uplink};
use crate::sidecar::role::Role;

/// Connections at a time; others wait.
const CONNECTIONS: usize = 256;
/// The time limit for the head of a request.
const HEAD: Duration = Duration::from_secs(30);

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
        let proxy = Arc::new(Self { routes: config.routes, client });
        let permits = Arc::new(Semaphore::new(CONNECTIONS));
        let listeners =
            [Listener::for_egress(&config.outward)?, Listener::for_agent(config.inside, config.port, at).await?];
        for listener in listeners {
            let proxy = proxy.clone();
            listener.serve(permits.clone(), move |connection, permit| serve(connection, permit, proxy.clone()));
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

async fn serve(stream: Connection, _permit: OwnedSemaphorePermit, proxy: Arc<CredProxy>) {
    let service = service_fn(move |request| {
        let proxy = proxy.clone();
        async move { Ok::<_, Infallible>(forward(request, &proxy.routes, &proxy.client).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD);
    // A client that breaks off has no response to get.
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}
