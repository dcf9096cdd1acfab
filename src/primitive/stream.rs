//! Lines out of an engine's stream, and lines into it.

use std::pin::Pin;

use bytes::{Buf, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::engine::{EngineError, Output};

/// Longest line that is taken from a container, in bytes.
const MAX_LINE: usize = 4 << 20;
/// How much of a container's standard error is remembered, in bytes.
const MAX_ERRORS: usize = 4 << 10;

/// Reads a container's standard output by lines, and keeps the end of its standard error for messages.
pub(super) struct Lines {
    output: BoxStream<'static, Result<Output, EngineError>>,
    buffer: BytesMut,
    /// The last it wrote to standard error.
    pub(super) errors: String,
}

impl Lines {
    pub(super) fn new(output: BoxStream<'static, Result<Output, EngineError>>) -> Self {
        Self { output, buffer: BytesMut::new(), errors: String::new() }
    }

    /// The next line without its end; `None` when the stream has ended, broken, or exceeded the bound.
    pub(super) async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
                let line = self.buffer.split_to(end).to_vec();
                self.buffer.advance(1);
                return Some(line);
            }
            if self.buffer.len() > MAX_LINE {
                return None;
            }
            match self.output.next().await? {
                Ok(Output::Stdout(bytes)) => self.buffer.extend_from_slice(&bytes),
                Ok(Output::Stderr(bytes)) => {
                    let text = String::from_utf8_lossy(&bytes);
                    self.errors.extend(text.chars().filter(|c| !c.is_control() || *c == '\n'));
                    if let Some(excess) = self.errors.len().checked_sub(MAX_ERRORS) {
                        let from = self.errors.ceil_char_boundary(excess);
                        self.errors.drain(..from);
                    }
                }
                Err(_) => return None,
            }
        }
    }

    /// The next line that is the JSON of a `T`; other lines are passed over.
    pub(super) async fn next_json<T: serde::de::DeserializeOwned>(&mut self) -> Option<T> {
        while let Some(line) = self.next().await {
            if let Ok(value) = serde_json::from_slice(&line) {
                return Some(value);
            }
        }
        None
    }
}

/// Writes a value as one line of JSON.
pub(super) async fn write_json(
    input: &mut Pin<Box<dyn AsyncWrite + Send>>,
    value: &(impl serde::Serialize + Sync),
) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    input.write_all(&line).await?;
    input.flush().await
}
