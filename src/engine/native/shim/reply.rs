//! What clients of a shim are sent.

use bytes::BytesMut;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::engine::ErrorKind;
use crate::engine::native::protocol::{Frame, Reply};
use crate::wire;

pub(super) fn failed(kind: ErrorKind, message: impl Into<String>) -> Reply {
    Reply::Failed { kind, message: message.into() }
}

pub(super) async fn say(to: &mut (impl AsyncWrite + Unpin), reply: &Reply) -> std::io::Result<()> {
    to.write_all(&wire::line(reply)?).await?;
    to.flush().await
}

pub(super) async fn send(to: &mut (impl AsyncWrite + Unpin), frame: &Frame) -> std::io::Result<()> {
    let mut bytes = BytesMut::new();
    frame.encode(&mut bytes);
    to.write_all(&bytes).await
}
