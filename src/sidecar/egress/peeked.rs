//! A connection whose first bytes were read already, to detect the protocol.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// How many bytes are read at first.
const FIRST: usize = 4096;

/// Returns the first bytes again, then what follows them.
pub(super) struct Peeked<S> {
    first: Bytes,
    inner: S,
}

impl<S: AsyncRead + Unpin> Peeked<S> {
    /// Waits for the first bytes; empty if the connection has ended.
    pub(super) async fn read(mut inner: S) -> io::Result<Self> {
        let mut first = vec![0; FIRST];
        let length = inner.read(&mut first).await?;
        first.truncate(length);
        Ok(Self { first: first.into(), inner })
    }

    /// A connection of which these bytes were read.
    pub(super) fn with(first: Bytes, inner: S) -> Self {
        Self { first, inner }
    }

    /// The first bytes that are still to be read, and the connection.
    pub(super) fn into_parts(self) -> (Bytes, S) {
        (self.first, self.inner)
    }

    /// The first bytes.
    pub(super) fn first(&self) -> &[u8] {
        &self.first
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Peeked<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.inner).poll_read(context, buffer);
        }
        let length = self.first.len().min(buffer.remaining());
        buffer.put_slice(&self.first[..length]);
        self.first.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Peeked<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, slices)
    }
}
