//! Reads and writes values asynchronously.

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{LineBuffer, WireError, line};

/// Reads values. Cancel-safe.
#[derive(Debug)]
pub struct Reader<R> {
    from: R,
    lines: LineBuffer,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Reads lines of at most `max` bytes.
    pub fn new(from: R, max: usize) -> Self {
        Self { from, lines: LineBuffer::new(max) }
    }

    /// The next line without its end; `None` at the end of the stream.
    ///
    /// # Errors
    /// The stream breaks, or a line is too long or cut off.
    pub async fn line(&mut self) -> Result<Option<Vec<u8>>, WireError> {
        loop {
            if let Some(line) = self.lines.take()? {
                return Ok(Some(line));
            }
            if self.from.read_buf(self.lines.room()).await? == 0 {
                return self.lines.end().map(|()| None);
            }
        }
    }

    /// The next value; `None` at the end of the stream.
    ///
    /// # Errors
    /// As for a line, or the line is not such a value.
    pub async fn value<T: DeserializeOwned>(&mut self) -> Result<Option<T>, WireError> {
        let line = self.line().await?;
        Ok(line.map(|line| serde_json::from_slice(&line)).transpose()?)
    }
}

/// Writes a value.
///
/// # Errors
/// It cannot be serialized, or the stream breaks.
pub fn send<W: AsyncWrite + Unpin>(to: &mut W, value: &impl Serialize) -> impl Future<Output = std::io::Result<()>> {
    // Serialized before the first await: the value need not be `Sync`.
    let line = line(value);
    async move {
        to.write_all(&line?).await?;
        to.flush().await
    }
}
