//! Masking: the places of findings in a text, and `*` in place of their bytes. The length stays, so that frames, lengths and
//! strings of JSON stay valid.
//!
//! Attacks that this stops:
//! * A mask that covers half of a value: the place of a token is that of the whole token, also beyond the context that rules
//!   search; letters and digits that follow it are masked with it; and the text is scanned again before it leaves.
//! * A mask that changes how a text is read: escape sequences are masked as a whole, line endings stay, and
//!   [`Carrier`](super::carrier::Carrier) says where nothing may be masked.

use std::ops::Range;

use super::budget::{Budget, Exhausted};
use super::escapes::escaped;
use super::finding::Finding;
use super::places::Places;
use super::runs::wrapped;

/// What values are overwritten with.
pub(super) const MASK: u8 = b'*';
/// Most places in one text.
pub(super) const MAX_PLACES: usize = 1 << 14;
/// How many letters and digits that follow a token are masked with it.
const MAX_FOLLOWING: usize = 256;

/// How a text that is scanned stands in the one that leaves.
#[derive(Clone, Copy)]
pub(super) enum Layer<'a> {
    /// It is that text.
    Whole,
    /// It is another text without its escapes.
    Escaped(&'a [u8], &'a Layer<'a>),
    /// It is another text with its wrapped lines joined.
    Wrapped(&'a [u8], &'a Layer<'a>),
}

impl Places {
    /// Notes a known secret in the layer that is being scanned.
    pub(super) fn push_known(&mut self, place: Range<usize>) -> Result<(), Exhausted> {
        match self.fresh.last_mut() {
            Some((last, same)) if same.fingerprint.is_none() && place.start < last.end => {
                last.end = last.end.max(place.end);
                Ok(())
            }
            _ => self.push(place, Finding::known_secret()),
        }
    }

    /// Notes a token in the layer that is being scanned.
    pub(super) fn push_token(&mut self, bytes: &[u8], place: Range<usize>, finding: Finding) -> Result<(), Exhausted> {
        self.push(fitted(bytes, place), finding)
    }

    fn push(&mut self, place: Range<usize>, finding: Finding) -> Result<(), Exhausted> {
        if self.fresh.len() + self.found.len() == MAX_PLACES {
            return Err(Exhausted);
        }
        self.fresh.push((place, finding));
        Ok(())
    }

    /// Brings the findings of a layer to their places in the text that leaves.
    pub(super) fn settle(&mut self, bytes: &[u8], layer: Layer<'_>, budget: &mut Budget) -> Result<(), Exhausted> {
        if self.fresh.is_empty() {
            return Ok(());
        }
        let (mut places, findings): (Vec<_>, Vec<_>) = std::mem::take(&mut self.fresh).into_iter().unzip();
        for place in &mut places {
            widen(bytes, place);
        }
        let (mut text, mut layer) = (bytes, layer);
        while let Layer::Escaped(outer, next) | Layer::Wrapped(outer, next) = layer {
            budget.spend(outer.len())?;
            places = if let Layer::Escaped(..) = layer { escaped(outer, &places) } else { wrapped(outer, &places) };
            for place in &mut places {
                widen(outer, place);
            }
            (text, layer) = (outer, *next);
        }
        // What is masked already is no value any more, whatever a rule says.
        let fresh =
            places.into_iter().zip(findings).filter(|(place, _)| text[place.clone()].iter().copied().any(is_open));
        self.found.extend(fresh);
        Ok(())
    }
}

/// Whether masking changes a byte. Line endings stay: they separate messages, events and parts.
fn is_open(byte: u8) -> bool {
    !matches!(byte, MASK | b'\r' | b'\n')
}

/// Overwrites the places; returns each finding with the number of its places. Of findings in one place, the first counts.
pub(super) fn overwrite(bytes: &mut [u8], found: Vec<(Range<usize>, Finding)>) -> Vec<(Finding, u64)> {
    let mut found: Vec<_> = found.into_iter().enumerate().map(|(order, (place, it))| (place, order, it)).collect();
    found.sort_by_key(|(place, order, _)| (place.start, *order));
    let mut together: Vec<(Range<usize>, usize, Finding)> = Vec::new();
    for (place, order, finding) in found {
        match together.last_mut() {
            Some((last, first, named)) if place.start < last.end => {
                last.end = last.end.max(place.end);
                if order < *first {
                    (*first, *named) = (order, finding);
                }
            }
            _ => together.push((place, order, finding)),
        }
    }
    let mut counts = std::collections::BTreeMap::new();
    for (place, _, finding) in together {
        bytes[place].iter_mut().filter(|byte| is_open(**byte)).for_each(|byte| *byte = MASK);
        *counts.entry(finding).or_default() += 1;
    }
    counts.into_iter().collect()
}

/// The place of a token without what is no part of it: white space, and the backslashes of an escape sequence that ends it, as
/// of a quotation mark; and with the letters and digits that follow it.
fn fitted(bytes: &[u8], place: Range<usize>) -> Range<usize> {
    let value = &bytes[place.clone()];
    let from = place.start + value.len() - value.trim_ascii_start().len();
    let is_end = |byte: &&u8| byte.is_ascii_whitespace() || **byte == b'\\';
    let to = (place.end - value.iter().rev().take_while(is_end).count()).max(from);
    // White space ends a token.
    let more = if to == place.end { &bytes[to..] } else { &[][..] };
    let follows = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'_';
    from..to + more.iter().take(MAX_FOLLOWING).take_while(follows).count()
}

/// Widens a place so that it cuts no escape sequence and no character.
fn widen(bytes: &[u8], place: &mut Range<usize>) {
    if let Some(escape) = escape_around(bytes, place.start) {
        place.start = escape.start;
    }
    if let Some(escape) = escape_around(bytes, place.end) {
        place.end = escape.end;
    }
    let continues = |at: usize| bytes.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
    for _ in 0..3 {
        place.start -= usize::from(place.start > 0 && continues(place.start));
        place.end += usize::from(continues(place.end));
    }
}

/// The escape sequence of JSON or of a URL that has bytes before and behind an offset.
fn escape_around(bytes: &[u8], at: usize) -> Option<Range<usize>> {
    let are_digits = |from: usize, count: usize| {
        bytes.get(from..from + count).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    (1..=5).filter_map(|back| at.checked_sub(back)).find_map(|start| {
        let length = match bytes[start] {
            b'\\' if introduces(bytes, start) => match bytes.get(start + 1) {
                Some(b'u') if are_digits(start + 2, 4) => 6,
                Some(_) => 2,
                None => 1,
            },
            b'%' if are_digits(start + 1, 2) => 3,
            _ => return None,
        };
        (start + length > at).then_some(start..start + length)
    })
}

/// Whether a backslash is the first byte of an escape sequence, and not the second.
fn introduces(bytes: &[u8], at: usize) -> bool {
    bytes[..at].iter().rev().take_while(|&&byte| byte == b'\\').count() % 2 == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_widened_to_whole_escapes_and_characters() {
        for (text, place, expected) in [
            ("abc", 1..2, 1..2),
            (r"a\nbc", 3..4, 3..4),
            // The letter of an escape, its backslash, and a backslash that is escaped.
            (r"a\nbc", 2..4, 1..4),
            (r"a\nbc", 0..2, 0..3),
            (r"a\\nb", 3..5, 3..5),
            (r"a\\nb", 2..5, 1..5),
            (r#"ab\"c"#, 0..3, 0..4),
            (r"\u0041b", 3..7, 0..7),
            (r"b\u0041", 0..4, 0..7),
            (r"\\u0041b", 2..4, 2..4),
            (r"\u004", 3..5, 3..5),
            ("a%41b", 2..5, 1..5),
            ("a%4", 2..3, 2..3),
            ("äb", 1..3, 0..3),
            ("b€", 0..2, 0..4),
        ] {
            let mut widened = place.clone();
            widen(text.as_bytes(), &mut widened);
            assert_eq!(widened, expected, "{text} {place:?}");
        }
    }

    #[test]
    fn what_is_in_one_place_is_overwritten_and_counted_once() {
        let finding = |rule: &str| Finding { rule: rule.to_owned(), fingerprint: None };
        let mut text = b"0123\n56789".to_vec();
        let found = vec![(2..7, finding("b")), (6..8, finding("a")), (1..3, finding("c")), (9..10, finding("b"))];
        assert_eq!(overwrite(&mut text, found), [(finding("b"), 2)]);
        assert_eq!(text, b"0***\n***8*");
    }

    #[test]
    fn letters_behind_a_token_go_with_it_and_white_space_stays() {
        for (text, place, expected) in
            [("k=abcdef g", 2..5, 2..8), ("k=abc-g", 2..5, 2..5), ("-\r\nabc \nx", 1..8, 3..6), ("-   -", 1..4, 4..4)]
        {
            assert_eq!(fitted(text.as_bytes(), place.clone()), expected, "{text:?} {place:?}");
        }
    }
}
