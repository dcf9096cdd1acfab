//! What runs of digits encode: base64 in both alphabets of RFC 4648, and hexadecimal.
//!
//! An encoding need not be alone in its run. What stands beside it is often made of digits as well: the plus that a form has for
//! a space, the slashes of a path, the hyphens of a name, the `x` of `0x`. So base64 is looked for behind each of the digits that
//! are no letters, and hexadecimal digits wherever enough of them follow each other. Most of these places are ruled out by the
//! first few digits; what is decoded from the others is bounded by what can be read there.

use std::ops::Range;
use std::sync::LazyLock;

use data_encoding::{Encoding, HEXLOWER_PERMISSIVE, Specification};

use super::encoding::{self, compressed};
use super::runs::MIN_RUN;
use super::wide;

/// How much is decoded to decide whether the rest is worth it, in digits: whole groups of four.
const BEGINNING: usize = 24;
/// By how much longer each further piece is that is decoded as long as it can be read.
const LONGER: usize = 4;
/// How much is decoded of what may be zlib behind other digits, in digits. Its two magic bytes are frequent by chance.
const MAX_ZLIB: usize = 64 << 10;
/// The digits of a group of base64.
const GROUP: usize = 4;

/// Both alphabets, in any mixture: a digit of the other one may stand beside an encoding.
static BASE64: LazyLock<Encoding> = LazyLock::new(|| {
    let mut specification = Specification::new();
    specification.symbols.push_str("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/");
    specification.translate.from.push_str("-_");
    specification.translate.to.push_str("+/");
    // An incomplete group at the end is decoded as far as it goes.
    specification.check_trailing_bits = false;
    specification.encoding().expect("it is an alphabet")
});

/// Looks at what a run encodes.
pub(super) type VisitFn<'a, T, E> = dyn FnMut(&[u8]) -> Result<Option<T>, E> + 'a;

