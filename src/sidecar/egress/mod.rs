//! `egress`: the only way out. An adapter parses a request into an intent, [`crate::policy::authorize`] decides,
//! [`connect`] resolves, checks and pins the addresses, and relays carry bytes. No form of request has another path.

mod ca;
mod connect;
mod http;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

use super::{Message, Ready, SERVICE_DIR, SOCKET, stdio};
use crate::policy::{Policy, Rule};
use connect::Connector;

/// The role's name on the command line.
pub const ROLE: &str = "egress";
/// Connections served at once; further ones wait.
const MAX_CONNECTIONS: usize = 1024;

/// How long to wait when nothing more can be accepted.
const PAUSE: Duration = Duration::from_millis(50);

/// What egress is told on its standard input.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The bottle's id, for the CA's name.
    pub bottle: String,
    /// The allowlist.
    pub allow: Vec<String>,
    /// The bottle's own sidecars by name.
    pub sidecars: BTreeMap<String, SocketAddr>,
}

impl Config {
    fn policy(&self) -> anyhow::Result<Policy> {
        let rules: Result<Vec<Rule>, _> = self.allow.iter().map(|rule| rule.parse()).collect();
        Ok(Policy { allow: rules.context("read the allowlist")?, sidecars: self.sidecars.clone() })
    }
}

struct Egress {
    policy: Policy,
    connector: Connector,
}

/// Serves until the container is stopped.
///
/// # Errors
/// The configuration is bad, or the socket cannot be made.
pub async fn run() -> anyhow::Result<()> {
    let config: Config = stdio::config().await.context("read the configuration")?;
    let egress = Arc::new(Egress { policy: config.policy()?, connector: Connector::new()? });
    let path = std::path::Path::new(SERVICE_DIR).join(SOCKET);
    let listener = UnixListener::bind(&path).with_context(|| format!("listen on {}", path.display()))?;
    // The agent runs as another user and sees this folder read-only: it may connect, nothing else.
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666))?;
    let authority = ca::Authority::new(&config.bottle)?;
    stdio::tell(&Message::Ready(Ready { ca: Some(authority.certificate) }));
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
mod tests;
