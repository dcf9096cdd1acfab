//! A sidecar's standard streams: lines of JSON in, the first its configuration, and lines of JSON out.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Stdin};

use super::{Message, Told};

/// Longest line, in bytes.
const MAX_LINE: u64 = 1 << 20;

/// Standard input.
pub(crate) struct Input(BufReader<Stdin>);

impl Input {
    pub(crate) fn new() -> Self {
        Self(BufReader::new(tokio::io::stdin()))
    }

    /// The next line; `None` at the end.
    pub(crate) async fn next<T: DeserializeOwned>(&mut self) -> anyhow::Result<Option<T>> {
        let mut line = Vec::new();
        (&mut self.0).take(MAX_LINE).read_until(b'\n', &mut line).await?;
        if line.is_empty() {
            return Ok(None);
        }
        anyhow::ensure!(line.ends_with(b"\n"), "a line is cut off, or longer than {MAX_LINE} bytes");
        Ok(Some(serde_json::from_slice(&line)?))
    }
}

/// Reads the configuration: one line.
pub(crate) async fn config<T: DeserializeOwned>() -> anyhow::Result<T> {
    Input::new().next().await?.context("there is none")
}

/// Writes one line. A reader that is gone is no reason to stop deciding.
pub(crate) fn tell(message: &Message) {
    static TOLD: AtomicU64 = AtomicU64::new(0);
    // The numbers are in the order of the lines.
    let mut out = std::io::stdout().lock();
    let n = TOLD.fetch_add(1, Ordering::Relaxed) + 1;
    if let Ok(mut line) = serde_json::to_vec(&Told { n, message }) {
        line.push(b'\n');
        let _ = out.write_all(&line).and_then(|()| out.flush());
    }
}
