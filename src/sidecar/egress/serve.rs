//! Where connections come in: the agent's, and those of sidecars that go out through egress, each by a listener of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use nix::sys::resource::{Resource, getrlimit};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

use super::connection_permit::ConnectionPermit;
use super::stream::Stream;
use super::{Egress, http, tcp};

/// Connections served at once; further ones wait.
const MAX_CONNECTIONS: usize = 1024;
/// The same for one sidecar.
const SIDECAR_CONNECTIONS: usize = 256;
/// Places of the listener for the repeated proof, and how long a connection there may last: however many the agent has
/// elsewhere, the proof finds one. Whoever else connects there gets what it would get anywhere.
const PROOF_CONNECTIONS: usize = 8;
const PROOF_TIME: Duration = Duration::from_secs(30);
/// Descriptors that connections of the agent's leave to everything else: its requests' destinations, the operator's questions.
const SPARE_DESCRIPTORS: u64 = 64;
/// How long to wait when nothing more can be accepted.
const PAUSE: Duration = Duration::from_millis(50);

/// Where they come in.
pub(super) enum Listener {
    /// A socket in egress' volume.
    Unix(UnixListener),
    /// An address on the network inside, and the only one that is served there; or of a machine where there is no bottle.
    Tcp(TcpListener, Option<Ipv4Addr>),
}

/// What all listeners share: so many connections there may be.
pub(super) fn agent_permits() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MAX_CONNECTIONS))
}

/// What one sidecar has: the agent takes it nothing away.
pub(super) fn sidecar_permits() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(SIDECAR_CONNECTIONS))
}

/// Listens on an address.
pub(super) async fn address(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))
}

/// Serves a listener from now on: requests to the proxy, or bytes for a `named` destination of plain TCP, by its place in
/// the list.
pub(super) fn spawn(listener: Listener, named: Option<usize>, egress: Arc<Egress>, permits: Arc<Semaphore>) {
    spawn_bounded(listener, named, egress, permits, None);
}

/// Serves the listener for the repeated proof.
pub(super) fn spawn_proof(listener: Listener, egress: Arc<Egress>) {
    spawn_bounded(listener, None, egress, Arc::new(Semaphore::new(PROOF_CONNECTIONS)), Some(PROOF_TIME));
}

/// A connection, unless its descriptor is one of the last: the system gives out the lowest that is free.
fn spare<S: AsRawFd + AsyncRead + AsyncWrite + Send + Unpin + 'static>(stream: S) -> std::io::Result<Stream> {
    let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let descriptor = u64::try_from(stream.as_raw_fd()).unwrap_or(u64::MAX);
    if descriptor.saturating_add(SPARE_DESCRIPTORS) >= limit {
        return Err(std::io::Error::other("no descriptor to spare"));
    }
    Ok(Box::new(stream))
}

fn spawn_bounded(
    listener: Listener,
    named: Option<usize>,
    egress: Arc<Egress>,
    permits: Arc<Semaphore>,
    longest: Option<Duration>,
) {
    tokio::spawn(async move {
        while let Ok(permit) = permits.clone().acquire_owned().await {
            let accepted: std::io::Result<Stream> = match &listener {
                Listener::Unix(listener) => match listener.accept().await {
                    Ok((stream, _)) => spare(stream),
                    Err(error) => Err(error),
                },
                Listener::Tcp(listener, only) => match listener.accept().await {
                    // Nobody else is told anything.
                    Ok((_, peer)) if only.is_some_and(|only| peer.ip() != only) => continue,
                    Ok((stream, _)) => {
                        let _ = stream.set_nodelay(true);
                        spare(stream)
                    }
                    Err(error) => Err(error),
                },
            };
            let Ok(stream) = accepted else {
                // Out of descriptors, say: those that are served give theirs back.
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let egress = egress.clone();
            let permit = ConnectionPermit::new(&egress, Some(permit));
            tokio::spawn(async move {
                match named {
                    Some(index) => {
                        tcp::serve(stream, index, &egress).await;
                        drop(permit);
                    }
                    None => match longest {
                        Some(longest) => drop(tokio::time::timeout(longest, http::serve(stream, egress, permit)).await),
                        None => http::serve(stream, egress, permit).await,
                    },
                }
            });
        }
    });
}
