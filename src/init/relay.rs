//! Loopback addresses that lead to the sidecars: to their sockets, or to their addresses on the network inside.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use tokio::net::{TcpListener, TcpStream, UnixStream};

use super::{Far, SERVICES_DIR};

/// Bytes carried at once, each way.
pub(super) const BUFFER: usize = 64 << 10;

/// How long to wait when nothing more can be accepted.
pub(super) const PAUSE: Duration = Duration::from_millis(50);

/// How long a sidecar on the network inside may take to accept.
const CONNECT: Duration = Duration::from_secs(3);

/// Listens on every relay's address.
pub(super) async fn start(relays: &BTreeMap<SocketAddrV4, Far>) -> anyhow::Result<()> {
    for (address, far) in relays {
        let listener = TcpListener::bind(address).await.with_context(|| format!("listen on {address} for {far:?}"))?;
        tokio::spawn(accept(listener, far.clone()));
    }
    Ok(())
}

async fn accept(listener: TcpListener, far: Far) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, say: what was accepted goes on, and after a while the next one may fit again.
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let far = far.clone();
        tokio::spawn(carry(stream, far));
    }
}

/// A sidecar that is gone gives what a closed port gives: nothing.
async fn carry(mut near: TcpStream, far: Far) {
    let _ = near.set_nodelay(true);
    match far {
        Far::Socket(socket) => {
            if let Ok(mut far) = UnixStream::connect(Path::new(SERVICES_DIR).join(socket)).await {
                let _ = tokio::io::copy_bidirectional_with_sizes(&mut near, &mut far, BUFFER, BUFFER).await;
            }
        }
        Far::Address(address) => {
            // On the same machine one answers at once, or is gone: then the kernel would go on asking for minutes.
            if let Ok(Ok(mut far)) = tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
                let _ = far.set_nodelay(true);
                let _ = tokio::io::copy_bidirectional_with_sizes(&mut near, &mut far, BUFFER, BUFFER).await;
            }
        }
    }
}
