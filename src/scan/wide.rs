//! Text in UTF-16: letters with a zero byte beside each. It is found wherever it stands in other bytes, in either order and
//! without a mark, and read as narrow text.
//!
//! Only what is a byte in Latin-1 is read: tokens, and what stands beside them in files, are ASCII. Other letters end a piece.

/// Shorter pieces are numbers and names in binary data, in letters.
const MIN_PIECE: usize = 8;
/// How much of a text decides whether all of it is UTF-16, in letters.
const BEGINNING: usize = 6;
/// The bytes that are tested together.
const WORD: usize = 8;
/// Every other byte of a word.
const EVEN: u64 = 0x00ff_00ff_00ff_00ff;
/// The highest bits of those bytes, and all other bits of them.
const HIGH: u64 = 0x0080_0080_0080_0080;
const LOW: u64 = 0x007f_007f_007f_007f;

/// The pieces of UTF-16 in a text, as UTF-8 with an end of line after each; `None` if there are none.
pub(super) fn narrow(bytes: &[u8]) -> Option<Vec<u8>> {
    // Most texts have no zero.
    let mut at = memchr::memchr(0, bytes)? & !(WORD - 1);
    let mut text = Vec::new();
    while let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk::<WORD>) {
        let word = u64::from_le_bytes(*word);
        // Four letters, with their zeros behind or before them.
        let first = if has_letters(word) {
            at
        } else if has_letters(word.rotate_right(8)) {
            at + 1
        } else {
            at += WORD;
            continue;
        };
        let (from, to) = piece(bytes, first);
        if (to - from) / 2 + 1 >= MIN_PIECE {
            text.extend((from..=to).step_by(2).flat_map(|at| utf8(bytes[at])).flatten());
            text.push(b'\n');
        }
        at = (to + 1).max(at + WORD);
    }
    (!text.is_empty()).then_some(text)
}

/// Whether a text is UTF-16 from its beginning.
#[inline]
pub(super) fn begins(bytes: &[u8]) -> bool {
    // Most bytes are told by the first two: neither a zero beside a letter nor a mark.
    matches!(bytes, [0, _, ..] | [_, 0, ..] | [0xff, 0xfe, ..] | [0xfe, 0xff, ..]) && are_units(bytes)
}

/// Whether the first units are letters.
fn are_units(bytes: &[u8]) -> bool {
    let (bytes, order) = match bytes {
        [0xff, 0xfe, rest @ ..] => (rest, Some(0)),
        [0xfe, 0xff, rest @ ..] => (rest, Some(1)),
        bytes => (bytes, None),
    };
    let Some(beginning) = bytes.get(..2 * BEGINNING.min(bytes.len() / 2)).filter(|all| all.len() >= BEGINNING) else {
        return false;
    };
    [0, 1]
        .into_iter()
        .filter(|letter| order.is_none_or(|order| order == *letter))
        .any(|letter| beginning.as_chunks::<2>().0.iter().all(|unit| is_letter(unit[letter]) && unit[1 - letter] == 0))
}

/// Whether the bytes of a word are letters of ASCII and zeros by turns.
fn has_letters(word: u64) -> bool {
    let letters = word & EVEN;
    word & !EVEN == 0 && letters & HIGH == 0 && (letters + LOW) & HIGH == HIGH
}

/// The first and the last letter of the piece that has a letter here.
fn piece(bytes: &[u8], letter: usize) -> (usize, usize) {
    let (mut from, mut to) = (letter, letter);
    while from >= 2 && bytes[from - 1] == 0 && is_letter(bytes[from - 2]) {
        from -= 2;
    }
    while bytes.get(to + 1) == Some(&0) && bytes.get(to + 2).copied().is_some_and(is_letter) {
        to += 2;
    }
    // At its ends, a byte beyond ASCII may be half of another letter.
    while to > letter && !bytes[to].is_ascii() {
        to -= 2;
    }
    while from < letter && !bytes[from].is_ascii() {
        from += 2;
    }
    (from, to)
}

/// Whether a byte is a letter of text in Latin-1.
fn is_letter(byte: u8) -> bool {
    byte.is_ascii_graphic() || byte.is_ascii_whitespace() || byte >= 0xa0
}

/// A letter of Latin-1 in UTF-8.
fn utf8(letter: u8) -> [Option<u8>; 2] {
    match letter {
        0..0x80 => [Some(letter), None],
        _ => [Some(0xc0 | letter >> 6), Some(0x80 | letter & 0x3f)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wide(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(bytes).collect()
    }

    #[test]
    fn pieces_are_found_at_every_place_in_either_order() {
        let text = "token: a\u{e9}b, \"c\"\r\n";
        let expected = [text.as_bytes(), b"\n"].concat();
        for bytes in [u16::to_le_bytes, u16::to_be_bytes] {
            let wide = wide(text, bytes);
            for (before, behind) in
                [(&b""[..], &b""[..]), (b"\xff\xfe", b""), (b"\xfe\xff", b""), (b"PK\x03", b"\x01\x02")]
            {
                for more in 0..WORD {
                    let whole = [before, &vec![0xff; more], &wide, behind].concat();
                    let found = narrow(&whole).unwrap_or_default();
                    assert_eq!(found, expected, "{before:?} {more} {behind:?}: {:?}", String::from_utf8_lossy(&found));
                }
            }
        }
        // What ends a piece does not end the text.
        let two = wide("the first \u{20ac} and the second", u16::to_le_bytes);
        assert_eq!(narrow(&two).unwrap(), b"the first \n and the second\n");
    }

    #[test]
    fn what_is_no_wide_text_is_none() {
        let numbers: Vec<u8> = (0..400_u16).flat_map(u16::to_le_bytes).collect();
        let wider: Vec<u8> = "just text".chars().flat_map(|letter| u32::from(letter).to_le_bytes()).collect();
        for bytes in [&b"a text\0with zeros\0in it\0"[..], &[0; 4096], &wider, &wide("short", u16::to_le_bytes), b""] {
            assert_eq!(narrow(bytes), None, "{bytes:?}");
            assert!(!begins(bytes) || bytes.len() == 10);
        }
        // Numbers from 32 on are letters as well.
        assert!(narrow(&numbers[..60]).is_none() && narrow(&numbers).is_some());
        for (text, expected) in [("Invoke-Expression", true), ("a\u{20ac}b", false), ("ab", false)] {
            assert_eq!(begins(&wide(text, u16::to_le_bytes)), expected, "{text}");
            assert_eq!(begins(&wide(text, u16::to_be_bytes)), expected, "{text}");
        }
        assert!(begins(&wide("\u{feff}a text", u16::to_le_bytes)) && begins(&wide("\u{feff}a text", u16::to_be_bytes)));
        assert!(!begins(b"a text in bytes"));
    }

    proptest::proptest! {
        #[test]
        fn a_text_is_found_in_any_bytes(
            text in "[ -~\r\n\t]{8,60}", big: bool,
            before in proptest::collection::vec(1..=255_u8, 0..20), behind in proptest::collection::vec(1..=255_u8, 0..20),
        ) {
            let bytes = if big { u16::to_be_bytes } else { u16::to_le_bytes };
            let whole = [&before[..], &wide(&text, bytes), &behind].concat();
            let found = narrow(&whole).unwrap_or_default();
            proptest::prop_assert!(memchr::memmem::find(&found, text.as_bytes()).is_some(), "{text:?} {found:?}");
        }
    }
}
