//! Content encodings of HTTP: what is said to be wrapped around a body.

use std::io::Read;

/// How many times larger than itself an encoded body may become, and how large at most, in bytes.
const MAX_RATIO: usize = 200;
const MAX_DECODED: usize = 64 << 20;

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
    /// It is not what it says.
    #[error("the body is not valid {0:?}")]
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
}

impl Encoding {
    /// Reads a Content-Encoding header: the encodings in the order in which they were applied.
    ///
    /// # Errors
    /// One is unknown.
    pub fn list(header: &str) -> Result<Vec<Self>, DecodeError> {
        let words = header.split(',').map(|word| word.trim().to_ascii_lowercase());
        // A framing, which is taken off before all of them.
        let words = words.filter(|word| word != super::aws_chunked::NAME);
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

/// Takes encodings off a body that is whole, the last applied first.
///
/// # Errors
/// It is malformed, or becomes too large.
pub fn decode(body: &[u8], encodings: &[Encoding]) -> Result<Vec<u8>, DecodeError> {
    let most = body.len().saturating_mul(MAX_RATIO).clamp(1 << 20, MAX_DECODED);
    let mut bytes = body.to_vec();
    for &encoding in encodings.iter().rev() {
        bytes = match encoding {
            Encoding::Gzip => read(flate2::read::MultiGzDecoder::new(bytes.as_slice()), encoding, most)?,
            Encoding::Deflate => read(flate2::read::ZlibDecoder::new(bytes.as_slice()), encoding, most)
                .or_else(|_| read(flate2::read::DeflateDecoder::new(bytes.as_slice()), encoding, most))?,
            Encoding::Brotli => read(brotli_decompressor::Decompressor::new(bytes.as_slice(), 4096), encoding, most)?,
            Encoding::Zstd => {
                let decoder = ruzstd::decoding::StreamingDecoder::new(bytes.as_slice());
                read(decoder.map_err(|_| DecodeError::Malformed(encoding))?, encoding, most)?
            }
        };
    }
    Ok(bytes)
}

fn read(decoder: impl Read, encoding: Encoding, most: usize) -> Result<Vec<u8>, DecodeError> {
    let mut bytes = Vec::new();
    let mut bounded = decoder.take(most as u64 + 1);
    bounded.read_to_end(&mut bytes).map_err(|_| DecodeError::Malformed(encoding))?;
    if bytes.len() > most { Err(DecodeError::TooLarge) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn promise_06_what_cannot_be_decoded_is_an_error() {
        assert!(matches!(Encoding::list("gzip, secret"), Err(DecodeError::Unknown(_))));
        assert_eq!(Encoding::list(" GZIP ,identity, br").unwrap(), [Encoding::Gzip, Encoding::Brotli]);
        for encoding in [Encoding::Gzip, Encoding::Deflate, Encoding::Zstd] {
            assert_eq!(decode(b"plain text", &[encoding]), Err(DecodeError::Malformed(encoding)));
        }
    }

    #[test]
    fn encodings_are_taken_off_and_bombs_are_not_blown_up() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(b"hello").unwrap();
        let once = gzip.finish().unwrap();
        let mut twice = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        twice.write_all(&once).unwrap();
        assert_eq!(decode(&twice.finish().unwrap(), &[Encoding::Gzip, Encoding::Deflate]).unwrap(), b"hello");
        let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        bomb.write_all(&vec![0; 100 << 20]).unwrap();
        assert_eq!(decode(&bomb.finish().unwrap(), &[Encoding::Gzip]), Err(DecodeError::TooLarge));
    }
}
