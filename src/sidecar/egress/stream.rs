//! A connection of any kind.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

/// The time limit for one connection attempt, and for the TLS handshake after it.
pub(super) const DIAL: Duration = Duration::from_secs(10);

/// A byte stream in both directions.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}
pub(super) type Stream = Box<dyn Io>;
