//! What leads the holder to the channel: an exec in egress' container.

use std::path::Path;

use anyhow::Context;
use tokio::net::UnixStream;

use crate::layout::sidecar::{CTL_DIR, HOST_SOCKET};
use crate::sidecar::stdio;

/// The role's name on the command line.
pub const ROLE: &str = "host-services";

/// Connects standard streams to the channel's socket.
///
/// # Errors
/// Egress does not listen, or a stream breaks.
pub async fn relay() -> anyhow::Result<()> {
    let stream = UnixStream::connect(Path::new(CTL_DIR).join(HOST_SOCKET)).await;
    stdio::join(stream.context("egress has no such socket")?).await
}
