//! Relays loopback addresses to the sidecars: to their sockets, or to their addresses on the network inside.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddrV4;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixStream};

use crate::layout::agent::{Far, SERVICES_DIR};

/// Buffer size in each direction, in bytes.
pub(super) const BUFFER: usize = 64 << 10;

/// How long to wait when accepting fails.
pub(super) const PAUSE: Duration = Duration::from_millis(50);

/// The time limit for a connection to a sidecar on the network inside.
const CONNECT: Duration = Duration::from_secs(3);

/// Listens on the address of every relay.
pub(super) async fn start(relays: &BTreeMap<SocketAddrV4, Far>, gvisor: bool) -> anyhow::Result<()> {
    for (address, far) in relays {
        let listener = TcpListener::bind(address).await.with_context(|| format!("listen on {address} for {far:?}"))?;
        crate::task::spawn(accept(listener, far.clone(), gvisor));
    }
    Ok(())
}

async fn accept(listener: TcpListener, far: Far, gvisor: bool) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Probably out of descriptors: existing connections continue, and will free theirs.
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let far = far.clone();
        crate::task::spawn(carry(stream, far, gvisor));
    }
}

/// A sidecar that is gone looks like a closed port.
async fn carry(near: TcpStream, far: Far, gvisor: bool) {
    let _ = near.set_nodelay(true);
    match far {
        Far::Socket(socket) => {
            if let Ok(far) = UnixStream::connect(Path::new(SERVICES_DIR).join(socket)).await {
                copy(near, far, gvisor).await;
            }
        }
        Far::Address(address) => {
            // On the same machine a peer accepts at once or is gone; the kernel would retry for minutes.
            if let Ok(Ok(far)) = tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
                let _ = far.set_nodelay(true);
                copy(near, far, gvisor).await;
            }
        }
    }
}

async fn copy<N: Ready, F: Ready>(mut near: N, mut far: F, gvisor: bool) {
    let _ = if gvisor {
        let (mut near, mut far) = (Eager(near), Eager(far));
        tokio::io::copy_bidirectional_with_sizes(&mut near, &mut far, BUFFER, BUFFER).await
    } else {
        tokio::io::copy_bidirectional_with_sizes(&mut near, &mut far, BUFFER, BUFFER).await
    };
}

/// A stream whose readiness can be polled.
trait Ready: AsyncRead + AsyncWrite + Unpin {
    fn poll_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>>;
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize>;
}

impl Ready for TcpStream {
    fn poll_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(context)
    }

    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.try_read(buffer)
    }
}

impl Ready for UnixStream {
    fn poll_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(context)
    }

    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.try_read(buffer)
    }
}

/// A stream that is read until it would block. tokio waits for the next readiness event as soon as a read did not fill
/// the buffer, but gVisor sends no second event for an end that arrived together with data.
struct Eager<S>(S);

impl<S: Ready> AsyncRead for Eager<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            std::task::ready!(self.0.poll_ready(context))?;
            match self.0.try_read(into.initialize_unfilled()) {
                Ok(length) => {
                    into.advance(length);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl<S: Ready> AsyncWrite for Eager<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
