//! A shim's client: the engine's end of the socket in a container's folder.

use std::io::{Error, ErrorKind as Io};
use std::os::fd::AsRawFd;
use std::path::Path;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::protocol::{Frame, MAX_LINE, Reply, Request, SOCKET};
use crate::wire;

/// A connection on which a request was made.
pub(super) struct Connection {
    from: BufReader<OwnedReadHalf>,
    to: OwnedWriteHalf,
}

impl Connection {
    /// Asks the shim of a container, by its folder.
    ///
    /// # Errors
    /// `NotFound` or `ConnectionRefused` where none is running.
    pub(super) async fn open(container: &Path, request: &Request) -> std::io::Result<Self> {
        // A socket's path has a bound of 108 bytes; that of a descriptor is short.
        let folder = std::fs::File::open(container)?;
        let path = format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd());
        let (from, mut to) = UnixStream::connect(path).await?.into_split();
        to.write_all(&wire::line(request)?).await?;
        Ok(Self { from: BufReader::new(from), to })
    }

    /// The answer.
    ///
    /// # Errors
    /// The shim has gone, or says something else.
    pub(super) async fn reply(&mut self) -> std::io::Result<Reply> {
        let mut line = Vec::new();
        (&mut self.from).take(MAX_LINE as u64).read_until(b'\n', &mut line).await?;
        if line.is_empty() {
            return Err(Error::new(Io::UnexpectedEof, "the container's shim has gone"));
        }
        serde_json::from_slice(&line).map_err(Error::other)
    }

    /// The streams that follow an answer.
    pub(super) fn split(self) -> (BoxStream<'static, std::io::Result<Frame>>, OwnedWriteHalf) {
        let frames = futures_util::stream::unfold(Some(self.from), |from| async {
            let mut from = from?;
            match Frame::read(&mut from).await {
                Ok(None) => None,
                Ok(Some(frame)) => Some((Ok(frame), Some(from))),
                Err(error) => Some((Err(error), None)),
            }
        });
        (frames.boxed(), self.to)
    }
}

/// Pieces of an archive, sent to a helper; the end of its standard input follows.
///
/// # Errors
/// The archive breaks off, or the helper does not read on.
pub(super) async fn feed(
    mut to: OwnedWriteHalf,
    mut pieces: BoxStream<'static, std::io::Result<Bytes>>,
) -> std::io::Result<()> {
    while let Some(piece) = pieces.next().await {
        to.write_all(&piece?).await?;
    }
    to.shutdown().await
}
