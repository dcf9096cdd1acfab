//! Runs of base64 and hexadecimal digits, also where they are wrapped into lines.

use std::ops::Range;

/// Shorter runs are words, in characters.
const MIN_RUN: usize = 24;
/// The distance between the bytes that are tested first.
const STEP: usize = 8;
/// Shorter lines are not wrapped base64, in characters.
pub(super) const MIN_LINE: usize = 32;

/// The characters of base64.
pub(super) const OF_RUN: [bool; 256] = {
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
pub(super) fn runs(bytes: &[u8]) -> impl Iterator<Item = Range<usize>> {
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

/// Joins base64 that is wrapped into lines, as base64(1) and mail do it (RFC 2045, section 6.8); `None` if there is
/// none.
pub(super) fn unwrap_lines(bytes: &[u8]) -> Option<Vec<u8>> {
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
