//! A port on loopback that leads through egress to one destination: ssh connects there, and needs neither a shell nor
//! a proxy command. The host is known by its pinned key, whatever the address.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context;
use tokio::net::{TcpListener, UnixStream};

use super::conversation::Task;
use crate::sidecar::outward::{TunnelError, tunnel};
use crate::splice::relay;

/// Listens for one connection; whatever it is used for ends when the task is dropped.
///
/// # Errors
/// It cannot listen.
pub(super) async fn listen(proxy: &Path, host: &str, port: u16) -> anyhow::Result<(SocketAddr, Task)> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("listen on loopback")?;
    let address = listener.local_addr()?;
    let (proxy, authority) = (proxy.to_owned(), format!("{host}:{port}"));
    let task = crate::task::spawn(async move {
        let Ok((near, _)) = listener.accept().await else { return };
        drop(listener);
        // If egress refuses, the connection ends, and ssh says so.
        if let Ok(far) = connect(&proxy, &authority).await {
            let _ = relay(&near, &far).await;
        }
    });
    Ok((address, Task(task)))
}

/// Opens a connection through egress.
///
/// # Errors
/// Egress refuses; the error has its reason.
pub(super) async fn connect(proxy: &Path, authority: &str) -> anyhow::Result<UnixStream> {
    tunnel(proxy, authority).await.map_err(|error| match error {
        TunnelError::Refused(why) => anyhow::anyhow!("egress refuses {authority}: {}", super::visible::reason(&why)),
        other => other.into(),
    })
}
