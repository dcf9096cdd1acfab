//! Values as lines of JSON, on every channel between processes: client and holder, holder and sidecars, holder and
//! init, ctl.
//!
//! Rules: a value is one line, and the reader limits its length. A line that is too long, cut off, or not such a value
//! is an error, and nothing is read after it. So a peer can neither exhaust the reader's memory nor be misunderstood.
//!
//! The codec is our own. `tokio_util`'s `LinesCodec` accepts a line that is cut off, and does not support blocking
//! streams, which the probe reads before there is a runtime.

mod blocking;
mod lines;
mod reader;

pub use blocking::{BlockingReader, send_blocking};
pub use lines::{LineBuffer, WireError, line};
pub use reader::{Reader, send};
