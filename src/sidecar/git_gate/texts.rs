//! The texts in a file that are not its bytes: UTF-16 and UTF-32, and what zip archives hold (also office documents
//! and Java archives). Other encodings and gzip, zstd and zlib are the scanner's. Pure.

use flate2::{Decompress, FlushDecompress, Status};

/// Maximum size of all texts of one file together, in bytes, and how deep archives are in each other.
const MAX_TEXTS: usize = 128 << 20;
const MAX_DEPTH: usize = 3;
/// The size of a piece that is inflated at once, in bytes.
const PIECE: usize = 64 << 10;
/// The header of a file in a zip archive (APPNOTE.TXT 6.3.10, section 4.3.7), and its length.
const LOCAL: &[u8] = b"PK\x03\x04";
const HEADER: usize = 30;
/// The method `deflate`.
const DEFLATE: u16 = 8;

/// A file cannot be looked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it becomes too large when it is unpacked")]
pub(super) struct TooLarge;

/// Calls `visit` with each text of a file that is not its bytes, until it returns a value.
///
/// # Errors
/// The texts are too large.
pub(super) fn find<T>(content: &[u8], visit: &mut dyn FnMut(&[u8]) -> Option<T>) -> Result<Option<T>, TooLarge> {
    let mut left = MAX_TEXTS;
    find_within(content, 0, &mut left, visit)
}

fn find_within<T>(
    content: &[u8],
    depth: usize,
    left: &mut usize,
    visit: &mut dyn FnMut(&[u8]) -> Option<T>,
) -> Result<Option<T>, TooLarge> {
    if let Some(text) = wide(content) {
        *left = left.checked_sub(text.len()).ok_or(TooLarge)?;
        if let Some(value) = visit(&text) {
            return Ok(Some(value));
        }
    }
    if depth == MAX_DEPTH {
        return Ok(None);
    }
    // By its files' headers, not by its directory: neither order nor what is before the archive matters.
    for at in memchr::memmem::find_iter(content, LOCAL) {
        let Some(data) = deflated(&content[at..]) else { continue };
        let text = inflate(data, left)?;
        if let Some(value) = visit(&text) {
            return Ok(Some(value));
        }
        if let Some(value) = find_within(&text, depth + 1, left, visit)? {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

/// The compressed data behind a header, if it is deflated. What is stored is among the file's bytes.
fn deflated(header: &[u8]) -> Option<&[u8]> {
    let number = |at: usize| Some(u16::from_le_bytes([*header.get(at)?, *header.get(at + 1)?]));
    if number(8)? != DEFLATE {
        return None;
    }
    header.get(HEADER + usize::from(number(26)?) + usize::from(number(28)?)..)
}

/// Inflates as far as it can be; raw deflate knows its end.
fn inflate(data: &[u8], left: &mut usize) -> Result<Vec<u8>, TooLarge> {
    let (mut decoder, mut text, mut piece) = (Decompress::new(false), Vec::new(), vec![0; PIECE]);
    loop {
        let (read, written) = (decoder.total_in(), decoder.total_out());
        let rest = usize::try_from(read).ok().and_then(|at| data.get(at..)).unwrap_or_default();
        let status = decoder.decompress(rest, &mut piece, FlushDecompress::None);
        let length = usize::try_from(decoder.total_out() - written).unwrap_or_default();
        *left = left.checked_sub(length).ok_or(TooLarge)?;
        text.extend_from_slice(&piece[..length]);
        match status {
            Ok(Status::StreamEnd) | Err(_) => return Ok(text),
            Ok(_) if length == 0 && decoder.total_in() == read => return Ok(text),
            Ok(_) => {}
        }
    }
}

/// UTF-16 or UTF-32, by its mark or by its zeros, as UTF-8.
fn wide(content: &[u8]) -> Option<Vec<u8>> {
    let sample = &content[..content.len().min(4096)];
    let zeros = |from: usize, step: usize| {
        let bytes = sample.iter().skip(from).step_by(step);
        let (zero, all) = bytes.fold((0, 0), |(zero, all), byte| (zero + usize::from(*byte == 0), all + 1));
        // Three in four: text of mostly western letters.
        all >= 4 && zero * 4 >= all * 3
    };
    let (four, big, skip) = match *content {
        [0xff, 0xfe, 0, 0, ..] => (true, false, 4),
        [0, 0, 0xfe, 0xff, ..] => (true, true, 4),
        [0xff, 0xfe, ..] => (false, false, 2),
        [0xfe, 0xff, ..] => (false, true, 2),
        _ if zeros(1, 4) && zeros(2, 4) && zeros(3, 4) && !zeros(0, 4) => (true, false, 0),
        _ if zeros(0, 4) && zeros(1, 4) && zeros(2, 4) && !zeros(3, 4) => (true, true, 0),
        _ if zeros(1, 2) && !zeros(0, 2) => (false, false, 0),
        _ if zeros(0, 2) && !zeros(1, 2) => (false, true, 0),
        _ => return None,
    };
    let content = &content[skip..];
    let text: String = if four {
        let (units, _) = content.as_chunks::<4>();
        let units = units.iter().map(|&unit| if big { u32::from_be_bytes(unit) } else { u32::from_le_bytes(unit) });
        units.map(|unit| char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
    } else {
        let (units, _) = content.as_chunks::<2>();
        let units = units.iter().map(|&unit| if big { u16::from_be_bytes(unit) } else { u16::from_le_bytes(unit) });
        char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
    };
    Some(text.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn holds(content: &[u8], text: &str) -> Result<bool, TooLarge> {
        let mut visit = |found: &[u8]| memchr::memmem::find(found, text.as_bytes()).map(drop);
        find(content, &mut visit).map(|found| found.is_some())
    }

    fn zip(name: &str, content: &[u8]) -> Vec<u8> {
        let mut deflate = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        deflate.write_all(content).unwrap();
        let data = deflate.finish().unwrap();
        let mut header = vec![0; HEADER];
        header[..4].copy_from_slice(LOCAL);
        header[8] = 8;
        header[26] = u8::try_from(name.len()).unwrap();
        [header, name.into(), data].concat()
    }

    #[test]
    fn promise_10_wide_text_and_archives_are_looked_into() {
        let text = "a line with needle in it\n";
        let units: Vec<u16> = text.encode_utf16().collect();
        for content in [
            units.iter().flat_map(|unit| unit.to_le_bytes()).collect::<Vec<u8>>(),
            units.iter().flat_map(|unit| unit.to_be_bytes()).collect(),
            [&[0xff, 0xfe][..], &units.iter().flat_map(|unit| unit.to_le_bytes()).collect::<Vec<u8>>()].concat(),
            text.chars().flat_map(|letter| u32::from(letter).to_le_bytes()).collect(),
            text.chars().flat_map(|letter| u32::from(letter).to_be_bytes()).collect(),
            [&b"#!/bin/sh\n"[..], &zip("a", b"other"), &zip("b", text.as_bytes())].concat(),
            zip("outer.zip", &zip("inner", text.as_bytes())),
        ] {
            assert_eq!(holds(&content, "needle"), Ok(true), "{content:?}");
        }
        assert_eq!(holds(text.as_bytes(), "needle"), Ok(false), "plain bytes are scanned elsewhere");
        assert_eq!(holds(&zip("bomb", &vec![0; MAX_TEXTS + 1]), "needle"), Err(TooLarge));
    }
}
