//! What must not leave, looked for in bytes: the bottle's own secrets in every encoding, and tokens of providers' formats.
//! Pure: no sockets, no clock. This stops accidents and careless injection; what an agent encrypts itself is limited by
//! the allowlist.

mod action;
mod aws_chunked;
mod body;
mod decode;
mod encoding;
mod exact;
mod example;
mod finding;
mod framed;
mod grpc;
mod head;
mod inner;
mod multipart;
mod owner;
mod rule_file;
mod rules;
mod scanner;
mod secret;
mod stream;
mod unpack;
mod work;

pub use action::{Action, Actions, Dlp, KNOWN_SECRET};
pub use body::Shape;
pub use decode::{Decoded, decode};
pub use encoding::{DecodeError, Encoding};
pub use exact::{Exact, Pending};
pub use finding::Finding;
pub use framed::Framed;
pub use grpc::Messages;
pub use head::Head;
pub use multipart::{boundary, parts};
pub use owner::{Place, Target};
pub use rule_file::Direction;
pub use rules::{Rules, RulesError};
pub use scanner::{Scanner, Warn};
pub use secret::Known;
pub use stream::{Seam, Stream, Windows};
pub use work::{Exhausted, Work};

#[cfg(test)]
mod tests;
