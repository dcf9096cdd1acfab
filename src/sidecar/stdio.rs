//! The standard streams of a sidecar: lines of JSON. The first line of input is the configuration.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncWriteExt, Stdin};
use tokio::net::UnixStream;

use super::message::OutputLine;
use crate::wire::{Reader, send_blocking};

/// Maximum length of a line, in bytes.
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

/// The number of lines written.
static LINES_WRITTEN: AtomicU64 = AtomicU64::new(0);

/// Continues the numbering after the last line of an earlier run of this container.
pub(super) fn continue_after(n: u64) {
    LINES_WRITTEN.store(n, Ordering::Relaxed);
}

/// Connects the standard streams of an exec to a socket, until the socket's end.
///
/// # Errors
/// A stream breaks.
pub(crate) async fn join(stream: UnixStream) -> anyhow::Result<()> {
    let (mut from, mut to) = stream.into_split();
    let sent = async {
        tokio::io::copy(&mut tokio::io::stdin(), &mut to).await?;
        to.shutdown().await
    };
    let received = async { tokio::io::copy(&mut from, &mut tokio::io::stdout()).await.map(drop) };
    tokio::pin!(sent, received);
    tokio::select! {
        done = &mut received => Ok(done?),
        sent = &mut sent => {
            sent?;
            Ok(received.await?)
        }
    }
}

/// Writes one line. A missing reader does not stop the sidecar.
pub(crate) fn write(message: &impl Serialize) {
    // The lock keeps the numbers in the order of the lines.
    let mut out = std::io::stdout().lock();
    let n = LINES_WRITTEN.fetch_add(1, Ordering::Relaxed) + 1;
    let _ = send_blocking(&mut out, &OutputLine { n, message });
}
