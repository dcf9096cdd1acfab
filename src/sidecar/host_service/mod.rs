//! Services of the user's machine, as egress reaches them: the holder, which runs on that machine, keeps one channel open to
//! each egress, an exec in its container. On it, egress asks for a connection by the name of a service; the holder connects to
//! its own loopback interface. Nothing listens on the machine, and no address of it can be reached.
//!
//! The channel is HTTP/2, whose `CONNECT` is a stream with a window of its own: a response that nobody reads stops no other.
//!
//! Attacks that this stops: an agent that asks for another port or address of the machine (the holder knows the declared names
//! alone, and decides again); one that speaks on the channel itself (the socket is in the memory of egress' container).

mod channel;
mod limits;
mod relay;
mod serve;

pub use channel::Channel;
pub use relay::{ROLE, relay};
pub use serve::serve;
