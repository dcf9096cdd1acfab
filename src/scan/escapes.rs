//! The escapes of JSON and URLs, and where what they become stands in a text.

use std::ops::Range;

/// The length of an escape `\uXXXX`, in bytes.
const UNIT: usize = 6;

/// Resolves the `\` escapes of JSON and the `%` escapes of URLs; `None` if there are none.
pub(super) fn unescape(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut rest = bytes;
    let first = memchr::memchr2(b'\\', b'%', rest)?;
    let mut text = Vec::with_capacity(bytes.len());
    let mut next = Some(first);
    while let Some(at) = next {
        text.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        let taken = resolve(rest, &mut text);
        rest = &rest[taken..];
        next = memchr::memchr2(b'\\', b'%', rest);
    }
    text.extend_from_slice(rest);
    (text.len() < bytes.len()).then_some(text)
}

/// The ranges of a text that become these ranges when its escapes are resolved: whole escapes.
pub(super) fn escaped(bytes: &[u8], ranges: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut wanted: Vec<usize> = ranges.iter().flat_map(|range| [range.start, range.end.saturating_sub(1)]).collect();
    wanted.sort_unstable();
    wanted.dedup();
    // The place of each wanted byte.
    let mut places: Vec<Range<usize>> = Vec::with_capacity(wanted.len());
    let (mut at, mut out, mut resolved) = (0, 0, Vec::new());
    while places.len() < wanted.len() && at < bytes.len() {
        let plain = memchr::memchr2(b'\\', b'%', &bytes[at..]).unwrap_or(bytes.len() - at);
        while let Some(&byte) = wanted.get(places.len()).filter(|&&byte| byte < out + plain) {
            places.push(at + byte - out..at + byte - out + 1);
        }
        (at, out) = (at + plain, out + plain);
        let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) else { break };
        resolved.clear();
        let taken = resolve(rest, &mut resolved);
        while wanted.get(places.len()).is_some_and(|&byte| byte < out + resolved.len()) {
            places.push(at..at + taken);
        }
        (at, out) = (at + taken, out + resolved.len());
    }
    let place = |byte: usize| wanted.binary_search(&byte).ok().and_then(|index| places.get(index).cloned());
    let range = |range: &Range<usize>| match (place(range.start), place(range.end.saturating_sub(1))) {
        (Some(first), Some(last)) => first.start..last.end,
        // Never: the text was made from these bytes.
        _ => 0..bytes.len(),
    };
    ranges.iter().map(range).collect()
}

/// The next place where a text and the one without its escapes may differ.
pub(super) fn next_escape(bytes: &[u8], mut from: usize) -> Option<usize> {
    loop {
        let at = from + memchr::memchr2(b'\\', b'%', &bytes[from..])?;
        if bytes[at] == b'\\' || percent_byte(&bytes[at..]).is_some() {
            return Some(at);
        }
        from = at + 1;
    }
}

/// Resolves the escape at the beginning; returns its length.
pub(super) fn resolve(rest: &[u8], text: &mut Vec<u8>) -> usize {
    if rest.first() == Some(&b'%') { percent(rest, text) } else { backslash(rest, text) }
}

/// The same for URLs.
fn percent(rest: &[u8], text: &mut Vec<u8>) -> usize {
    let byte = percent_byte(rest);
    text.push(byte.unwrap_or(b'%'));
    if byte.is_some() { 3 } else { 1 }
}

/// The byte of the `%` escape at the beginning.
fn percent_byte(rest: &[u8]) -> Option<u8> {
    let &[b'%', high, low, ..] = rest else { return None };
    let (high, low) = (char::from(high).to_digit(16)?, char::from(low).to_digit(16)?);
    u8::try_from(high * 16 + low).ok()
}

/// The same for JSON. An escape that has other escapes in it stays until those are resolved: a reader that resolves them in the
/// other order finds no JSON.
fn backslash(rest: &[u8], text: &mut Vec<u8>) -> usize {
    if let Some(letter) = unit(rest).and_then(|unit| char::from_u32(unit.into())) {
        text.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
        return UNIT;
    }
    // Two units for one letter (RFC 8259, section 7).
    if let (Some(high), Some(low)) = (unit(rest), rest.get(UNIT..).and_then(unit))
        && let Some(Ok(letter)) = char::decode_utf16([high, low]).next()
    {
        text.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
        return 2 * UNIT;
    }
    let Some(&escaped) = rest.get(1) else { return 1 };
    let digits = rest.get(2..).unwrap_or_default();
    let is_open = match escaped {
        b'u' if unit(rest).is_none() => digits.iter().take(UNIT - 2).any(|byte| matches!(byte, b'\\' | b'%')),
        b'%' => percent_byte(&rest[1..]).is_some(),
        _ => false,
    };
    if is_open {
        text.push(b'\\');
        return 1;
    }
    text.push(match escaped {
        b'n' => b'\n',
        b't' => b'\t',
        b'r' => b'\r',
        other => other,
    });
    2
}

/// The UTF-16 unit of the escape at the beginning, `\uXXXX`.
fn unit(rest: &[u8]) -> Option<u16> {
    let digits = rest.strip_prefix(b"\\u")?.first_chunk::<4>()?;
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        /// Each byte of the resolved text is made from its range alone.
        #[test]
        fn escapes_are_found_again(text in r#"([a-z"]|\\\\|\\n|\\"|\\u00[46]1|%[46]1|%|\\u00e9|\\ud83d){0,30}\\\\?"#) {
            let Some(resolved) = unescape(text.as_bytes()) else { return Ok(()) };
            let each: Vec<Range<usize>> = (0..resolved.len()).map(|at| at..at + 1).collect();
            let ranges = escaped(text.as_bytes(), &each);
            for (index, range) in ranges.iter().enumerate() {
                let piece = &text.as_bytes()[range.clone()];
                let alone = unescape(piece).unwrap_or_else(|| piece.to_vec());
                proptest::prop_assert!(alone.contains(&resolved[index]), "{text:?} {index} {range:?}");
                proptest::prop_assert!(index == 0 || ranges[index - 1].end == range.start || ranges[index - 1] == *range);
            }
        }
    }
}
