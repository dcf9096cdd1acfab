//! Runs of base64 and hexadecimal digits, also where they are wrapped into lines.

use std::ops::Range;

/// Shorter runs are words, in characters.
pub(super) const MIN_RUN: usize = 24;
/// The bytes that are tested together, and the distance between such blocks: a run has a whole one.
const BLOCK: usize = 8;
const DISTANCE: usize = 16;
/// How many bytes have as many blocks as an integer has bits.
const CHUNK: usize = 8 * DISTANCE;
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

/// Whether a token without gaps may have a byte: a run, or several with dots between, as JWTs are.
pub(super) fn is_of_token(byte: u8) -> bool {
    OF_RUN[usize::from(byte)] || byte == b'.'
}

/// The runs that are long enough. Only every other block is tested at first: most text has no block of digits alone.
pub(super) fn runs(bytes: &[u8]) -> impl Iterator<Item = Range<usize>> {
    // The next chunk, the blocks of digits that are left of the one before, and the end of the last run.
    let (mut next, mut left, mut end) = (0, 0, 0);
    std::iter::from_fn(move || {
        loop {
            while left == 0 {
                left = blocks_of_digits(bytes.get(next..).filter(|rest| !rest.is_empty())?);
                next += CHUNK;
            }
            let at = next - CHUNK + left.trailing_zeros() as usize * DISTANCE;
            left &= left - 1;
            if at < end {
                continue;
            }
            let is_out = |byte: &u8| !OF_RUN[usize::from(*byte)];
            let from = bytes[..at].iter().rposition(is_out).map_or(0, |before| before + 1);
            end = bytes[at..].iter().position(is_out).map_or(bytes.len(), |behind| at + behind);
            if end - from >= MIN_RUN {
                return Some(from..end);
            }
        }
    })
}

/// Which blocks at the beginning of a text consist of digits, as bits. There is no branch and no table in it, so that the
/// processor tests many bytes at a time.
fn blocks_of_digits(text: &[u8]) -> u8 {
    let padded;
    let chunk: &[u8; CHUNK] = if let Some(chunk) = text.first_chunk() {
        chunk
    } else {
        let mut chunk = [0; CHUNK];
        chunk[..text.len()].copy_from_slice(text);
        padded = chunk;
        &padded
    };
    let mut tested = [0; CHUNK / DISTANCE * BLOCK];
    for (block, from) in tested.as_chunks_mut::<BLOCK>().0.iter_mut().zip(chunk.as_chunks::<DISTANCE>().0) {
        block.copy_from_slice(&from[..BLOCK]);
    }
    let digits = tested.map(|byte| if is_digit(byte) { u8::MAX } else { 0 });
    let blocks = digits.as_chunks::<BLOCK>().0.iter().enumerate();
    blocks.fold(0, |all, (index, block)| all | u8::from(u64::from_ne_bytes(*block) == u64::MAX) << index)
}

/// The same as [`OF_RUN`].
#[expect(clippy::needless_bitwise_bool, reason = "a branch would keep the processor from testing many bytes at a time")]
#[inline]
fn is_digit(byte: u8) -> bool {
    let letter = (byte | 0x20).wrapping_sub(b'a') < 26;
    // The slash is in front of the numbers.
    let number = byte.wrapping_sub(b'/') < 11;
    letter | number | (byte == b'+') | (byte == b'-') | (byte == b'_')
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
    fn runs_are_found_at_every_place_and_of_every_length() {
        assert!((0..=255).all(|byte| is_digit(byte) == OF_RUN[usize::from(byte)]));
        for length in [1, BLOCK, MIN_RUN - 1, MIN_RUN, MIN_RUN + 1, 2 * CHUNK + 3] {
            for before in 0..2 * CHUNK {
                for behind in [0, 1, CHUNK] {
                    let text = [vec![b' '; before], vec![b'x'; length], vec![b' '; behind]].concat();
                    let found: Vec<_> = runs(&text).collect();
                    let expected: Vec<_> = (length >= MIN_RUN).then_some(before..before + length).into_iter().collect();
                    assert_eq!(found, expected, "{before} {length} {behind}");
                    let twice: Vec<_> = runs(&[&text[..], b".", &text].concat()).collect();
                    let other = text.len() + 1 + before;
                    let both = [expected.clone(), expected.iter().map(|_| other..other + length).collect()].concat();
                    assert_eq!(twice, both, "{before} {length} {behind}");
                }
            }
        }
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
}
