//! Percent-encodes `"`, `<` and `>` in the query of a request line: curl and Go's client send them as they are, the parser accepts
//! none of them, and every server reads an escape as the character (RFC 3986, sections 2.1 and 2.4). It is done before the
//! parser, so that the form that is judged and scanned is the one that is forwarded.
//!
//! Attacks that this stops: a query that the scanner reads and the destination reads otherwise. Only what follows the first `?`
//! of the line is encoded, where no method, host or path is; each byte becomes its own escape, and nothing else changes.

use std::borrow::Cow;

/// The escape of a byte that a query does not have.
pub(super) fn escape(byte: u8) -> Option<&'static [u8]> {
    match byte {
        b'"' => Some(b"%22"),
        b'<' => Some(b"%3C"),
        b'>' => Some(b"%3E"),
        _ => None,
    }
}

/// The places of such bytes in a piece of a request line that begins with `before`.
pub(super) fn places<'a>(before: &[u8], piece: &'a [u8]) -> impl Iterator<Item = usize> + use<'a> {
    let mark = memchr::memchr(b'?', before).map(|_| 0).or_else(|| memchr::memchr(b'?', piece));
    let from = mark.unwrap_or(piece.len());
    memchr::memchr3_iter(b'"', b'<', b'>', &piece[from..]).map(move |at| from + at)
}

/// The text with the bytes at these places encoded.
pub(super) fn encoded<'a>(text: &'a [u8], places: &[usize]) -> Cow<'a, [u8]> {
    if places.is_empty() {
        return text.into();
    }
    let mut all = Vec::with_capacity(text.len() + 2 * places.len());
    let mut from = 0;
    for &at in places {
        all.extend_from_slice(&text[from..at]);
        all.extend_from_slice(escape(text[at]).unwrap_or(&text[at..=at]));
        from = at + 1;
    }
    all.extend_from_slice(&text[from..]);
    all.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_alone_is_encoded_however_the_line_is_cut() {
        for (line, expected) in [
            ("GET /a?q={\"b\"}&c=<d> HTTP/1.1", "GET /a?q={%22b%22}&c=%3Cd%3E HTTP/1.1"),
            ("GET /\"<>?\"?<> HTTP/1.1", "GET /\"<>?%22?%3C%3E HTTP/1.1"),
            ("GET http://a/?\" HTTP/1.1", "GET http://a/?%22 HTTP/1.1"),
            ("GET /%22?%22 HTTP/1.1", "GET /%22?%22 HTTP/1.1"),
            ("GET /\"", "GET /\""),
        ] {
            for cut in 0..=line.len() {
                let (before, piece) = line.as_bytes().split_at(cut);
                let encode = |before: &[u8], piece: &[u8]| {
                    encoded(piece, &places(before, piece).collect::<Vec<_>>()).into_owned()
                };
                let whole = [encode(b"", before), encode(before, piece)].concat();
                assert_eq!(String::from_utf8_lossy(&whole), expected, "{cut}");
            }
        }
    }
}
