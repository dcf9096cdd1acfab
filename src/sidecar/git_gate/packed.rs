//! Finds and unpacks compressed data in a file: members of zip archives (also office documents and Java archives), and
//! streams of xz and bzip2. They are found by their headers wherever they are, so that neither what is before them nor
//! the order of an archive's directory hides them. Pure.
//!
//! Attacks that this stops: data that becomes large (everything counts against one allowance, and memory for a
//! dictionary is bounded); headers without data behind them, many times (each failed attempt costs what it read).

use std::io::Read;
use std::ops::Range;

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::DeflateDecoder;
use lzma_rust2::XzReader;

/// The header of a member of a zip archive (APPNOTE.TXT 6.3.10, section 4.3.7), and its length.
const ZIP: &[u8] = b"PK\x03\x04";
const ZIP_HEADER: usize = 30;
/// The method `deflate`. Members of the methods bzip2 and xz are found as streams of those; stored ones are among the
/// file's bytes.
const DEFLATE: u16 = 8;
/// The header of an xz stream (The .xz File Format 1.2.1, section 2.1.1.1).
const XZ: &[u8] = b"\xfd7zXZ\0";
/// Maximum memory for a dictionary of xz, in KiB: `xz -9` uses 64 MiB.
const XZ_MEMORY_KIB: u32 = 100 << 10;
/// The beginning of a bzip2 block, behind `BZh` and a digit.
const BZIP2: &[u8] = b"1AY&SY";
const BZIP2_HEADER: usize = 4;
/// What every attempt with xz or bzip2 costs, in bytes: they allocate tables.
const ATTEMPT: usize = 256 << 10;
/// The size of a piece that is unpacked at once, in bytes.
const PIECE: usize = 64 << 10;

/// A file cannot be looked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unpackable {
    /// More than the allowance.
    #[error("it becomes too large when it is unpacked")]
    TooLarge,
    /// A dictionary that is larger than what any preset of xz uses.
    #[error("it needs a dictionary of more than {} MiB to unpack it", XZ_MEMORY_KIB >> 10)]
    Dictionary,
}

/// Receives what was unpacked, and the rest of the allowance; returns a value to end the search.
type Visit<'a, T> = dyn FnMut(&[u8], &mut usize) -> Result<Option<T>, Unpackable> + 'a;

/// What has been found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Deflate,
    Xz,
    Bzip2,
}

/// The compressed data in a file: a format, and where it begins.
fn headers(content: &[u8]) -> impl Iterator<Item = (Format, usize)> {
    let zip = memchr::memmem::find_iter(content, ZIP)
        .filter_map(|at| Some((Format::Deflate, at + deflated(&content[at..])?)));
    let xz = memchr::memmem::find_iter(content, XZ).map(|at| (Format::Xz, at));
    let bzip2 = memchr::memmem::find_iter(content, BZIP2).filter_map(|at| {
        let at = at.checked_sub(BZIP2_HEADER)?;
        matches!(content[at..], [b'B', b'Z', b'h', b'1'..=b'9', ..]).then_some((Format::Bzip2, at))
    });
    zip.chain(xz).chain(bzip2)
}

/// Where the data behind a zip header begins, if it is deflated.
fn deflated(header: &[u8]) -> Option<usize> {
    let number = |at: usize| Some(u16::from_le_bytes([*header.get(at)?, *header.get(at + 1)?]));
    let data = ZIP_HEADER + usize::from(number(26)?) + usize::from(number(28)?);
    (number(8)? == DEFLATE && data <= header.len()).then_some(data)
}

/// Calls `visit` with everything that is compressed in a file, each unpacked as far as it can be, until it returns a
/// value. `left` is the allowance, in bytes.
///
/// # Errors
/// The allowance is used up.
pub(super) fn unpack<T>(content: &[u8], left: &mut usize, visit: &mut Visit<'_, T>) -> Result<Option<T>, Unpackable> {
    // Streams that follow each other were unpacked together with the first of them.
    let mut done: Vec<(Format, Range<usize>)> = Vec::new();
    for (format, at) in headers(content) {
        if done.last().is_some_and(|(last, range)| *last == format && range.contains(&at)) {
            continue;
        }
        let (text, read) = decode(format, &content[at..], left)?;
        if let Some(read) = read {
            done.push((format, at..at + read));
        }
        if !text.is_empty()
            && let Some(value) = visit(&text, left)?
        {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

/// Unpacks as far as it can be; also returns how much was read if it ended well.
fn decode(format: Format, data: &[u8], left: &mut usize) -> Result<(Vec<u8>, Option<usize>), Unpackable> {
    if format != Format::Deflate {
        spend(left, ATTEMPT)?;
    }
    match format {
        Format::Deflate => {
            let mut decoder = DeflateDecoder::new(data);
            read_all(&mut decoder, left).map(|(text, _)| (text, None))
        }
        Format::Xz => {
            let mut decoder = XzReader::new_mem_limit(data, true, XZ_MEMORY_KIB);
            let (text, end) = read_all(&mut decoder, left)?;
            let memory = end.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::OutOfMemory);
            finish(text, &end, data.len() - decoder.inner().len(), memory, left)
        }
        Format::Bzip2 => {
            let mut decoder = MultiBzDecoder::new(data);
            let (text, end) = read_all(&mut decoder, left)?;
            finish(text, &end, data.len() - decoder.get_ref().len(), false, left)
        }
    }
}

type End = std::io::Result<()>;

fn finish(
    text: Vec<u8>,
    end: &End,
    read: usize,
    memory: bool,
    left: &mut usize,
) -> Result<(Vec<u8>, Option<usize>), Unpackable> {
    match end {
        _ if memory => Err(Unpackable::Dictionary),
        Ok(()) => Ok((text, Some(read))),
        Err(_) => {
            spend(left, read)?;
            Ok((text, None))
        }
    }
}

/// Reads to the end or to the first error.
fn read_all(decoder: &mut dyn Read, left: &mut usize) -> Result<(Vec<u8>, End), Unpackable> {
    let (mut text, mut piece) = (Vec::new(), vec![0; PIECE]);
    loop {
        match decoder.read(&mut piece) {
            Ok(0) => return Ok((text, Ok(()))),
            Ok(length) => {
                spend(left, length)?;
                text.extend_from_slice(&piece[..length]);
            }
            Err(error) => return Ok((text, Err(error))),
        }
    }
}

fn spend(left: &mut usize, bytes: usize) -> Result<(), Unpackable> {
    *left = left.checked_sub(bytes).ok_or(Unpackable::TooLarge)?;
    Ok(())
}
