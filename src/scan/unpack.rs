//! Decodes one content encoding of a complete body. Every byte is accounted for: bytes that are not content are
//! returned as metadata, or the body is refused, so that nothing escapes the scan.

use std::io::Read;

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use flate2::{Crc, Decompress, FlushDecompress, Status};
use ruzstd::decoding::StreamingDecoder;

use super::budget::Budget;
use super::encoding::{DecodeError, Encoding};

/// Size of the output buffer, in bytes.
const PIECE: usize = 32 << 10;
/// The cost of a member or frame beside its content, in bytes: the decoder builds tables for each.
const MEMBER: usize = 16 << 10;
/// Maximum window of zstd, in bytes (RFC 9659, section 3).
const MAX_WINDOW: u64 = 8 << 20;

/// Receives decoded bytes.
pub(super) struct Sink<'a> {
    text: Vec<u8>,
    metadata: Vec<u8>,
    max: usize,
    budget: &'a mut Budget,
    taken: usize,
}

impl<'a> Sink<'a> {
    pub(super) fn new(max: usize, budget: &'a mut Budget) -> Self {
        Self { text: Vec::new(), metadata: Vec::new(), max, budget, taken: 0 }
    }

    /// The decoded bytes; the caller accounts for their memory.
    pub(super) fn into_parts(self) -> (Vec<u8>, Vec<u8>) {
        self.budget.release(self.taken);
        (self.text, self.metadata)
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        if self.text.len() + bytes.len() > self.max {
            return Err(DecodeError::TooLarge);
        }
        self.budget.spend(bytes.len())?;
        self.budget.reserve(bytes.len())?;
        self.taken += bytes.len();
        self.text.extend_from_slice(bytes);
        Ok(())
    }

    fn push_beside(&mut self, bytes: &[u8]) {
        self.metadata.extend_from_slice(bytes);
        self.metadata.push(b'\n');
    }
}

/// Decodes one encoding.
pub(super) fn unpack(bytes: &[u8], encoding: Encoding, sink: &mut Sink<'_>) -> Result<(), DecodeError> {
    sink.budget.spend(bytes.len())?;
    match encoding {
        Encoding::Gzip => gzip(bytes, sink),
        Encoding::Deflate => deflate(bytes, sink),
        Encoding::Brotli => brotli(bytes, sink),
        Encoding::Zstd => zstd(bytes, sink),
    }
}

/// Decodes one deflate stream; returns its length.
fn inflate(
    bytes: &[u8],
    zlib: bool,
    encoding: Encoding,
    sink: &mut Sink<'_>,
    crc: &mut Crc,
) -> Result<usize, DecodeError> {
    sink.budget.spend(MEMBER)?;
    let mut decoder = Decompress::new(zlib);
    let mut piece = vec![0; PIECE];
    loop {
        let (before, out) = (decoder.total_in(), decoder.total_out());
        let rest = usize::try_from(before).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
        let status = decoder.decompress(rest, &mut piece, FlushDecompress::None);
        let length = usize::try_from(decoder.total_out() - out).unwrap_or_default();
        crc.update(&piece[..length]);
        sink.push(&piece[..length])?;
        let used = usize::try_from(decoder.total_in()).unwrap_or(usize::MAX);
        match status {
            Ok(Status::StreamEnd) => return Ok(used),
            // Continues as long as there is progress.
            Ok(_) if length > 0 || decoder.total_in() > before => {}
            _ => return Err(DecodeError::Malformed(encoding)),
        }
    }
}

/// RFC 1952: consecutive members, each with a header and a checksum.
fn gzip(mut rest: &[u8], sink: &mut Sink<'_>) -> Result<(), DecodeError> {
    let malformed = || DecodeError::Malformed(Encoding::Gzip);
    loop {
        rest = gzip_header(rest, sink).ok_or_else(malformed)?;
        let mut crc = Crc::new();
        let used = inflate(rest, false, Encoding::Gzip, sink, &mut crc)?;
        let (check, behind) = rest[used..].split_first_chunk::<8>().ok_or_else(malformed)?;
        if check[..4] != crc.sum().to_le_bytes() || check[4..] != crc.amount().to_le_bytes() {
            return Err(malformed());
        }
        if behind.is_empty() {
            return Ok(());
        }
        rest = behind;
    }
}

