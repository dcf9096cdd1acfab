//! Finds the texts that are encoded in a text: escape sequences, UTF-16, runs of base64 or hexadecimal digits, and compressed
//! data that is not declared.

use std::ops::Range;

use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD, Encoding, HEXLOWER_PERMISSIVE};

use super::budget::{Budget, Exhausted};
use super::decode::{Decoded, decode_leniently};
use super::finding::Finding;
use super::{encoding, wide};

/// Maximum number of nested encodings.
pub(super) const MAX_DEPTH: usize = 6;
/// Maximum number of nested escapes: JSON in forms in JSON needs two for each.
pub(super) const MAX_ESCAPES: usize = 24;
/// The length of an escape `\\uXXXX`, in bytes.
const UNIT: usize = 6;
/// Shorter runs are words, in characters.
const MIN_RUN: usize = 24;
/// The distance between the bytes that are tested first.
const STEP: usize = 8;
/// How much of a run is decoded to decide whether the rest is worth it: a multiple of four.
const BEGINNING: usize = 24;
/// Shorter lines are not wrapped base64, in characters.
const MIN_LINE: usize = 32;

/// How a text stands in another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inner {
    /// With escapes: each of its bytes has a place of its own.
    Escaped,
    /// With line ends in it, as in wrapped base64.
    Wrapped,
    /// In an encoding.
    Encoded,
}

/// Scans an inner text.
pub(super) type ScanFn<'a> = dyn FnMut(&[u8], Inner, &mut Budget) -> Result<Option<Finding>, Exhausted> + 'a;

/// Scans the inner texts one after the other, so that only one of them is in memory: with the escapes of JSON and URLs
/// resolved, with UTF-16 read, and with runs of base64 and hexadecimal digits decoded.
pub(super) fn inner(bytes: &[u8], budget: &mut Budget, scan: &mut ScanFn<'_>) -> Result<Option<Finding>, Exhausted> {
    let mut visit_as = |text: &[u8], kind: Inner, budget: &mut Budget| -> Result<Option<Finding>, Exhausted> {
        budget.reserve(text.len())?;
        let found = scan(text, kind, budget);
        budget.release(text.len());
        found
    };
    if let Some(Decoded { text, metadata }) = inflate(bytes, budget)? {
        for text in [text, metadata] {
            if let Some(finding) = visit_as(&text, Inner::Encoded, budget)? {
                return Ok(Some(finding));
            }
        }
    }
    if let Some(text) = unescape(bytes)
        && let Some(finding) = visit_as(&text, Inner::Escaped, budget)?
    {
        return Ok(Some(finding));
    }
    if let Some(text) = wide::narrow(bytes)
        && let Some(finding) = visit_as(&text, Inner::Encoded, budget)?
    {
        return Ok(Some(finding));
    }
    let readable = |text: &Vec<u8>| is_readable(text);
    let mut broken = false;
    for range in runs(bytes) {
        broken |= range.len() >= MIN_LINE && matches!(bytes.get(range.end), Some(b'\r' | b'\n'));
        let run = &bytes[range];
        // The beginning rules most runs out, so that the rest need not be decoded.
        let begins = &run[..run.len().min(BEGINNING)];
        if run.len().is_multiple_of(2) && begins_readable(&HEXLOWER_PERMISSIVE, begins) {
            let text = HEXLOWER_PERMISSIVE.decode(run).ok().filter(readable);
            if let Some(finding) = text.map_or(Ok(None), |text| visit_as(&text, Inner::Encoded, budget))? {
                return Ok(Some(finding));
            }
        }
        // Four characters are three bytes; an incomplete group at the end is dropped, as padding would be.
        let whole = &run[..run.len() - usize::from(run.len() % 4 == 1)];
        if begins_readable(alphabet(run), begins) {
            let text = lenient(whole).filter(readable);
            if let Some(finding) = text.map_or(Ok(None), |text| visit_as(&text, Inner::Encoded, budget))? {
                return Ok(Some(finding));
            }
        }
    }
    let unwrapped = if broken { unwrap_lines(bytes) } else { None };
    unwrapped.map_or(Ok(None), |text| visit_as(&text, Inner::Wrapped, budget))
}

