//! Removes the content encodings of HTTP from a body.

use super::budget::{Budget, Exhausted};
use super::encoding::{DecodeError, Encoding};
use super::unpack::{self, Sink};

/// Maximum size of a decoded body, in bytes.
const MAX_DECODED: usize = 32 << 20;

/// A decoded body.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// Its content.
    pub text: Vec<u8>,
    /// Bytes beside the content: names and comments of gzip, skippable frames of zstd.
    pub metadata: Vec<u8>,
}

/// Decodes a complete body; the encoding that was applied last is removed first.
///
/// # Errors
/// The body is malformed or too large when decoded, or the budget is exhausted.
pub fn decode(body: &[u8], encodings: &[Encoding], budget: &mut Budget) -> Result<Decoded, DecodeError> {
    let mut decoded = Decoded::default();
    for (layer, &encoding) in encodings.iter().rev().enumerate() {
        let outer = std::mem::take(&mut decoded.text);
        let mut sink = Sink::new(MAX_DECODED, budget);
        unpack::unpack(if layer == 0 { body } else { &outer }, encoding, &mut sink)?;
        let (text, metadata) = sink.into_parts();
        budget.reserve(text.len())?;
        budget.release(outer.len());
        decoded.text = text;
        decoded.metadata.extend_from_slice(&metadata);
    }
    Ok(decoded)
}

/// Decodes bytes that look encoded although nothing declares it, up to the first malformed byte.
pub(super) fn decode_leniently(body: &[u8], encoding: Encoding, budget: &mut Budget) -> Result<Decoded, Exhausted> {
    let mut sink = Sink::new(MAX_DECODED, budget);
    match unpack::unpack(body, encoding, &mut sink) {
        Err(DecodeError::Exhausted(exhausted)) => Err(exhausted),
        // A text beyond the maximum size counts as an exhausted budget.
        Err(DecodeError::TooLarge) => Err(Exhausted),
        _ => {
            let (text, metadata) = sink.into_parts();
            Ok(Decoded { text, metadata })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    }

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        zlib.write_all(bytes).unwrap();
        zlib.finish().unwrap()
    }

    fn run(body: &[u8], encodings: &[Encoding]) -> Result<(Vec<u8>, Vec<u8>), DecodeError> {
        decode(body, encodings, &mut Budget::unbounded()).map(|decoded| (decoded.text, decoded.metadata))
    }

    #[test]
    fn promise_06_what_cannot_be_decoded_is_an_error() {
        assert!(matches!(Encoding::list("gzip, secret"), Err(DecodeError::Unknown(_))));
        assert_eq!(Encoding::list(" GZIP ,identity, br").unwrap(), [Encoding::Gzip, Encoding::Brotli]);
        for encoding in [Encoding::Gzip, Encoding::Deflate, Encoding::Brotli, Encoding::Zstd] {
            assert_eq!(run(b"plain text", &[encoding]), Err(DecodeError::Malformed(encoding)));
        }
    }

    #[test]
    fn encodings_are_taken_off_and_bombs_are_not_blown_up() {
        assert_eq!(run(&zlib(&gzip(b"hello")), &[Encoding::Gzip, Encoding::Deflate]).unwrap().0, b"hello");
        let bomb = gzip(&vec![0; 100 << 20]);
        assert_eq!(run(&bomb, &[Encoding::Gzip]), Err(DecodeError::TooLarge));
        let spent = decode(&bomb, &[Encoding::Gzip], &mut Budget::of(bomb.len()));
        assert_eq!(spent, Err(DecodeError::Exhausted(Exhausted)));
    }

    #[test]
    fn promise_15_a_body_becomes_so_large_and_no_larger() {
        let zeros = |length: usize| gzip(&vec![0; length]);
        assert_eq!(run(&zeros(MAX_DECODED), &[Encoding::Gzip]).unwrap().0.len(), MAX_DECODED);
        assert_eq!(run(&zeros(MAX_DECODED + 1), &[Encoding::Gzip]), Err(DecodeError::TooLarge));
        // Each layer.
        let outer = gzip(&zeros(MAX_DECODED + 1));
        assert_eq!(run(&outer, &[Encoding::Gzip, Encoding::Gzip]), Err(DecodeError::TooLarge));
    }

    #[test]
    fn promise_09_what_stands_beside_is_given_too_or_refused() {
        // RFC 1952, section 2.3: FEXTRA, FNAME, FCOMMENT.
        let mut named = vec![0x1f, 0x8b, 8, 4 | 8 | 16, 0, 0, 0, 0, 0, 255, 5, 0];
        named.extend_from_slice(b"extraname\0comment\0");
        named.extend_from_slice(&gzip(b"hello")[10..]);
        assert_eq!(run(&named, &[Encoding::Gzip]), Ok((b"hello".to_vec(), b"extra\nname\ncomment\n".to_vec())));
        // A second member.
        let both = [gzip(b"one"), named.clone()].concat();
        assert_eq!(run(&both, &[Encoding::Gzip]).unwrap().0, b"onehello");
        // RFC 8878, sections 3.1.1 and 3.1.2: two frames, and one that is skipped.
        let frame = [&[0x28, 0xb5, 0x2f, 0xfd, 0x20, 5, 5 << 3 | 1, 0, 0][..], b"hello"].concat();
        let skipped = [&[0x5a, 0x2a, 0x4d, 0x18, 4, 0, 0, 0][..], b"skip"].concat();
        let frames = [&frame[..], &skipped, &frame].concat();
        assert_eq!(run(&frames, &[Encoding::Zstd]), Ok((b"hellohello".to_vec(), b"skip\n".to_vec())));
        // RFC 7932, section 9.2: WBITS 16, a meta-block of metadata (MNIBBLES 0), the last one empty.
        let stored = |bytes: &[u8]| {
            let bits = u32::try_from(bytes.len() - 1).unwrap() << 4 | 1 << 20;
            [&bits.to_le_bytes()[..3], bytes, &[3]].concat()
        };
        assert_eq!(run(&stored(b"hello"), &[Encoding::Brotli]).unwrap().0, b"hello");
        // ISLAST 0, MNIBBLES 11, reserved 0, MSKIPBYTES 01, MSKIPLEN-1 3.
        let metadata: u32 = 0b11 << 2 | 0b01 << 5 | 3 << 7;
        let metadata = [&metadata.to_le_bytes()[..2], b"meta", &[3]].concat();
        assert_eq!(run(&metadata, &[Encoding::Brotli]), Err(DecodeError::Malformed(Encoding::Brotli)));
        for (body, encoding) in [
            (gzip(b"hello"), Encoding::Gzip),
            (zlib(b"hello"), Encoding::Deflate),
            (zlib(b"hello")[2..7].to_vec(), Encoding::Deflate),
            (frame, Encoding::Zstd),
            (stored(b"hello"), Encoding::Brotli),
        ] {
            for metadata in [&b"more"[..], b"x"] {
                let body = [&body[..], metadata].concat();
                assert_eq!(run(&body, &[encoding]), Err(DecodeError::Malformed(encoding)), "{encoding:?}");
            }
            let cut = &body[..body.len() - 1];
            assert!(run(cut, &[encoding]).is_err() || encoding == Encoding::Deflate, "{encoding:?}");
        }
        let mut wrong = gzip(b"hello");
        let end = wrong.len() - 5;
        wrong[end] ^= 1;
        assert_eq!(run(&wrong, &[Encoding::Gzip]), Err(DecodeError::Malformed(Encoding::Gzip)));
    }
}
