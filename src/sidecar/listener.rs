//! The listeners of a sidecar: one for the agent, on the network inside or in the sidecar's volume, and one for egress, in the volume
//! that the two share.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

use super::place::{InsideAddresses, Uplink};
use super::socket;
use crate::layout::sidecar::{SERVICE_DIR, SOCKET};

/// How long to wait when accepting fails.
const PAUSE: Duration = Duration::from_millis(50);

/// A connection of either kind.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A listener.
pub(super) enum Listener {
    /// A socket in a volume.
    Unix(UnixListener),
    /// An address, with the only peer that is served.
    Tcp(TcpListener, Option<Ipv4Addr>),
}

impl Listener {
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
            let path = Path::new(at.unwrap_or(SERVICE_DIR)).join(SOCKET);
            return Ok(Self::Unix(socket::listen_again(&path, socket::OTHERS)?));
        };
        let listener = TcpListener::bind((own, port)).await.with_context(|| format!("listen on {own}"))?;
        Ok(Self::Tcp(listener, Some(agent)))
    }

    /// For egress.
    ///
    /// # Errors
    /// It cannot listen.
    pub(super) fn for_egress(outward: &Uplink) -> anyhow::Result<Self> {
        Ok(Self::Unix(socket::listen_again(&outward.listen, socket::OTHERS)?))
    }

    /// Serves connections, each in a task of its own and with a permit; without one, it waits.
    pub(super) fn serve<F>(self, permits: Arc<Semaphore>, serve: impl Fn(Box<dyn Stream>) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        tokio::spawn(async move {
            while let Ok(permit) = permits.clone().acquire_owned().await {
                match self.accept().await {
                    Ok(Some(stream)) => {
                        let served = serve(stream);
                        tokio::spawn(async move {
                            served.await;
                            drop(permit);
                        });
                    }
                    Ok(None) => {}
                    Err(_) => tokio::time::sleep(PAUSE).await,
                }
            }
        });
    }

    /// The next connection; `None` for a peer that is not served.
    async fn accept(&self) -> std::io::Result<Option<Box<dyn Stream>>> {
        match self {
            Self::Unix(listener) => Ok(Some(Box::new(listener.accept().await?.0))),
            Self::Tcp(listener, only) => {
                let (stream, peer) = listener.accept().await?;
                if only.is_some_and(|only| peer.ip() != only) {
                    return Ok(None);
                }
                let _ = stream.set_nodelay(true);
                Ok(Some(Box::new(stream)))
            }
        }
    }
}
