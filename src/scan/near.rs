//! A text without its escapes, only where it differs from the text with them: known secrets are searched for in a text before
//! its escapes are resolved, so that what is far from every escape was searched already.
//!
//! This saves time and stops nothing. It must open no hole either: what is left out has nothing that the whole text would show.
//! * A secret that is found only without escapes has a byte of an escape in it, and between two of those, or before the first
//!   or behind the last, it has only bytes that stand in the text as they are. Of these there are at most
//!   [`ExactMatcher::reach`](super::exact::ExactMatcher::reach), and so many stay on both sides of each escape.
//! * Runs of base64 and hexadecimal digits are decoded from their beginning, and wrapped lines of them are joined: a piece
//!   neither begins nor ends within one.
//! * An escape that another one makes begins or ends with that one: no piece begins or ends within it.
//! * Compressed data, which a text begins with, and UTF-16, which may be anywhere around a zero byte, are not cut: such a text
//!   stays whole.

use super::encoding::compressed;
use super::escapes::{next_escape, resolve, unescape};
use super::runs::OF_RUN;

/// What stands between two pieces: part of no secret, run, escape or line end. UTF-8 has no such byte, and UTF-16 that is
/// searched for has zeros, or would have to be of letters that are none.
const BETWEEN: [u8; 4] = [0xff; 4];

/// The text without its escapes, at most so far from them; `None` if there are none.
pub(super) fn unescape_near(bytes: &[u8], reach: usize) -> Option<Vec<u8>> {
    let stays_whole = |text: &[u8]| memchr::memchr(0, text).is_some() || compressed(text).is_some();
    if stays_whole(bytes) {
        return unescape(bytes);
    }
    let text = pieces(bytes, reach)?;
    if stays_whole(&text) { unescape(bytes) } else { Some(text) }
}

fn pieces(bytes: &[u8], reach: usize) -> Option<Vec<u8>> {
    // What comes before `from` was passed on or left out.
    let (mut text, mut from, mut shorter) = (Vec::new(), 0, false);
    while let Some(at) = next_escape(bytes, from) {
        let plain = &bytes[from..at];
        // The text may begin far from its first escape.
        if from == 0 || plain.len() > 2 * reach {
            let ends = if from == 0 { 0 } else { end_of_piece(plain, reach) };
            let begins = begin_of_piece(plain, reach).max(ends);
            text.extend_from_slice(&plain[..ends]);
            if begins > ends {
                text.extend_from_slice(&BETWEEN);
            }
            text.extend_from_slice(&plain[begins..]);
        } else {
            text.extend_from_slice(plain);
        }
        let before = text.len();
        let taken = resolve(&bytes[at..], &mut text);
        shorter |= text.len() - before < taken;
        from = at + taken;
    }
    let rest = &bytes[from..];
    text.extend_from_slice(&rest[..end_of_piece(rest, reach)]);
    shorter.then_some(text)
}

/// Where the piece ends that begins here.
fn end_of_piece(plain: &[u8], reach: usize) -> usize {
    let end = plain.len().min(reach);
    match plain[..end].last() {
        Some(&last) if continues(last) => end + plain[end..].iter().take_while(|byte| continues(**byte)).count(),
        _ => end,
    }
}

/// Where the piece begins that ends here.
fn begin_of_piece(plain: &[u8], reach: usize) -> usize {
    let begin = plain.len().saturating_sub(reach);
    match plain.get(begin) {
        Some(&first) if continues(first) => {
            begin - plain[..begin].iter().rev().take_while(|byte| continues(**byte)).count()
        }
        _ => begin,
    }
}

/// Whether a byte may be within a run, or between two lines of one.
fn continues(byte: u8) -> bool {
    OF_RUN[usize::from(byte)] || matches!(byte, b'\r' | b'\n')
}
