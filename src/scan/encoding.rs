//! Content encodings of HTTP, and why a body cannot be decoded.

use super::budget::Exhausted;

/// The framing of S3 uploads, as `Content-Encoding` names it; it is removed before all encodings.
pub(super) const AWS_CHUNKED: &str = "aws-chunked";

/// A content encoding (RFC 9110, section 8.4.1; RFC 8878 for zstd, RFC 7932 for br).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// `gzip`, `x-gzip`.
    Gzip,
    /// `deflate`: the zlib format, or raw deflate.
    Deflate,
    /// `br`.
    Brotli,
    /// `zstd`.
    Zstd,
}

/// Why a body cannot be decoded. It is refused then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// An unknown encoding.
    #[error("content encoding {0:?} is not known")]
    Unknown(String),
    /// Malformed data, or extra bytes beside it.
    #[error("the body is not valid {0:?}, or other bytes follow it")]
    Malformed(Encoding),
    /// The decoded body is too large.
    #[error("the body becomes too large when it is decoded")]
    TooLarge,
    /// A malformed multipart body.
    #[error("the body is not valid multipart: {0}")]
    Multipart(&'static str),
    /// Malformed `aws-chunked` framing.
    #[error("the body is not valid aws-chunked: {0}")]
    AwsChunked(&'static str),
    /// A malformed gRPC body.
    #[error("the body is not valid gRPC: {0}")]
    Grpc(&'static str),
    /// The budget is exhausted.
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
}

impl Encoding {
    /// Parses a `Content-Encoding` header: the encodings in the order in which they were applied.
    ///
    /// # Errors
    /// An encoding is unknown.
    pub fn list(header: &str) -> Result<Vec<Self>, DecodeError> {
        let words = header.split(',').map(|word| word.trim().to_ascii_lowercase());
        // The framing is removed before the encodings.
        let words = words.filter(|word| word != AWS_CHUNKED);
        let known = words.filter(|word| !word.is_empty() && word != "identity").map(|word| match word.as_str() {
            "gzip" | "x-gzip" => Ok(Self::Gzip),
            "deflate" => Ok(Self::Deflate),
            "br" => Ok(Self::Brotli),
            "zstd" => Ok(Self::Zstd),
            _ => Err(DecodeError::Unknown(word.chars().take(40).collect())),
        });
        known.collect()
    }
}

/// The encoding that the first bytes identify: RFC 1952 section 2.3.1, RFC 8878 section 3.1.1, RFC 1950 section 2.2.
pub(super) fn compressed(bytes: &[u8]) -> Option<Encoding> {
    match *bytes.first_chunk::<4>()? {
        [0x1f, 0x8b, 8, _] => Some(Encoding::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd] => Some(Encoding::Zstd),
        [0x78, flags, ..] if (0x7800 + u16::from(flags)).is_multiple_of(31) => Some(Encoding::Deflate),
        _ => None,
    }
}
