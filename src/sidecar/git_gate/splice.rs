//! Joins a client and a process that talk to each other at their own pace.

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

/// Copies in both directions until the far side ends. When the near side ends, the far side's input is closed, by
/// dropping it: `shutdown` does not close the pipe of a process.
///
/// # Errors
/// One side cannot be read or written.
pub(super) async fn splice(
    near: (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    far: (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
) -> std::io::Result<()> {
    let (mut near_reader, mut near_writer) = near;
    let (mut far_reader, mut far_writer) = far;
    let up = async move {
        let copied = tokio::io::copy(&mut near_reader, &mut far_writer).await;
        let _ = far_writer.shutdown().await;
        drop(far_writer);
        copied.map(drop)
    };
    let down = async move {
        let copied = tokio::io::copy(&mut far_reader, &mut near_writer).await;
        let _ = near_writer.shutdown().await;
        copied.map(drop)
    };
    let (mut up, mut down) = (std::pin::pin!(up), std::pin::pin!(down));
    tokio::select! {
        done = &mut down => done,
        // A far side that has ended does not read any more.
        _ = &mut up => down.await,
    }
}
