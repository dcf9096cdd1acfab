//! What is wrapped around a text: content encodings of HTTP, and escapes and encodings inside a text.

use std::io::Read;

use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD, HEXLOWER_PERMISSIVE};

/// How many times larger than itself an encoded body may become, and how large at most, in bytes.
const MAX_RATIO: usize = 200;
const MAX_DECODED: usize = 64 << 20;
/// Shorter runs of an alphabet are words.
const MIN_RUN: usize = 24;
/// Runs that are decoded in one text.
const MAX_RUNS: usize = 2000;

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
}

impl Encoding {
    /// Reads a Content-Encoding header: the encodings in the order in which they were applied.
    ///
    /// # Errors
    /// One is unknown.
    pub fn list(header: &str) -> Result<Vec<Self>, DecodeError> {
        let words = header.split(',').map(|word| word.trim().to_ascii_lowercase());
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

/// The texts inside a text: with JSON's and URLs' escapes resolved, and what its runs of base 64 and hexadecimal digits
/// stand for. None where there is nothing to take off.
pub(super) fn inner(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    found.extend(unescape(bytes));
    for run in runs(bytes).take(MAX_RUNS) {
        if run.len() % 2 == 0 && run.iter().all(u8::is_ascii_hexdigit) {
            found.extend(HEXLOWER_PERMISSIVE.decode(run).ok());
        }
        // Four characters are three bytes; what is over at the end is left off, as padding would be.
        let whole = &run[..run.len() - usize::from(run.len() % 4 == 1)];
        found.extend(lenient(whole).filter(|text| is_text(text)));
    }
    found
}

/// Whether what was decoded is text: what is none, was no base 64.
fn is_text(bytes: &[u8]) -> bool {
    let graphic = |bytes: &[u8]| bytes.iter().filter(|byte| byte.is_ascii_graphic()).count() * 4 > bytes.len() * 3;
    // Most are found out by their beginning.
    graphic(&bytes[..bytes.len().min(16)]) && graphic(bytes)
}

/// Which bytes may stand in base 64.
const OF_RUN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "it is below 256")]
        let letter = byte as u8;
        table[byte] = letter.is_ascii_alphanumeric() || matches!(letter, b'+' | b'/' | b'-' | b'_');
        byte += 1;
    }
    table
};

/// Runs that are long enough to hold something. Every [`MIN_RUN`]-th byte is asked first: between two that may not stand in
/// a run there is none.
fn runs(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut at = MIN_RUN - 1;
    std::iter::from_fn(move || {
        while at < bytes.len() {
            if !OF_RUN[usize::from(bytes[at])] {
                at += MIN_RUN;
                continue;
            }
            let is_out = |byte: &u8| !OF_RUN[usize::from(*byte)];
            let from = bytes[..at].iter().rposition(is_out).map_or(0, |before| before + 1);
            let to = bytes[at..].iter().position(is_out).map_or(bytes.len(), |behind| at + behind);
            at = to + MIN_RUN;
            if to - from >= MIN_RUN {
                return Some(&bytes[from..to]);
            }
        }
        None
    })
}

fn lenient(run: &[u8]) -> Option<Vec<u8>> {
    let url = run.iter().any(|byte| b"-_".contains(byte));
    let encoding = if url { &BASE64URL_NOPAD } else { &BASE64_NOPAD };
    let cut = run.len() - run.len() % 4;
    encoding.decode(run).or_else(|_| encoding.decode(&run[..cut])).ok()
}

/// The text with JSON's `\\` and URLs' `%` escapes resolved; `None` where there are none.
fn unescape(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut rest = bytes;
    let first = memchr::memchr2(b'\\', b'%', rest)?;
    let mut text = Vec::with_capacity(bytes.len());
    let mut next = Some(first);
    while let Some(at) = next {
        text.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        let taken = if rest[0] == b'%' { percent(rest, &mut text) } else { backslash(rest, &mut text) };
        rest = &rest[taken..];
        next = memchr::memchr2(b'\\', b'%', rest);
    }
    text.extend_from_slice(rest);
    (text.len() < bytes.len()).then_some(text)
}

/// Resolves one escape at the beginning; how many bytes it was.
fn percent(rest: &[u8], text: &mut Vec<u8>) -> usize {
    let digit = |at: usize| rest.get(at).and_then(|&byte| char::from(byte).to_digit(16));
    let byte = digit(1).zip(digit(2)).and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
    text.push(byte.unwrap_or(b'%'));
    if byte.is_some() { 3 } else { 1 }
}

fn backslash(rest: &[u8], text: &mut Vec<u8>) -> usize {
    let unit = || {
        let digits = std::str::from_utf8(rest.get(2..6)?).ok()?;
        char::from_u32(u32::from_str_radix(digits, 16).ok()?)
    };
    match (rest.get(1), unit()) {
        (Some(b'u'), Some(letter)) => {
            text.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
            6
        }
        (Some(&escaped), _) => {
            text.push(match escaped {
                b'n' => b'\n',
                b't' => b'\t',
                b'r' => b'\r',
                other => other,
            });
            2
        }
        (None, _) => 1,
    }
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

    #[test]
    fn escapes_and_runs_are_resolved() {
        let texts = |text: &str| -> Vec<String> {
            inner(text.as_bytes()).into_iter().map(|text| String::from_utf8_lossy(&text).into_owned()).collect()
        };
        assert_eq!(texts(r"\u0067hp\/x"), ["ghp/x"]);
        assert_eq!(texts("a%67%68p"), ["aghp"]);
        assert_eq!(texts("x=aGVsbG8gd29ybGQsIHRoaXMgaXMgaXQ="), ["hello world, this is it"]);
        assert_eq!(texts("no escapes here"), Vec::<String>::new());
    }
}
