//! A port on loopback that leads through egress to one destination: ssh connects there, and needs neither a shell nor
//! a proxy command. The host is known by its pinned key, whatever the address.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};

use super::conversation::Task;

/// Maximum size of egress' response to a CONNECT, in bytes.
const MAX_HEAD: usize = 8 << 10;

/// Listens for one connection; whatever it is used for ends when the task is dropped.
///
/// # Errors
/// It cannot listen.
pub(super) async fn listen(proxy: &Path, host: &str, port: u16) -> anyhow::Result<(SocketAddr, Task)> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("listen on loopback")?;
    let address = listener.local_addr()?;
    let (proxy, authority) = (proxy.to_owned(), format!("{host}:{port}"));
    let task = tokio::spawn(async move {
        let Ok((mut near, _)) = listener.accept().await else { return };
        drop(listener);
        // If egress refuses, the connection ends, and ssh says so.
        if let Ok(mut far) = connect(&proxy, &authority).await {
            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        }
    });
    Ok((address, Task(task)))
}

/// Opens a connection through egress.
///
/// # Errors
/// Egress refuses; the error has its reason.
pub(super) async fn connect(proxy: &Path, authority: &str) -> anyhow::Result<UnixStream> {
    let mut stream = UnixStream::connect(proxy).await.context("connect to egress")?;
    stream.write_all(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n").as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        anyhow::ensure!(head.len() < MAX_HEAD, "egress' response to a CONNECT is too long");
        head.push(stream.read_u8().await.context("egress does not respond to a CONNECT")?);
    }
    if head.starts_with(b"HTTP/1.1 200") {
        return Ok(stream);
    }
    let mut reason = Vec::new();
    let _ = stream.take(MAX_HEAD as u64).read_to_end(&mut reason).await;
    anyhow::bail!("egress refuses {authority}: {}", super::visible::reason(&String::from_utf8_lossy(&reason)))
}
