//! Values as lines of JSON, on every channel between processes: client and holder, holder and sidecars, holder and init, ctl.
//!
//! Rules: a value is one line; a line has a bound, which whoever reads names; what is longer, cut off or no such value is an
//! error, and nothing is read past it. So a peer can neither fill the memory of who reads, nor be understood by half.
//!
//! The codec is our own rather than `tokio_util`'s `LinesCodec`, which takes what the end cuts off for a line, and knows no
//! blocking streams, which the probe and the receiver read before there is a runtime.

mod blocking;
mod lines;
mod reader;

pub use blocking::{BlockingReader, send_blocking};
pub use lines::{LineBuffer, WireError, line};
pub use reader::{Reader, send};
