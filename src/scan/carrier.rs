//! Where a text may be masked: masking must not change how the text is read. In JSON a value is within one string, in a form
//! within one name or value, in a multipart body within the content of one part that has no encoding, in gRPC within one field
//! of text. A text is UTF-8. Everything else is refused.
//!
//! Attacks that this stops: a rule that matches across strings, fields or parts, so that masking the match would remove a
//! quotation mark or a delimiter, and another end of a string or another part would be read than was written.

use std::borrow::Cow;
use std::ops::Range;

use serde::de::IgnoredAny;

use super::budget::Budget;
use super::encoding::DecodeError;
use super::multipart::parts;
use super::protobuf;

/// How a text that may be masked is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier<'a> {
    /// As it is, or as JSON if it begins like that.
    Text,
    /// As JSON.
    Json,
    /// As pairs of a form.
    Pairs,
    /// As the parts of a multipart body with this boundary.
    Parts(&'a str),
    /// As a message of gRPC.
    Message,
}

impl Carrier<'_> {
    /// Whether each place, in the order of their beginnings, may be masked.
    ///
    /// # Errors
    /// The text is not what it is said to be.
    pub(super) fn allows(
        &self,
        text: &[u8],
        places: &[Range<usize>],
        budget: &mut Budget,
    ) -> Result<Vec<bool>, DecodeError> {
        match self {
            Self::Message => Ok(places.iter().map(|place| protobuf::is_in_text(text, place)).collect()),
            Self::Parts(boundary) => {
                let parts = parts(boundary, text, budget)?;
                let plain = parts.iter().filter(|part| matches!(part, Cow::Borrowed(_)));
                let contents: Vec<Range<usize>> = plain.filter_map(|part| place_of(part, text)).collect();
                let allowed = |place: &Range<usize>| {
                    let content = contents.iter().find(|content| holds(content, place));
                    content.is_some_and(|content| {
                        let inside = place.start - content.start..place.end - content.start;
                        Carrier::Text.allows_in(&text[content.clone()], &[inside])[0]
                    })
                };
                Ok(places.iter().map(allowed).collect())
            }
            _ => Ok(self.allows_in(text, places)),
        }
    }

    fn allows_in(self, text: &[u8], places: &[Range<usize>]) -> Vec<bool> {
        let json = self == Self::Json || is_json(text);
        if std::str::from_utf8(text).is_err() {
            vec![false; places.len()]
        } else if self == Self::Pairs {
            places.iter().map(|place| is_in_pair(text, place)).collect()
        } else if json {
            are_in_strings(text, places)
        } else {
            vec![true; places.len()]
        }
    }
}

/// Whether a text is JSON, or several such texts, and more than a word.
fn is_json(text: &[u8]) -> bool {
    let begins = matches!(text.trim_ascii_start().first(), Some(b'{' | b'[' | b'"'));
    begins && serde_json::Deserializer::from_slice(text).into_iter::<IgnoredAny>().all(|value| value.is_ok())
}

fn holds(whole: &Range<usize>, part: &Range<usize>) -> bool {
    whole.start <= part.start && part.end <= whole.end
}

/// The place of a part in the text that it is borrowed from.
fn place_of(part: &[u8], text: &[u8]) -> Option<Range<usize>> {
    let start = (part.as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
    Some(start..start + part.len())
}

/// Whether a place is in one name or one value of a form.
fn is_in_pair(text: &[u8], place: &Range<usize>) -> bool {
    let from = memchr::memrchr(b'&', &text[..place.start]).map_or(0, |before| before + 1);
    let in_value = memchr::memchr(b'=', &text[from..place.start]).is_some();
    let value = &text[place.clone()];
    memchr::memchr(b'&', value).is_none() && (in_value || memchr::memchr(b'=', value).is_none())
}

/// Whether each place is in one string of a JSON text, between its quotation marks (RFC 8259, section 7).
fn are_in_strings(json: &[u8], places: &[Range<usize>]) -> Vec<bool> {
    let mut allowed = Vec::with_capacity(places.len());
    let mut at = 0;
    while allowed.len() < places.len() {
        let Some(from) = memchr::memchr(b'"', &json[at..]).map(|quote| at + quote + 1) else { break };
        let mut to = from;
        let closed = loop {
            match memchr::memchr2(b'"', b'\\', json.get(to..).unwrap_or_default()) {
                None => break None,
                Some(next) if json[to + next] == b'"' => break Some(to + next),
                Some(next) => to += next + 2,
            }
        };
        let Some(end) = closed else { break };
        while let Some(place) = places.get(allowed.len()).filter(|place| place.start < end) {
            allowed.push(holds(&(from..end), place));
        }
        at = end + 1;
    }
    allowed.resize(places.len(), false);
    allowed
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether what is between the brackets may be masked.
    fn allowed(carrier: Carrier<'_>, text: &str) -> Vec<bool> {
        let (mut places, mut plain) = (Vec::new(), Vec::new());
        for byte in text.bytes() {
            match byte {
                b'<' => places.push(plain.len()..0),
                b'>' => places.last_mut().unwrap().end = plain.len(),
                other => plain.push(other),
            }
        }
        carrier.allows(&plain, &places, &mut Budget::unbounded()).unwrap()
    }

    #[test]
    fn a_place_is_within_what_is_read_as_one() {
        use Carrier::{Json, Pairs, Parts, Text};
        let part = |head: &str, text: &str| format!("--b\r\n{head}\r\n\r\n{text}\r\n--b--\r\n");
        for (carrier, text, expected) in [
            (Text, "a <b> \"c <d\" e> f".to_owned(), &[true, true][..]),
            (Text, r#" {"a": "x<b>", "<c>": <1>}"#.to_owned(), &[true, true, false]),
            (Text, r#"{"a": 1} {"b": <2>}"#.to_owned(), &[false]),
            (Text, r#"{"a": 1} b <2>"#.to_owned(), &[true]),
            (Json, r#""<a>\"<b>""#.to_owned(), &[true, true]),
            (Json, r#"{"a": "x<b", "c>": "d"}"#.to_owned(), &[false]),
            (Json, r#"["a<\">b"]"#.to_owned(), &[true]),
            (Json, r#"["a<"]>"#.to_owned(), &[false]),
            (Json, r#"["a<b"#.to_owned() + ">", &[false]),
            (Json, "no <json>".to_owned(), &[false]),
            (Pairs, "a=<b>&<c>=<d=e>".to_owned(), &[true, true, true]),
            (Pairs, "<a=b>&c=<d&e>".to_owned(), &[false, false]),
            (Parts("b"), part("A: b", "x <y>"), &[true]),
            (Parts("b"), part("A: <b>", "x"), &[false]),
            (Parts("b"), "<a>\r\n".to_owned() + &part("A: b", "x"), &[false]),
            (Parts("b"), "--b\r\n\r\n<x\r\n--b\r\n\r\ny>\r\n--b--\r\n".to_owned(), &[false]),
            (Parts("b"), part("Content-Transfer-Encoding: quoted-printable", "<x>"), &[false]),
            (Parts("b"), part("A: b", r#"{"a": <1>}"#), &[false]),
        ] {
            assert_eq!(allowed(carrier, &text), expected, "{carrier:?} {text}");
        }
        let first = std::slice::from_ref(&(0..1));
        assert_eq!(Text.allows(b"a\xffb", first, &mut Budget::unbounded()).unwrap(), [false]);
    }
}
