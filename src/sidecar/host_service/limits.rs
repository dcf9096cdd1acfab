//! Limits of the channel, which are the same at both ends.

/// Windows of a stream, and of the channel, in bytes: enough for all streams, so that no stream waits for others to be read.
pub(super) const STREAM_WINDOW: u32 = 64 << 10;
pub(super) const CHANNEL_WINDOW: u32 = CONCURRENT * STREAM_WINDOW;
/// How much of a stream waits to be sent, in bytes.
pub(super) const SEND_BUFFER: usize = 64 << 10;
/// Connections at a time, of one egress.
pub(super) const CONCURRENT: u32 = 256;
