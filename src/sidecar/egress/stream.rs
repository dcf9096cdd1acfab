//! A connection of any kind.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

/// How long one address may take to answer, and how long TLS may take then.
pub(super) const DIAL: Duration = Duration::from_secs(10);

/// A connection to somewhere.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}
pub(super) type Stream = Box<dyn Io>;
