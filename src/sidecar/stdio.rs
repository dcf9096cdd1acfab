//! A sidecar's standard streams: lines of JSON in, the first its configuration, and lines of JSON out.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Stdin;

use super::message::OutputLine;
use crate::wire::{Reader, send_blocking};

/// Longest line, in bytes.
pub(crate) const MAX_LINE: usize = 1 << 20;

/// Standard input.
pub(crate) struct Input(Reader<Stdin>);

impl Input {
    pub(crate) fn new() -> Self {
        Self(Reader::new(tokio::io::stdin(), MAX_LINE))
    }

    /// The next line; `None` at the end.
    pub(crate) async fn next<T: DeserializeOwned>(&mut self) -> anyhow::Result<Option<T>> {
        Ok(self.0.value().await?)
    }
}

/// How many lines were written.
static LINES_WRITTEN: AtomicU64 = AtomicU64::new(0);

/// Goes on after a line that an earlier process of this container wrote.
pub(super) fn continue_after(n: u64) {
    LINES_WRITTEN.store(n, Ordering::Relaxed);
}

/// Writes one line. A reader that is gone is no reason to stop deciding.
pub(crate) fn write(message: &impl Serialize) {
    // The numbers are in the order of the lines.
    let mut out = std::io::stdout().lock();
    let n = LINES_WRITTEN.fetch_add(1, Ordering::Relaxed) + 1;
    let _ = send_blocking(&mut out, &OutputLine { n, message });
}