/// Passes on what a run encodes, until there is a result. `first` says that the text begins with the run: it may be the rest of
/// a longer one, of which a part was looked at before.
pub(super) fn decoded<T, E>(run: &[u8], first: bool, visit: &mut VisitFn<'_, T, E>) -> Result<Option<T>, E> {
    for digits in hex_stretches(run) {
        // Behind other letters, the first digit may be one of those.
        for start in digits.start..digits.start + 1 + usize::from(digits.start > 0) {
            let text = &run[start..digits.end];
            let text = &text[..text.len() & !1];
            if may_be_text_in_hex(text)
                && begins_readable(&HEXLOWER_PERMISSIVE, text)
                && let Ok(text) = HEXLOWER_PERMISSIVE.decode(text)
                && let Some(found) = visit(&text)?
            {
                return Ok(Some(found));
            }
        }
    }
    // How far groups that begin at these offsets were decoded.
    let mut known = [0; GROUP];
    for start in starts(run, first) {
        let digits = &run[start..];
        if start < known[start % GROUP] || !may_be_text(digits) || !begins_readable(&BASE64, digits) {
            continue;
        }
        let (text, length) = if start == 0 { (decode(digits), digits.len()) } else { decode_readable(digits) };
        known[start % GROUP] = start + length;
        if let Some(found) = visit(&text)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Where hexadecimal digits follow each other. Only every [`STEP`]-th digit is tested at first.
fn hex_stretches(run: &[u8]) -> impl Iterator<Item = Range<usize>> {
    const STEP: usize = 8;
    let mut at = STEP - 1;
    let is_hex = |at: usize| run.get(at).is_some_and(u8::is_ascii_hexdigit);
    std::iter::from_fn(move || {
        while at < run.len() {
            if !(is_hex(at) && is_hex(at + STEP)) {
                at += STEP;
                continue;
            }
            let from = run[..at].iter().rposition(|byte| !byte.is_ascii_hexdigit()).map_or(0, |before| before + 1);
            let to = run[at..].iter().position(|byte| !byte.is_ascii_hexdigit()).map_or(run.len(), |more| at + more);
            at = to + STEP;
            if to - from >= MIN_RUN {
                return Some(from..to);
            }
        }
        None
    })
}

/// Where base64 may begin.
fn starts(run: &[u8], first: bool) -> impl Iterator<Item = usize> {
    // The rest of a run may begin within a group.
    let beginning = 0..if first { GROUP } else { 1 };
    let last = run.len().saturating_sub(MIN_RUN) + 1;
    let begins = |at: &usize| is_sign(run[at - 1]) && (!is_sign(run[*at]) || is_mark(&run[*at..]));
    let behind = (1..last).filter(begins);
    beginning.chain(behind)
}

/// Whether a digit is no letter and no number.
fn is_sign(digit: u8) -> bool {
    matches!(digit, b'+' | b'/' | b'-' | b'_')
}

/// Whether base64 begins with a mark of UTF-16, which begins with such a digit.
fn is_mark(digits: &[u8]) -> bool {
    matches!(digits, [b'/' | b'_', b'/' | b'_', b'4'..=b'7', ..] | [b'/' | b'_', b'v', ..])
}

/// Decodes base64 to its end.
fn decode(digits: &[u8]) -> Vec<u8> {
    // Four digits are three bytes; an incomplete group at the end is dropped if it has no byte.
    let whole = &digits[..digits.len() - usize::from(digits.len() % GROUP == 1)];
    BASE64.decode(whole).unwrap_or_default()
}

/// Decodes base64 as long as it can be read; also returns how many digits that are.
fn decode_readable(digits: &[u8]) -> (Vec<u8>, usize) {
    let begins = decode(&digits[..digits.len().min(BEGINNING)]);
    match compressed(&begins) {
        Some(encoding::Encoding::Deflate) => {
            let length = digits.len().min(MAX_ZLIB);
            return (decode(&digits[..length]), length);
        }
        Some(_) => return (decode(digits), digits.len()),
        None if wide::begins(&begins) => return (decode(digits), digits.len()),
        None => {}
    }
    let (mut text, mut length) = (begins, digits.len().min(BEGINNING));
    while length < digits.len() {
        let to = digits.len().min(LONGER * length);
        let piece = decode(&digits[length..to]);
        let goes_on = mostly_text(&piece) || is_utf8(&piece);
        text.extend_from_slice(&piece);
        length = to;
        if !goes_on {
            break;
        }
    }
    (text, length)
}

/// For each digit of base64, as bits: whether the byte is ASCII that has its highest bit in this digit, if the digit is the first,
/// the second or the third of its group.
const IS_ASCII: [u8; 256] = {
    let mut table = [0; 256];
    let mut value = 0;
    while value < 64 {
        let digit = match value {
            0..26 => b'A' + value,
            26..52 => b'a' + value - 26,
            52..62 => b'0' + value - 52,
            62 => b'+',
            _ => b'/',
        };
        table[digit as usize] = (value < 32) as u8 | ((value & 8 == 0) as u8) << 1 | ((value & 2 == 0) as u8) << 2;
        value += 1;
    }
    table[b'-' as usize] = table[b'+' as usize];
    table[b'_' as usize] = table[b'/' as usize];
    table
};

/// Whether base64 may begin what [`is_readable`], which costs more.
fn may_be_text(digits: &[u8]) -> bool {
    const GROUPS: usize = 5;
    let is_ascii = |digit: u8, place: u32| IS_ASCII[usize::from(digit)] >> place & 1;
    let groups = digits.as_chunks::<GROUP>().0.iter().take(GROUPS);
    let ascii: u8 = groups.map(|group| is_ascii(group[0], 0) + is_ascii(group[1], 1) + is_ascii(group[2], 2)).sum();
    // Of sixteen bytes, three may be none.
    usize::from(ascii) >= 3 * GROUPS - 3
        || matches!(digits, [b'H', b'4', b's', b'I', ..] | [b'K', b'L', b'U', b'v', ..] | [b'e', b'A'..=b'P', ..])
        // UTF-16, of any letters: a zero first or second, or a mark.
        || matches!(digits, [b'A', b'A'..=b'P', ..] | [_, b'A' | b'Q' | b'g' | b'w', b'A'..=b'D', ..] | [b'/' | b'_', ..])
}

/// The same for hexadecimal digits.
fn may_be_text_in_hex(digits: &[u8]) -> bool {
    let begins = &digits[..digits.len().min(BEGINNING)];
    let ascii = begins.iter().step_by(2).filter(|digit| **digit < b'8').count();
    ascii * 8 > begins.len() * 3
        || matches!(digits, [b'1', b'f' | b'F', b'8', b'b' | b'B', ..] | [b'2', b'8', b'b' | b'B', b'5', ..])
        || matches!(digits, [b'7', b'8', ..] | [b'0', b'0', ..] | [_, _, b'0', b'0', ..] | [b'f' | b'F', ..])
}

/// Whether what begins here decodes to what is readable; allocates nothing.
fn begins_readable(encoding: &Encoding, digits: &[u8]) -> bool {
    let begins = &digits[..digits.len().min(BEGINNING)];
    let begins = &begins[..begins.len() - usize::from(begins.len() % GROUP == 1)];
    let mut text = [0; BEGINNING];
    let Ok(length) = encoding.decode_len(begins.len()) else { return false };
    encoding.decode_mut(begins, &mut text[..length]).is_ok_and(|length| is_readable(&text[..length]))
}

/// Whether decoded bytes are text, in bytes or in UTF-16, or compressed data.
fn is_readable(bytes: &[u8]) -> bool {
    is_text(bytes) || compressed(bytes).is_some() || wide::begins(bytes)
}

/// Whether decoded bytes are text. If not, the run was not encoded text. White space is text: files begin with indented lines.
fn is_text(bytes: &[u8]) -> bool {
    // The beginning rules most out.
    mostly_text(&bytes[..bytes.len().min(16)]) && mostly_text(bytes)
}

fn mostly_text(bytes: &[u8]) -> bool {
    let is_of_text = |byte: &&u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
    bytes.iter().filter(is_of_text).count() * 4 > bytes.len() * 3
}

/// Whether a piece is text in UTF-8, of which a letter may be cut at each end.
fn is_utf8(piece: &[u8]) -> bool {
    let begins = piece.iter().take(3).take_while(|byte| **byte & 0xc0 == 0x80).count();
    std::str::from_utf8(&piece[begins..]).err().is_none_or(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::{BASE64 as PADDED, BASE64URL_NOPAD, HEXLOWER, HEXUPPER};

    const TEXT: &str = "the text that is looked for, ~~~ and some more of it ??? until its end";

    /// What a run encodes.
    fn texts(run: &str, first: bool) -> Vec<String> {
        let mut found = Vec::new();
        let mut visit = |text: &[u8]| -> Result<Option<()>, ()> {
            found.push(String::from_utf8_lossy(text).into_owned());
            Ok(None)
        };
        assert_eq!(decoded(run.as_bytes(), first, &mut visit), Ok(None));
        found
    }

    fn assert_found(run: &str) {
        assert!(texts(run, false).iter().any(|text| text.contains(TEXT)), "{run}: {:?}", texts(run, false));
    }

    #[test]
    fn promise_09_what_is_encoded_is_found_behind_other_digits() {
        let base64 = [PADDED.encode(TEXT.as_bytes()), BASE64URL_NOPAD.encode(TEXT.as_bytes())];
        assert!(base64[0].contains(['+', '/']) && base64[1].contains(['-', '_']));
        for encoded in base64.iter().map(|text| text.trim_end_matches('=')) {
            for before in ["", "+", "/", "-", "_", "+++", "a+", "ab/", "abc-", "e+ai+u+", "//cdn/img/", "--", "-_-"] {
                for behind in ["", "+", "/more/of-it", "+a+e", "_png", "A", "AAAAAAAAAAAAAAAA"] {
                    assert_found(&format!("{before}{encoded}{behind}"));
                }
            }
        }
        for encoded in [HEXLOWER.encode(TEXT.as_bytes()), HEXUPPER.encode(TEXT.as_bytes())] {
            for before in ["", "0x", "x", "_a", "xbed", "+", "/v1/", "key_", "abcdef+"] {
                for behind in ["", "+", "/tail", "z", "f", "ff+00"] {
                    assert_found(&format!("{before}{encoded}{behind}"));
                }
            }
        }
    }

    #[test]
    fn promise_09_compressed_data_and_wide_text_are_found_behind_other_digits() {
        let wide: Vec<u8> = format!("{TEXT}\u{e9}").repeat(5).encode_utf16().flat_map(u16::to_le_bytes).collect();
        let marked = [&[0xff, 0xfe][..], &wide].concat();
        let gzip = [&[0x1f, 0x8b, 8, 0], &[0xd5; 400][..]].concat();
        let zlib = [&[0x78, 0x9c], &[0xd5; 400][..]].concat();
        for bytes in [wide, marked, gzip, zlib] {
            let encoded = BASE64URL_NOPAD.encode(&bytes);
            for before in ["", "+", "e/ai/"] {
                let (run, mut found) = (format!("{before}{encoded}"), false);
                let mut visit = |text: &[u8]| -> Result<Option<()>, ()> {
                    found |= text == bytes;
                    Ok(None)
                };
                assert_eq!(decoded(run.as_bytes(), false, &mut visit), Ok(None));
                assert!(found, "{run}");
            }
        }
    }

    /// The rest of a run that was cut within a group, as in the next window of a long body.
    #[test]
    fn promise_09_the_rest_of_a_run_is_found_at_every_offset() {
        const WORDS: &str = "words of which none has another sign in base";
        let encoded = PADDED.encode(WORDS.repeat(3).as_bytes());
        let encoded = encoded.trim_end_matches('=');
        assert!(!encoded.contains(['+', '/']));
        for cut in 0..8 {
            assert!(texts(&encoded[cut..], true).iter().any(|text| text.contains(WORDS)), "{cut}");
        }
    }

    /// Letters of two and three bytes each do not make a text unreadable, wherever they begin.
    #[test]
    fn promise_09_other_languages_do_not_end_a_text() {
        let other = "\u{8fd9}\u{662f}\u{4e00}\u{6bb5}\u{6587}\u{5b57}\u{e4}\u{f6}\u{fc}".repeat(40);
        for shift in 0..3 {
            let text = format!("{{\"content\": \"a text{}{other}{TEXT}\"}}", "x".repeat(shift));
            let encoded = BASE64URL_NOPAD.encode(text.as_bytes());
            assert_found(&encoded);
            assert_found(&format!("+{encoded}"));
        }
    }

    proptest::proptest! {
        /// What is ruled out without decoding it could not be read.
        #[test]
        fn nothing_readable_is_ruled_out_by_its_digits(
            mut bytes in proptest::collection::vec(proptest::prop_oneof![3 => 9..=126_u8, 2 => 0..=255_u8], 15..40), wide: bool, magic in 0..5_usize,
        ) {
            let magic = [&[][..], &[0x1f, 0x8b, 8, 0], &[0x28, 0xb5, 0x2f, 0xfd], &[0x78, 0x9c], &[0xff, 0xfe]][magic];
            if wide {
                bytes = bytes.into_iter().flat_map(|byte| [byte, 0]).collect();
            }
            let bytes = [magic, &bytes].concat();
            let (base64, hex) = (BASE64URL_NOPAD.encode(&bytes), HEXLOWER.encode(&bytes));
            let readable = begins_readable(&BASE64, base64.as_bytes());
            proptest::prop_assert!(!readable || may_be_text(base64.as_bytes()), "{base64}");
            proptest::prop_assert!(!begins_readable(&HEXLOWER_PERMISSIVE, hex.as_bytes()) || may_be_text_in_hex(hex.as_bytes()), "{hex}");
        }
    }

    /// Pictures and digests are no texts, and do not cost their size many times.
    #[test]
    fn little_is_decoded_of_what_is_no_text() {
        let mut state = 1_u32;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        })
        .take(6 << 20)
        .collect();
        let mut visited = 0;
        for run in [PADDED.encode(&noise), BASE64URL_NOPAD.encode(&noise), HEXLOWER.encode(&noise)] {
            let mut visit = |text: &[u8]| -> Result<Option<()>, ()> {
                visited += text.len();
                Ok(None)
            };
            assert_eq!(decoded(run.as_bytes(), false, &mut visit), Ok(None));
        }
        assert!(visited < noise.len(), "{visited}");
        // What has many such digits itself is not decoded once from each of them.
        let run = PADDED.encode("???abc".repeat(2000).as_bytes());
        assert!(run.starts_with("Pz8/YWJjPz8/"));
        let looked: usize = texts(&run, false).iter().map(String::len).sum();
        assert_eq!(looked, 12_000);
    }
}
