//! Reads lines from an engine's stream, and writes lines to it.

use std::pin::Pin;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::io::AsyncWrite;

use crate::engine::{EngineError, Output, Streams};
use crate::session::{Class, Failure};
use crate::wire;

/// Maximum length of a container's line, in bytes.
const MAX_LINE: usize = 4 << 20;
/// How much of a container's standard error is kept, in bytes.
const MAX_ERRORS: usize = 4 << 10;

/// Reads a container's standard output by lines, and keeps the end of its standard error for messages.
pub(in crate::primitive) struct Lines {
    output: BoxStream<'static, Result<Output, EngineError>>,
    taken: wire::LineBuffer,
    /// The end of its standard error.
    pub(in crate::primitive) errors: String,
}

impl Lines {
    pub(in crate::primitive) fn new(output: BoxStream<'static, Result<Output, EngineError>>) -> Self {
        Self { output, taken: wire::LineBuffer::new(MAX_LINE), errors: String::new() }
    }

    /// The next line without its newline; `None` when the stream has ended or failed, or the line is too long.
    pub(in crate::primitive) async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(line) = self.taken.take().ok()? {
                return Some(line);
            }
            match self.output.next().await? {
                Ok(Output::Stdout(bytes)) => self.taken.push(&bytes),
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

    /// The next line that parses as JSON of a `T`; other lines are skipped.
    pub(in crate::primitive) async fn next_json<T: serde::de::DeserializeOwned>(&mut self) -> Option<T> {
        while let Some(line) = self.next().await {
            if let Ok(value) = serde_json::from_slice(&line) {
                return Some(value);
            }
        }
        None
    }
}

/// Why there is no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::primitive) enum NoAnswer {
    /// The other end is gone.
    #[error("it does not answer")]
    Ended,
    /// It is connected, but silent.
    #[error("no answer within {} s", .0.as_secs())]
    Late(Duration),
}

/// A channel to a process in a container: requests and responses, each a line of JSON.
pub(in crate::primitive) struct JsonChannel {
    pub(in crate::primitive) lines: Lines,
    pub(in crate::primitive) input: Pin<Box<dyn AsyncWrite + Send>>,
}

impl JsonChannel {
    pub(in crate::primitive) fn new(streams: Streams) -> Self {
        Self { lines: Lines::new(streams.output), input: streams.input }
    }

    /// Sends a request, and waits for the response.
    pub(in crate::primitive) async fn ask<T: serde::de::DeserializeOwned>(
        &mut self,
        question: &(impl serde::Serialize + Sync),
        patience: Duration,
    ) -> Result<T, NoAnswer> {
        let asked = async {
            write_json(&mut self.input, question).await.ok()?;
            self.lines.next_json().await
        };
        match tokio::time::timeout(patience, asked).await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(NoAnswer::Ended),
            Err(_) => Err(NoAnswer::Late(patience)),
        }
    }

    /// A failure of an operation, with the end of the process' standard error as its cause.
    pub(in crate::primitive) fn failure(&self, attempted: &str, why: impl std::fmt::Display) -> Failure {
        let failure = Failure::new(Class::Operation, format!("{attempted}: {why}"));
        let errors = self.lines.errors.trim();
        if errors.is_empty() { failure } else { failure.cause(format!("it wrote: {errors}")) }
    }
}

/// Writes a value as one line of JSON.
pub(in crate::primitive) async fn write_json(
    input: &mut Pin<Box<dyn AsyncWrite + Send>>,
    value: &(impl serde::Serialize + Sync),
) -> std::io::Result<()> {
    wire::send(input, value).await
}