/// The encoding that the first bytes identify: RFC 1952 section 2.3.1, RFC 8878 section 3.1.1, RFC 1950 section 2.2.
pub(super) fn compressed(bytes: &[u8]) -> Option<encoding::Encoding> {
    match *bytes.first_chunk::<4>()? {
        [0x1f, 0x8b, 8, _] => Some(encoding::Encoding::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd] => Some(encoding::Encoding::Zstd),
        [0x78, flags, ..] if (0x7800 + u16::from(flags)).is_multiple_of(31) => Some(encoding::Encoding::Deflate),
        _ => None,
    }
}

/// Decodes compressed data that is not declared, as far as it can be decoded.
fn inflate(bytes: &[u8], budget: &mut Budget) -> Result<Option<Decoded>, Exhausted> {
    compressed(bytes).map(|encoding| decode_leniently(bytes, encoding, budget)).transpose()
}

/// Joins base64 that is wrapped into lines, as base64(1) and mail do it (RFC 2045, section 6.8); `None` if there is
/// none.
fn unwrap_lines(bytes: &[u8]) -> Option<Vec<u8>> {
    let pieces = pieces(bytes);
    (pieces.len() > 1).then(|| pieces.into_iter().map(|piece| &bytes[piece]).collect::<Vec<_>>().concat())
}

/// What stays of a text when its wrapped lines are joined.
fn pieces(bytes: &[u8]) -> Vec<Range<usize>> {
    // From the end: most lines end with another character.
    let in_run = |bytes: &[u8]| bytes.iter().rev().all(|&byte| OF_RUN[usize::from(byte)]);
    let (mut pieces, mut from) = (Vec::new(), 0);
    for at in memchr::memchr_iter(b'\n', bytes) {
        let end = if bytes[..at].ends_with(b"\r") { at - 1 } else { at };
        let before = end.checked_sub(MIN_LINE).is_some_and(|start| in_run(&bytes[start..end]));
        if before && bytes.get(at + 1).is_some_and(|&next| OF_RUN[usize::from(next)]) {
            pieces.push(from..end);
            from = at + 1;
        }
    }
    pieces.push(from..bytes.len());
    pieces
}

/// The ranges of a text that become these ranges when its wrapped lines are joined.
pub(super) fn wrapped(bytes: &[u8], ranges: &[Range<usize>]) -> Vec<Range<usize>> {
    let (mut ends, mut length) = (Vec::new(), 0);
    let pieces = pieces(bytes);
    for piece in &pieces {
        length += piece.len();
        ends.push(length);
    }
    let place = |byte: usize| {
        let piece = ends.partition_point(|&end| end <= byte).min(pieces.len() - 1);
        pieces[piece].end - (ends[piece] - byte).min(pieces[piece].end)
    };
    ranges.iter().map(|range| place(range.start)..place(range.end.saturating_sub(1)) + 1).collect()
}

/// Whether decoded bytes are text, in bytes or in UTF-16, or compressed data.
fn is_readable(bytes: &[u8]) -> bool {
    is_text(bytes) || compressed(bytes).is_some() || wide::begins(bytes)
}

/// Whether decoded bytes are text. If not, the run was not encoded text. White space is text: files begin with indented lines.
fn is_text(bytes: &[u8]) -> bool {
    let is_of_text = |byte: &&u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
    let mostly = |bytes: &[u8]| bytes.iter().filter(is_of_text).count() * 4 > bytes.len() * 3;
    // The beginning rules most out.
    mostly(&bytes[..bytes.len().min(16)]) && mostly(bytes)
}

/// The characters of base64.
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

/// The runs that are long enough. Only every [`STEP`]-th byte is tested at first: a run contains enough consecutive
/// ones, and most text does not.
fn runs(bytes: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let (mut at, mut streak) = (STEP - 1, 0);
    std::iter::from_fn(move || {
        while at < bytes.len() {
            streak = if OF_RUN[usize::from(bytes[at])] { streak + 1 } else { 0 };
            if streak < MIN_RUN / STEP {
                at += STEP;
                continue;
            }
            let is_out = |byte: &u8| !OF_RUN[usize::from(*byte)];
            let from = bytes[..at].iter().rposition(is_out).map_or(0, |before| before + 1);
            let to = bytes[at..].iter().position(is_out).map_or(bytes.len(), |behind| at + behind);
            (at, streak) = (to + STEP, 0);
            if to - from >= MIN_RUN {
                return Some(from..to);
            }
        }
        None
    })
}

