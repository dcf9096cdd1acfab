//! Content encodings of HTTP, and why a body cannot be decoded.

use super::budget::Exhausted;

/// The framing of S3's uploads, as `Content-Encoding` names it; it is removed before all encodings.
pub(super) const AWS_CHUNKED: &str = "aws-chunked";

/// A content encoding (RFC 9110, section 8.4.1; RFC 8878 for zstd, RFC 7932 for br).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// `gzip`, `x-gzip`.
    Gzip,
    /// `deflate`: zlib's format, or what is inside it.
    Deflate,
    /// `br`.
    Brotli,
    /// `zstd`.
    Zstd,
}

/// Why a body could not be read: then it does not leave.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Nobody here reads that.
    #[error("content encoding {0:?} is not known")]
    Unknown(String),
    /// It is not what it says, or something stands beside it.
    #[error("the body is not valid {0:?}, or other bytes follow it")]
    Malformed(Encoding),
    /// It becomes larger than is looked at.
    #[error("the body becomes too large when it is decoded")]
    TooLarge,
    /// It says it has several parts, and they cannot be told apart.
    #[error("the body is not valid multipart: {0}")]
    Multipart(&'static str),
    /// It says it is in chunks of S3's, and is not.
    #[error("the body is not valid aws-chunked: {0}")]
    AwsChunked(&'static str),
    /// It says it is gRPC, and is not.
    #[error("the body is not valid gRPC: {0}")]
    Grpc(&'static str),
    /// Its budget is spent.
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
}

impl Encoding {
    /// Reads a Content-Encoding header: the encodings in the order in which they were applied.
    ///
    /// # Errors
    /// One is unknown.
    pub fn list(header: &str) -> Result<Vec<Self>, DecodeError> {
        let words = header.split(',').map(|word| word.trim().to_ascii_lowercase());
        // A framing, which is taken off before all of them.
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
