//! The dialer as a role: its socket, its updates, and how a request is answered.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::outside::tcp;
use super::protocol::{Config, DialRequest, DialResponse, first_line};
use super::resolver::Resolver;
use super::rules::{Rules, canonical};
use super::{ROLE, lock as restrictions};
use crate::layout::sidecar::{SERVICE_DIR, SOCKET};
use crate::net::Host;
use crate::policy::EnforcedPolicy;
use crate::sidecar::message::Never;
use crate::sidecar::role::Role;
use crate::sidecar::socket;
use crate::splice::relay;
use crate::sync::lock;
use crate::wire;

/// Connections at a time, as many as egress serves; others wait.
const CONCURRENT: usize = 1024;
/// The time limit for connecting to an address.
const CONNECT: Duration = Duration::from_secs(10);
/// The time limit for a request to arrive, and for a response to be taken.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long to wait when accepting fails.
const AGAIN: Duration = Duration::from_millis(50);

/// The role.
pub struct Dialer {
    rules: Mutex<Arc<Rules>>,
    resolver: Resolver,
}

impl Role for Dialer {
    const NAME: &'static str = ROLE;
    type Config = Config;
    type Ready = ();
    type Update = Box<EnforcedPolicy>;
    type Ask = Never;
    type Answer = Never;
    type Notice = Never;

    fn prepare() -> anyhow::Result<()> {
        restrictions::restrict()
    }

    async fn start(config: Config, at: Option<&str>) -> anyhow::Result<(Arc<Self>, ())> {
        let resolver = Resolver::of_this_machine()?;
        let dialer = Arc::new(Self { rules: Mutex::new(Arc::new(Rules::new(&config.policy)?)), resolver });
        let path = Path::new(at.unwrap_or(SERVICE_DIR)).join(SOCKET);
        // Egress runs as the same user.
        let listener = socket::listen_again(&path, socket::OWN)?;
        crate::task::spawn(serve(listener, dialer.clone()));
        Ok((dialer, ()))
    }

    fn serving(&self) -> anyhow::Result<()> {
        restrictions::filter()
    }

    async fn update(&self, policy: Box<EnforcedPolicy>) -> Result<(), String> {
        let fresh = Rules::new(&policy).map_err(|error| format!("{error:#}"))?;
        let mut rules = lock(&self.rules);
        // An update that comes twice, or late, changes nothing.
        if fresh.generation > rules.generation {
            *rules = Arc::new(fresh);
        }
        Ok(())
    }

    async fn answer(&self, ask: Never) -> Result<Never, String> {
        match ask {}
    }
}

async fn serve(listener: UnixListener, dialer: Arc<Dialer>) {
    let permits = Arc::new(Semaphore::new(CONCURRENT));
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(AGAIN).await;
            continue;
        };
        let dialer = dialer.clone();
        crate::task::spawn(async move {
            // A client that breaks off has no answer to get.
            let _ = dialer.respond(stream).await;
            drop(permit);
        });
    }
}

impl Dialer {
    async fn respond(&self, mut stream: UnixStream) -> anyhow::Result<()> {
        let line = timeout(PATIENCE, first_line(&mut stream)).await??;
        let (response, connected) = match serde_json::from_slice(&line)? {
            DialRequest::Resolve(name) => (self.resolve(&name).await, None),
            DialRequest::Connect(address) => match self.connect(canonical(address)).await {
                Ok(connected) => (DialResponse::Connected, Some(connected)),
                Err(why) => (DialResponse::Failed(why), None),
            },
        };
        timeout(PATIENCE, wire::send(&mut stream, &response)).await??;
        if let Some(connected) = connected {
            relay(&stream, &connected).await?;
        }
        Ok(())
    }

    async fn resolve(&self, name: &str) -> DialResponse {
        let host = match Host::parse(name) {
            Ok(host) => host,
            Err(error) => return DialResponse::Failed(error.to_string()),
        };
        self.resolver.resolve(&host).await.map_or_else(DialResponse::Failed, DialResponse::Addresses)
    }

    async fn connect(&self, address: SocketAddr) -> Result<TcpStream, String> {
        let rules = lock(&self.rules).clone();
        rules.check(address, &self.resolver).await?;
        timeout(CONNECT, tcp(address)).await.map_err(|_| "no answer in time".to_owned())?
    }
}
