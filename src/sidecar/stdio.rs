//! A sidecar's standard streams: configuration in, lines of JSON out.

use std::io::Write;

use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use super::Message;

/// Largest configuration, in bytes.
const MAX_CONFIG: u64 = 1 << 20;

/// Reads the configuration: one line.
pub(crate) async fn config<T: DeserializeOwned>() -> anyhow::Result<T> {
    let mut line = Vec::new();
    BufReader::new(tokio::io::stdin().take(MAX_CONFIG)).read_until(b'\n', &mut line).await?;
    anyhow::ensure!(line.ends_with(b"\n"), "the configuration is cut off, or longer than {MAX_CONFIG} bytes");
    Ok(serde_json::from_slice(&line)?)
}

/// Writes one line. A reader that is gone is no reason to stop deciding.
pub(crate) fn tell(message: &Message) {
    if let Ok(mut line) = serde_json::to_vec(message) {
        line.push(b'\n');
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(&line).and_then(|()| out.flush());
    }
}
