//! The secret scanner: searches bytes for the bottle's own secrets in every encoding, and for tokens in the formats of
//! providers. Pure: no sockets, no clock.
//!
//! It stops accidents and careless injection. What an agent encrypts itself is limited by the allowlist, not by the
//! scanner.

mod action;
mod aws_chunked;
mod aws_chunked_windows;
mod base58;
mod body_format;
mod budget;
mod carrier;
mod decode;
mod digits;
mod encoding;
mod escapes;
mod exact;
mod example;
mod finding;
mod forms;
mod grpc;
mod head;
mod inner;
mod joined_values;
mod keywords;
mod mask;
mod mnemonic;
mod multipart;
mod near;
mod owner;
mod password;
mod places;
mod protobuf;
mod rule_file;
mod rules;
mod runs;
mod scanner;
mod secret;
mod signed_form;
mod unpack;
mod wide;
mod windows;

pub use action::{Action, Actions, Dlp, KNOWN_SECRET};
pub use aws_chunked_windows::AwsChunkedWindows;
pub use body_format::BodyFormat;
pub use budget::{Budget, Exhausted};
pub use carrier::Carrier;
pub use decode::{Decoded, decode};
pub use encoding::{DecodeError, Encoding};
pub use exact::{ExactMatcher, MIN_SECRET, PartialMatch};
pub use finding::{Finding, Passed};
pub use forms::forms;
pub use grpc::GrpcMessages;
pub use head::Head;
pub use multipart::{boundary, parts};
pub use owner::{Location, RequestTarget, is_key_header};
pub use rule_file::{Direction, crc32_base62};
pub use rules::{Rules, RulesError};
pub use scanner::{Look, PLACEHOLDER, Scanner, Warn};
pub use secret::KnownSecret;
pub use windows::{LiveStream, Overlap, Windows};

#[cfg(test)]
mod format_tests;
#[cfg(test)]
mod mask_tests;
#[cfg(test)]
mod near_tests;
#[cfg(test)]
mod reading_tests;
#[cfg(test)]
mod tests;
