//! Accepts connections: the agent's, and those of sidecars that go out through egress, each from its own listener.

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

/// Maximum number of concurrent connections; further ones wait.
const MAX_CONNECTIONS: usize = 1024;
/// The same for one sidecar.
const SIDECAR_CONNECTIONS: usize = 256;
/// Connections reserved for the repeated proof, and how long each may last. The agent cannot use them up; a connection
/// there is treated like any other.
const PROOF_CONNECTIONS: usize = 8;
const PROOF_TIME: Duration = Duration::from_secs(30);
/// File descriptors that the agent's connections leave free, for destinations and for the operator's commands.
const SPARE_DESCRIPTORS: u64 = 64;
/// How long to wait when accepting fails.
const PAUSE: Duration = Duration::from_millis(50);

/// A listener.
pub(super) enum Listener {
    /// A socket in egress' volume.
    Unix(UnixListener),
    /// An address on the network inside, with the only peer that is served; without a peer on a machine without a
    /// bottle.
    Tcp(TcpListener, Option<Ipv4Addr>),
}

/// The connection permits that the agent's listeners share.
pub(super) fn agent_permits() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MAX_CONNECTIONS))
}

/// The connection permits of one sidecar, which the agent cannot use up.
pub(super) fn sidecar_permits() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(SIDECAR_CONNECTIONS))
}

/// Listens on an address.
pub(super) async fn address(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))
}

/// Starts to serve a listener: requests to the proxy, or the TCP destination with the index `named`.
pub(super) fn spawn(listener: Listener, named: Option<usize>, egress: Arc<Egress>, permits: Arc<Semaphore>) {
    spawn_bounded(listener, named, egress, permits, None);
}

/// Starts to serve the listener for the repeated proof.
pub(super) fn spawn_proof(listener: Listener, egress: Arc<Egress>) {
    spawn_bounded(listener, None, egress, Arc::new(Semaphore::new(PROOF_CONNECTIONS)), Some(PROOF_TIME));
}

/// Rejects a connection if its descriptor is one of the last: the system assigns the lowest free one.
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
                    // Other peers are closed without a response.
                    Ok((_, peer)) if only.is_some_and(|only| peer.ip() != only) => continue,
                    Ok((stream, _)) => {
                        let _ = stream.set_nodelay(true);
                        spare(stream)
                    }
                    Err(error) => Err(error),
                },
            };
            let Ok(stream) = accepted else {
                // Probably out of descriptors: served connections will free theirs.
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
