//! The listeners of a sidecar: those for the agent, on the network inside or in the sidecar's volume, and those for other sidecars, in
//! the volume that the two share.
//!
//! Attacks that this stops: so many connections that the sidecar has no descriptor left for destinations and for the holder.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use nix::sys::resource::{Resource, getrlimit};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::dialer::Connection;
use super::place::{InsideAddresses, Uplink};
use super::socket;
use crate::layout::sidecar::{SERVICE_DIR, SOCKET};

/// How long to wait when accepting fails.
const PAUSE: Duration = Duration::from_millis(50);
/// File descriptors that accepted connections leave free.
const SPARE_DESCRIPTORS: u64 = 64;

/// A listener.
pub(super) enum Listener {
    /// A socket in a volume.
    Unix(UnixListener),
    /// An address, with the only peer that is served; without a peer on a machine without a bottle.
    Tcp(TcpListener, Option<Ipv4Addr>),
}

impl Listener {
    /// A socket in a volume.
    ///
    /// # Errors
    /// It cannot listen.
    pub(super) fn at(path: &Path) -> anyhow::Result<Self> {
        Ok(Self::Unix(socket::listen_again(path, socket::OTHERS)?))
    }

    /// An address, and the only peer that is served.
    ///
    /// # Errors
    /// It cannot listen.
    pub(super) async fn on(address: SocketAddr, peer: Option<Ipv4Addr>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))?;
        Ok(Self::Tcp(listener, peer))
    }

    /// The address that it listens on.
    ///
    /// # Errors
    /// It is a socket in a volume.
    pub(super) fn address(&self) -> anyhow::Result<SocketAddr> {
        match self {
            Self::Unix(_) => anyhow::bail!("a socket in a volume has no address"),
            Self::Tcp(listener, _) => Ok(listener.local_addr()?),
        }
    }

    /// For the agent. `at` is the folder of the socket, if it is not the usual one.
    ///
    /// # Errors
    /// It cannot listen.
    pub(super) async fn for_agent(
        inside: Option<InsideAddresses>,
        port: u16,
        at: Option<&str>,
    ) -> anyhow::Result<Self> {
        let Some(InsideAddresses { own, agent }) = inside else {
            return Self::at(&Path::new(at.unwrap_or(SERVICE_DIR)).join(SOCKET));
        };
        Self::on((own, port).into(), Some(agent)).await
    }

    /// For egress.
    ///
    /// # Errors
    /// It cannot listen.
    pub(super) fn for_egress(outward: &Uplink) -> anyhow::Result<Self> {
        Self::at(&outward.listen)
    }

    /// Serves connections, each in a task of its own. The permit belongs to what serves it; without one, it waits.
    pub(super) fn serve<F>(
        self,
        permits: Arc<Semaphore>,
        serve: impl Fn(Connection, OwnedSemaphorePermit) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        crate::task::spawn(async move {
            while let Ok(permit) = permits.clone().acquire_owned().await {
                match self.accept().await {
                    Ok(Some(connection)) => drop(crate::task::spawn(serve(connection, permit))),
                    Ok(None) => {}
                    // Probably out of descriptors: served connections will free theirs.
                    Err(_) => tokio::time::sleep(PAUSE).await,
                }
            }
        });
    }

    /// The next connection; `None` for a peer that is not served.
    async fn accept(&self) -> std::io::Result<Option<Connection>> {
        match self {
            Self::Unix(listener) => {
                let (connection, _) = listener.accept().await?;
                spare(&connection)?;
                Ok(Some(Box::new(connection)))
            }
            Self::Tcp(listener, only) => {
                let (connection, peer) = listener.accept().await?;
                if only.is_some_and(|only| peer.ip() != only) {
                    return Ok(None);
                }
                spare(&connection)?;
                let _ = connection.set_nodelay(true);
                Ok(Some(Box::new(connection)))
            }
        }
    }
}

/// Fails if a connection's descriptor is one of the last: the system assigns the lowest free one.
fn spare(connection: &impl AsRawFd) -> std::io::Result<()> {
    let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let descriptor = u64::try_from(connection.as_raw_fd()).unwrap_or(u64::MAX);
    if descriptor.saturating_add(SPARE_DESCRIPTORS) >= limit {
        return Err(std::io::Error::other("no descriptor to spare"));
    }
    Ok(())
}
