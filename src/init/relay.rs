//! Relays loopback addresses to the sidecars: to their sockets, or to their addresses on the network inside.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use tokio::net::{TcpListener, TcpStream, UnixStream};

use crate::layout::agent::{Far, SERVICES_DIR};
use crate::splice::relay;

/// How long to wait when accepting fails.
pub(super) const PAUSE: Duration = Duration::from_millis(50);

/// The time limit for a connection to a sidecar on the network inside.
const CONNECT: Duration = Duration::from_secs(3);

/// Listens on the address of every relay.
pub(super) async fn start(relays: &BTreeMap<SocketAddrV4, Far>) -> anyhow::Result<()> {
    for (address, far) in relays {
        let listener = TcpListener::bind(address).await.with_context(|| format!("listen on {address} for {far:?}"))?;
        crate::task::spawn(accept(listener, far.clone()));
    }
    Ok(())
}

async fn accept(listener: TcpListener, far: Far) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Probably out of descriptors: existing connections continue, and will free theirs.
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let far = far.clone();
        crate::task::spawn(carry(stream, far));
    }
}

/// A sidecar that is gone looks like a closed port.
async fn carry(near: TcpStream, far: Far) {
    let _ = near.set_nodelay(true);
    match far {
        Far::Socket(socket) => {
            if let Ok(far) = UnixStream::connect(Path::new(SERVICES_DIR).join(socket)).await {
                let _ = relay(&near, &far).await;
            }
        }
        Far::Address(address) => {
            // On the same machine a peer accepts at once or is gone; the kernel would retry for minutes.
            if let Ok(Ok(far)) = tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
                let _ = far.set_nodelay(true);
                let _ = relay(&near, &far).await;
            }
        }
    }
}