/// Whether the beginning of a run decodes to what is readable; allocates nothing.
fn begins_readable(encoding: &Encoding, begins: &[u8]) -> bool {
    let mut text = [0; BEGINNING];
    let Ok(length) = encoding.decode_len(begins.len()) else { return false };
    encoding.decode_mut(begins, &mut text[..length]).is_ok_and(|length| is_readable(&text[..length]))
}

fn alphabet(run: &[u8]) -> &'static Encoding {
    static PLAIN: Encoding = BASE64_NOPAD;
    static URL: Encoding = BASE64URL_NOPAD;
    if run.iter().any(|byte| b"-_".contains(byte)) { &URL } else { &PLAIN }
}

fn lenient(run: &[u8]) -> Option<Vec<u8>> {
    let encoding = alphabet(run);
    let cut = run.len() - run.len() % 4;
    encoding.decode(run).or_else(|_| encoding.decode(&run[..cut])).ok()
}

/// Resolves the `\\` escapes of JSON and the `%` escapes of URLs; `None` if there are none.
pub(super) fn unescape(bytes: &[u8]) -> Option<Vec<u8>> {
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
        let Some(&first) = bytes.get(at) else { break };
        resolved.clear();
        let rest = &bytes[at..];
        let taken = if first == b'%' { percent(rest, &mut resolved) } else { backslash(rest, &mut resolved) };
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

/// Resolves the escape at the beginning; returns its length.
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

/// The same. An escape of JSON that has other escapes in it stays until those are resolved: a reader that resolves them in the
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

    #[test]
    fn escapes_and_runs_are_resolved() {
        let texts = |text: &str| -> Vec<String> {
            let mut found = Vec::new();
            let mut scan = |text: &[u8], _: Inner, _: &mut Budget| {
                found.push(String::from_utf8_lossy(text).into_owned());
                Ok(None)
            };
            inner(text.as_bytes(), &mut Budget::unbounded(), &mut scan).unwrap();
            found
        };
        assert_eq!(texts(r"\u0067hp\/x"), ["ghp/x"]);
        assert_eq!(texts("a%67%68p"), ["aghp"]);
        // Whichever of the two is resolved first.
        for mixed in [r"\u00%36%37hp", r"\%750067hp", r"\u%30067hp", r"\u006%37hp", r"%5cu0067hp"] {
            assert_eq!(texts(mixed), [r"\u0067hp"], "{mixed}");
        }
        assert_eq!(texts(r"%\u0036\u0037hp"), ["%67hp"]);
        assert_eq!(texts(r"\u\u0030067hp"), [r"\u0067hp"]);
        assert_eq!(texts(r"p\ud83e\uDD80\u00e4\ud83e"), ["p🦀äud83e"]);
        assert_eq!(texts("x=aGVsbG8gd29ybGQsIHRoaXMgaXMgaXQ="), ["hello world, this is it"]);
        assert_eq!(texts("no escapes here"), Vec::<String>::new());
        let indented = "        a:\n            b: c\n";
        assert_eq!(texts(&data_encoding::BASE64.encode(indented.as_bytes())), [indented]);
    }

    #[test]
    fn lines_are_found_again() {
        let line = "0123456789abcdef".repeat(2);
        let text = format!("a b\n{line}\r\n{line}\n{line}\nend of it");
        let joined = unwrap_lines(text.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(joined.clone()).unwrap(), format!("a b\n{}end of it", line.repeat(3)));
        for from in 0..joined.len() {
            for to in from + 1..=joined.len() {
                let range = wrapped(text.as_bytes(), std::slice::from_ref(&(from..to)))[0].clone();
                let piece = text[range].replace("\r\n", "").replace('\n', "");
                assert_eq!(
                    piece.as_bytes(),
                    &String::from_utf8_lossy(&joined[from..to]).replace('\n', "").into_bytes()[..],
                    "{from} {to}"
                );
            }
        }
    }

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
