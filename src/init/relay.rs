//! Loopback addresses that lead to the sidecars' sockets.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use tokio::net::{TcpListener, TcpStream, UnixStream};

use super::SERVICES_DIR;

/// Bytes carried at once, each way.
pub(super) const BUFFER: usize = 64 << 10;

/// How long to wait when nothing more can be accepted.
pub(super) const PAUSE: Duration = Duration::from_millis(50);

/// Listens on every relay's address.
pub(super) async fn start(relays: &BTreeMap<SocketAddrV4, String>) -> anyhow::Result<()> {
    for (address, socket) in relays {
        let listener = TcpListener::bind(address).await.with_context(|| format!("listen on {address} for {socket}"))?;
        tokio::spawn(accept(listener, Path::new(SERVICES_DIR).join(socket)));
    }
    Ok(())
}

async fn accept(listener: TcpListener, socket: PathBuf) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, say: what was accepted goes on, and after a while the next one may fit again.
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let socket = socket.clone();
        tokio::spawn(carry(stream, socket));
    }
}

async fn carry(mut near: TcpStream, socket: PathBuf) {
    let _ = near.set_nodelay(true);
    // A sidecar that is gone gives what a closed port gives: nothing.
    if let Ok(mut far) = UnixStream::connect(socket).await {
        let _ = tokio::io::copy_bidirectional_with_sizes(&mut near, &mut far, BUFFER, BUFFER).await;
    }
}
