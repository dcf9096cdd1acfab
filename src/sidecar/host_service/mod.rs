//! Services of the user's machine, as egress reaches them: the holder, which runs on that machine, keeps one channel open to
//! each egress, an exec in its container. On it, egress asks for a connection by the name of a service; the holder connects to
//! its own loopback interface. Nothing listens on the machine, and no address of it can be reached.
//!
//! The channel is HTTP/2, whose `CONNECT` is a stream with a window of its own: a response that nobody reads stops no other.
//!
//! Attacks that this stops: an agent that asks for another port or address of the machine (the holder knows the declared names
//! alone, and decides again); one that speaks on the channel itself (the socket is in the memory of egress' container).

/// Windows of a stream, and of the channel, in bytes: enough for all streams, so that no stream waits for others to be read.
const STREAM_WINDOW: u32 = 64 << 10;
const CHANNEL_WINDOW: u32 = CONCURRENT * STREAM_WINDOW;
/// How much of a stream waits to be sent, in bytes.
const SEND_BUFFER: usize = 64 << 10;
/// Connections at a time, of one egress.
const CONCURRENT: u32 = 256;

mod channel;
mod relay;
mod serve;

pub use channel::Channel;
pub use relay::{ROLE, relay};
pub use serve::serve;