/// RFC 1952, section 2.3: parses a header; returns what follows it.
fn gzip_header<'a>(bytes: &'a [u8], sink: &mut Sink<'_>) -> Option<&'a [u8]> {
    let (&[0x1f, 0x8b, 8, flags, ..], mut rest) = bytes.split_first_chunk::<10>()? else { return None };
    if flags & 0xe0 != 0 {
        return None;
    }
    if flags & 4 != 0 {
        let (length, behind) = rest.split_first_chunk::<2>()?;
        let (extra, behind) = behind.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
        sink.push_beside(extra);
        rest = behind;
    }
    for flag in [8, 16] {
        if flags & flag != 0 {
            let (text, behind) = rest.split_at_checked(memchr::memchr(0, rest)?)?;
            sink.push_beside(text);
            rest = &behind[1..];
        }
    }
    if flags & 2 != 0 { rest.get(2..) } else { Some(rest) }
}

/// The zlib format (RFC 1950), which the name means, or raw deflate (RFC 1951), which some clients send. Data that is
/// valid as both is refused.
fn deflate(bytes: &[u8], sink: &mut Sink<'_>) -> Result<(), DecodeError> {
    let malformed = DecodeError::Malformed(Encoding::Deflate);
    let mut attempt = |zlib| match inflate(bytes, zlib, Encoding::Deflate, sink, &mut Crc::new()) {
        Err(error) if error != malformed => Err(error),
        read => Ok((read == Ok(bytes.len()), std::mem::take(&mut sink.text))),
    };
    let ((zlib, text), (bare, bare_text)) = (attempt(true)?, attempt(false)?);
    sink.text = if bare { bare_text } else { text };
    if zlib == bare { Err(malformed) } else { Ok(()) }
}

/// RFC 7932. Metadata is not part of the content, and no client needs it: it is refused.
fn brotli(bytes: &[u8], sink: &mut Sink<'_>) -> Result<(), DecodeError> {
    let malformed = || DecodeError::Malformed(Encoding::Brotli);
    sink.budget.spend(MEMBER)?;
    let alloc = StandardAlloc::default;
    let mut state = BrotliState::new_strict(alloc(), alloc(), alloc());
    let mut piece = vec![0; PIECE];
    let (mut at, mut total) = (0, 0);
    loop {
        // One byte at a time, to detect the beginning of metadata.
        let (mut left, mut input) = (usize::from(at < bytes.len()), 0);
        let (mut room, mut length) = (piece.len(), 0);
        let fresh = &bytes[at..at + left];
        let result = BrotliDecompressStream(
            &mut left,
            &mut input,
            fresh,
            &mut room,
            &mut length,
            &mut piece,
            &mut total,
            &mut state,
        );
        at += input;
        if length > 0 {
            sink.push(&piece[..length])?;
        }
        if state.is_metadata != 0 && state.meta_block_remaining_len > 0 {
            return Err(malformed());
        }
        match result {
            BrotliResult::ResultSuccess if at == bytes.len() => return Ok(()),
            BrotliResult::NeedsMoreOutput => {}
            BrotliResult::NeedsMoreInput if at < bytes.len() => {}
            _ => return Err(malformed()),
        }
    }
}

/// RFC 8878: consecutive frames, some of them skippable (section 3.1.2).
fn zstd(mut rest: &[u8], sink: &mut Sink<'_>) -> Result<(), DecodeError> {
    let malformed = || DecodeError::Malformed(Encoding::Zstd);
    let mut piece = vec![0; PIECE];
    loop {
        let magic = u32::from_le_bytes(*rest.first_chunk::<4>().ok_or_else(malformed)?);
        if magic & 0xffff_fff0 == 0x184d_2a50 {
            let length = u32::from_le_bytes(*rest[4..].first_chunk::<4>().ok_or_else(malformed)?) as usize;
            let (content, behind) = rest[8..].split_at_checked(length).ok_or_else(malformed)?;
            sink.push_beside(content);
            rest = behind;
        } else {
            sink.budget.spend(MEMBER)?;
            let decoder = StreamingDecoder::new_with_max_window_size(&mut rest, MAX_WINDOW);
            let mut decoder = decoder.map_err(|_| malformed())?;
            loop {
                let length = decoder.read(&mut piece).map_err(|_| malformed())?;
                if length == 0 {
                    break;
                }
                sink.push(&piece[..length])?;
            }
        }
        if rest.is_empty() {
            return Ok(());
        }
    }
}
