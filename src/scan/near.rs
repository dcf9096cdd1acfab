//! A text without its escapes, only where it differs from the text with them: everything is searched for in a text before its
//! escapes are resolved, so that what is far from every escape was searched already.
//!
//! This saves time and stops nothing. It must open no hole either: what is left out has nothing that the whole text would show.
//! * A rule looks at a window around a keyword, and at nothing else. One without an escape stood in the text as it is, byte for
//!   byte; one with an escape is whole where at least a window stays on both sides of each. Rules look at those alone: a window that
//!   a piece ends within would be another text. A window goes on to the end of a token without gaps, and so does a piece.
//! * A known secret that is found only without escapes has a byte of an escape in it, and between two of those, or before the first
//!   or behind the last, it has only bytes that stand in the text as they are. Of these there are at most
//!   [`ExactMatcher::reach`](super::exact::ExactMatcher::reach), and so many stay on both sides of each escape.
//! * Runs of base64 and hexadecimal digits are decoded from their beginning, and wrapped lines of them are joined: a piece
//!   neither begins nor ends within one.
//! * An escape that another one makes begins or ends with that one: no piece begins or ends within it.
//! * Compressed data, which a text begins with, and UTF-16, which may be anywhere around a zero byte, are not cut: such a text
//!   stays whole.

use std::ops::Range;

use super::encoding::compressed;
use super::escapes::{next_escape, resolve, unescape};
use super::runs::is_of_token;

/// What stands between two pieces: part of no secret, run, escape or line end. UTF-8 has no such byte, and UTF-16 that is
/// searched for has zeros, or would have to be of letters that are none.
const BETWEEN: [u8; 4] = [0xff; 4];

/// How many bytes an escape becomes at most: a letter in UTF-8, or a sign that is none of one.
const RESOLVED: usize = 4;
/// How much rules look at in front of a keyword, in bytes: so much in front of a token stays with it.
pub(super) const CONTEXT: usize = 128;
/// How much further than an escape one may begin that it has made, in bytes: at each layer, a part of one.
pub(super) const NESTED: usize = 128;

/// A text without its escapes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Near {
    pub(super) text: Vec<u8>,
    /// Where in it what was an escape begins; none if the text is whole.
    pub(super) escapes: Option<Vec<usize>>,
}

impl Near {
    /// All of a text without its escapes; `None` if there are none.
    pub(super) fn whole(bytes: &[u8]) -> Option<Self> {
        unescape(bytes).map(|text| Self { text, escapes: None })
    }
}

/// Whether a part of such a text has what was an escape.
pub(super) fn has_escape(escapes: &[usize], part: &Range<usize>) -> bool {
    let first = escapes.partition_point(|at| at + RESOLVED <= part.start);
    escapes.get(first).is_some_and(|at| *at < part.end)
}

/// The text without its escapes, at most so far from them; `None` if there are none.
pub(super) fn unescape_near(bytes: &[u8], reach: usize) -> Option<Near> {
    let stays_whole = |text: &[u8]| memchr::memchr(0, text).is_some() || compressed(text).is_some();
    if stays_whole(bytes) {
        return Near::whole(bytes);
    }
    let near = pieces(bytes, reach)?;
    if stays_whole(&near.text) { Near::whole(bytes) } else { Some(near) }
}

fn pieces(bytes: &[u8], reach: usize) -> Option<Near> {
    // What comes before `from` was passed on or left out.
    let (mut from, mut shorter, mut escapes) = (0, false, Vec::new());
    let mut next = Some(next_escape(bytes, 0)?);
    let mut text = Vec::with_capacity(bytes.len());
    while let Some(at) = next {
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
        escapes.push(before);
        let taken = resolve(&bytes[at..], &mut text);
        shorter |= text.len() - before < taken;
        from = at + taken;
        next = next_escape(bytes, from);
    }
    let rest = &bytes[from..];
    text.extend_from_slice(&rest[..end_of_piece(rest, reach)]);
    shorter.then_some(Near { text, escapes: Some(escapes) })
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
    let token = begin_of_token(plain, begin);
    // What is in front of a token says what it is.
    if token < begin { begin_of_token(plain, token.saturating_sub(CONTEXT)) } else { begin }
}

/// Where what a place is in the middle of begins.
fn begin_of_token(plain: &[u8], at: usize) -> usize {
    match plain.get(at) {
        Some(&first) if continues(first) => at - plain[..at].iter().rev().take_while(|byte| continues(**byte)).count(),
        _ => at,
    }
}

/// Whether a byte may be within a run or a token without gaps, or between two lines of one.
fn continues(byte: u8) -> bool {
    is_of_token(byte) || matches!(byte, b'\r' | b'\n')
}
