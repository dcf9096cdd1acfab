//! `egress`: the only way out. An adapter parses a request into an intent, [`crate::policy::authorize`] decides, the
//! request is looked at, [`connect`] resolves, checks and pins the addresses, and the answer comes back. No form of
//! request has another path.

mod body;
mod ca;
mod connect;
mod forward;
mod http;
mod inside;
mod websocket;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

use super::{Message, Ready, SERVICE_DIR, SOCKET, stdio};
use crate::policy::{Allow, AllowSpec, Host, Policy};
use crate::scan::{Rules, Scanner};
use crate::sync::lock;
use ca::Authority;
use connect::Connector;

/// The role's name on the command line.
pub const ROLE: &str = "egress";
/// Connections served at once; further ones wait.
const MAX_CONNECTIONS: usize = 1024;
/// How long to wait when nothing more can be accepted.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a connection to a destination is kept for the next request, and how many for one.
const IDLE: Duration = Duration::from_mins(1);
const MAX_IDLE: usize = 32;

/// What egress is told on its standard input.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The bottle's id, for the CA's name.
    pub bottle: String,
    /// The allowlist.
    pub allow: Vec<AllowSpec>,
    /// Private ranges that the user means to reach.
    #[serde(default)]
    pub ip_allow: Vec<IpNet>,
    /// The bottle's own sidecars by name.
    pub sidecars: BTreeMap<String, SocketAddr>,
    /// Authorities that destinations may be certified by, beyond the public ones, in PEM.
    #[serde(default)]
    pub roots: Vec<String>,
}

/// What egress is told later, on further lines.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Update {
    /// All secrets of the bottle, so far.
    pub secrets: Vec<String>,
}

impl Config {
    fn policy(&self) -> anyhow::Result<Policy> {
        let allow: Result<Vec<Allow>, _> = self.allow.iter().map(AllowSpec::read).collect();
        let (ip_allow, sidecars) = (self.ip_allow.clone(), self.sidecars.clone());
        Ok(Policy { allow: allow.context("read the allowlist")?, ip_allow, sidecars })
    }
}

struct Egress {
    policy: Arc<Policy>,
    connector: Connector,
    client: Client<Connector, forward::Body>,
    /// For what HTTP/2 has no words for.
    client_http1: Client<Connector, forward::Body>,
    authority: Authority,
    rules: Arc<Rules>,
    scanner: Mutex<Arc<Scanner>>,
    /// For hosts that are not looked at.
    blind: Arc<Scanner>,
}

impl Egress {
    fn new(config: &Config) -> anyhow::Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let policy = Arc::new(config.policy()?);
        let connector = Connector::new(policy.clone(), &config.roots, provider.clone())?;
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).pool_max_idle_per_host(MAX_IDLE);
        let rules = Arc::new(Rules::providers()?);
        Ok(Self {
            policy,
            client: builder.build(connector.clone()),
            client_http1: builder.build(connector.http1()),
            connector,
            authority: Authority::new(&config.bottle, provider)?,
            scanner: Mutex::new(Arc::new(Scanner::new(&[], rules.clone()))),
            blind: Arc::new(Scanner::nothing()),
            rules,
        })
    }

    /// What a request to a host is looked at with; the same for the whole of one.
    fn scanner(&self, host: &Host, port: u16) -> Arc<Scanner> {
        if self.policy.scans(host, port) { lock(&self.scanner).clone() } else { self.blind.clone() }
    }

    /// Takes other secrets, whole: requests under way keep what they began with.
    fn update(&self, update: &Update) {
        let scanner = Arc::new(Scanner::new(&update.secrets, self.rules.clone()));
        *lock(&self.scanner) = scanner;
    }
}

/// Serves until the container is stopped.
///
/// # Errors
/// The configuration is bad, or the socket cannot be made.
pub async fn run() -> anyhow::Result<()> {
    let mut input = stdio::Input::new();
    let config: Config = input.next().await?.context("read the configuration: it is not there")?;
    let egress = Arc::new(Egress::new(&config)?);
    let path = std::path::Path::new(SERVICE_DIR).join(SOCKET);
    let listener = UnixListener::bind(&path).with_context(|| format!("listen on {}", path.display()))?;
    // The agent runs as another user and sees this folder read-only: it may connect, nothing else.
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666))?;
    stdio::tell(&Message::Ready(Ready { ca: Some(egress.authority.certificate.clone()) }));
    let updated = egress.clone();
    tokio::spawn(async move {
        // Its end is no reason to stop: the holder has nothing more to say.
        while let Ok(Some(update)) = input.next::<Update>().await {
            updated.update(&update);
            stdio::tell(&Message::Updated);
        }
    });
    tokio::select! {
        served = serve(listener, egress) => served,
        _ = async { signal(SignalKind::terminate())?.recv().await.ok_or_else(|| std::io::Error::other("closed")) } => Ok(()),
    }
}

async fn serve(listener: UnixListener, egress: Arc<Egress>) -> anyhow::Result<()> {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let place = places.clone().acquire_owned().await?;
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, say: those that are served give theirs back.
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let egress = egress.clone();
        tokio::spawn(async move {
            http::serve(stream, egress).await;
            drop(place);
        });
    }
}

#[cfg(test)]
mod inside_tests;
#[cfg(test)]
mod tests;
