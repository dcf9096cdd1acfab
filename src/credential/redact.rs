//! Takes the values of credentials out of responses: where a value is, plain or encoded, its placeholder takes its place.
//!
//! Rules:
//! * What leaves has the length of what came: a placeholder that is shorter or longer than its value is filled up or cut.
//!   So lengths in the framing of any protocol (`Content-Length`, chunks, WebSocket and gRPC messages) stay correct.
//! * A text is held back only while its end may be the beginning of a value.
//! * At a boundary that must not wait, as the end of a message, everything leaves. If what was held back is at least half
//!   of a value, it is replaced as well; and where the next text completes a value, its rest is replaced.
//!
//! Attacks that this stops: a server that shows a request's credentials in its response, by mistake (a debug page, an
//! echo) or because the agent asked it to. It does not stop a server that encodes the value in a way of its own: the
//! server has the value.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::scan::{ExactMatcher, forms};

/// What a text is filled up with that is longer than its placeholder.
const FILL: u8 = b'*';

/// Finds values, and knows what takes their place. Clones of the pointer share it.
pub struct Redactor {
    exact: ExactMatcher,
    /// What takes the place of each form of each value, of the same length.
    masks: HashMap<Vec<u8>, Vec<u8>>,
    /// The length of the shortest form: hardly any name is as long, and the others need no search.
    shortest: usize,
}

impl Redactor {
    /// Takes values with their placeholders.
    pub fn new<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let (mut values, mut masks) = (Vec::new(), HashMap::new());
        for (value, placeholder) in pairs {
            values.push(value.to_owned());
            // Encodings of the same number of characters have the same forms; the others are only filled.
            let stand_in = String::from_utf8(fit(placeholder.as_bytes(), value.len())).unwrap_or_default();
            let (plain, stand_ins) = (forms(value), forms(&stand_in));
            let same = plain.len() == stand_ins.len();
            for (index, form) in plain.into_iter().enumerate() {
                let stand_in = if same { stand_ins[index].as_slice() } else { &[] };
                let mask = fit(stand_in, form.len());
                masks.entry(form).or_insert(mask);
            }
        }
        let shortest = masks.keys().map(Vec::len).min().unwrap_or(usize::MAX);
        Self { exact: ExactMatcher::new(&values), masks, shortest }
    }

    /// The text without values; `None` if there is none in it.
    pub fn text(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut text = None;
        let mut at = 0;
        while let Some((start, form)) = self.exact.find(&bytes[at..]) {
            let (start, end) = (at + start, at + start + form.len());
            text.get_or_insert_with(|| bytes.to_vec())[start..end].copy_from_slice(&self.mask(form));
            at = end;
        }
        text
    }

    /// Whether a name has a value in it, whatever the case of its letters: HTTP/2 has lower-case names only.
    pub fn is_in_name(&self, name: &str) -> bool {
        if name.len() < self.shortest {
            return false;
        }
        let name = name.to_ascii_lowercase();
        self.masks.keys().any(|form| memchr::memmem::find(name.as_bytes(), &form.to_ascii_lowercase()).is_some())
    }

    fn mask(&self, form: &[u8]) -> Vec<u8> {
        self.masks.get(form).cloned().unwrap_or_else(|| vec![FILL; form.len()])
    }
}

/// A text of exactly this length.
fn fit(text: &[u8], length: usize) -> Vec<u8> {
    let mut text = text[..text.len().min(length)].to_vec();
    text.resize(length, FILL);
    text
}

/// A text that arrives in pieces.
pub struct RedactedStream {
    redactor: Arc<Redactor>,
    /// As it came: what may be the beginning of a value.
    open: Vec<u8>,
    /// How much of that has left already, at a boundary.
    left: usize,
}

impl RedactedStream {
    /// Starts a text.
    pub fn new(redactor: Arc<Redactor>) -> Self {
        Self { redactor, open: Vec::new(), left: 0 }
    }

    /// How many bytes are held back.
    pub fn held(&self) -> usize {
        self.open.len() - self.left
    }

    /// Takes a piece; returns what may leave.
    pub fn push(&mut self, piece: &Bytes) -> Bytes {
        let exact = &self.redactor.exact;
        if self.open.is_empty() && exact.find(piece).is_none() {
            // The usual case, without a copy.
            let cut = exact.open_end(piece).map_or(piece.len(), |(start, _)| start);
            self.open.extend_from_slice(&piece[cut..]);
            return piece.slice(..cut);
        }
        let (before, text) = (self.left, [&self.open[..], piece].concat());
        let mut shown = text.clone();
        let mut at = 0;
        let open = loop {
            let rest = &text[at..];
            let open = exact.open_end(rest).map_or(rest.len(), |(start, _)| start);
            match exact.find(rest) {
                // A longer form may begin before this one, and is not complete yet.
                Some((start, form)) if start < open => {
                    let (start, end) = (at + start, at + start + form.len());
                    shown[start..end].copy_from_slice(&self.redactor.mask(form));
                    at = end;
                }
                _ => break at + open,
            }
        };
        let from = before.min(shown.len());
        self.open = text[open..].to_vec();
        self.left = before.saturating_sub(open);
        shown.truncate(open.max(from));
        Bytes::from(shown).slice(from..)
    }

    /// Ends a message, or the text: everything leaves. The next piece may continue what was held back.
    pub fn boundary(&mut self) -> Bytes {
        let held = self.open[self.left..].to_vec();
        let begun = self.redactor.exact.open_end(&self.open).filter(|(start, _)| *start == 0);
        let half = begun.filter(|(_, form)| self.open.len() * 2 >= form.len());
        let shown = match half {
            Some((_, form)) => self.redactor.mask(form)[self.left..self.open.len()].to_vec(),
            None => held,
        };
        self.left = self.open.len();
        shown.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
    use proptest::prelude::*;

    const VALUE: &str = "sk-live/4fJ+9xq=Zt\"7Lm";
    const PLACEHOLDER: &str = "sk-none-AAAAbbbbCCCCdd";

    fn redactor() -> Arc<Redactor> {
        assert_eq!(VALUE.len(), PLACEHOLDER.len());
        Arc::new(Redactor::new([(VALUE, PLACEHOLDER), ("another-value-of-more", "short-placeholder")]))
    }

    /// What leaves of a text that comes in these pieces.
    fn run(redactor: &Arc<Redactor>, pieces: &[&[u8]]) -> Vec<u8> {
        let mut stream = RedactedStream::new(redactor.clone());
        let mut left = Vec::new();
        for piece in pieces {
            left.extend_from_slice(&stream.push(&Bytes::copy_from_slice(piece)));
        }
        left.extend_from_slice(&stream.boundary());
        left
    }

    /// Texts with the value in them, as servers show it, and the same with the placeholder.
    fn shown() -> Vec<(String, String)> {
        let both = |text: &dyn Fn(&str) -> String| (text(VALUE), text(PLACEHOLDER));
        let mut all = vec![
            both(&|value| format!("Authorization: Bearer {value}\n")),
            both(&|value| format!("{value}{value}")),
            both(&|value| format!("<{}>", value.chars().rev().collect::<String>())),
            both(&|value| format!("x{}x", HEXLOWER.encode(value.as_bytes()))),
            ("token another-value-of-more.".into(), "token short-placeholder****.".into()),
        ];
        for user in ["a", "ab", "abc"] {
            all.push(both(&|value| format!("Basic {}", BASE64.encode(format!("{user}:{value}#end").as_bytes()))));
            all.push(both(&|value| BASE64URL_NOPAD.encode(format!("{user}:{value}").as_bytes())));
        }
        all
    }

    /// The parts of a text that are as in another one; base64 shares a character with its neighbours.
    fn differs(one: &[u8], other: &[u8]) -> usize {
        one.iter().zip(other).filter(|(one, other)| one != other).count()
    }

    #[test]
    fn a_value_is_replaced_however_the_text_is_split() {
        let redactor = redactor();
        for (text, expected) in shown() {
            let text = text.as_bytes();
            for first in 0..=text.len() {
                for second in first..=text.len() {
                    let left = run(&redactor, &[&text[..first], &text[first..second], &text[second..]]);
                    assert_eq!(left.len(), text.len());
                    let difference = differs(&left, expected.as_bytes());
                    assert!(difference <= 2, "{}: {expected}", String::from_utf8_lossy(&left));
                    assert!(!ExactMatcher::new(&[VALUE.to_owned()]).matches(&left));
                }
            }
            let each: Vec<&[u8]> = text.chunks(1).collect();
            assert_eq!(run(&redactor, &each), run(&redactor, &[text]));
            assert_eq!(redactor.text(text), Some(run(&redactor, &[text])));
        }
    }

    #[test]
    fn escapes_that_are_longer_than_the_placeholder_leave_nothing_of_the_value() {
        let redactor = redactor();
        for text in [
            url::form_urlencoded::byte_serialize(VALUE.as_bytes()).collect::<String>(),
            serde_json::to_string(VALUE).unwrap(),
            VALUE.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect::<Vec<_>>().concat(),
        ] {
            for cut in 0..=text.len() {
                let (one, two) = text.as_bytes().split_at(cut);
                let left = String::from_utf8(run(&redactor, &[one, two])).unwrap();
                assert_eq!(left.len(), text.len());
                for part in ["4fJ", "9xq", "7Lm"] {
                    assert!(!left.contains(part), "{left}");
                }
            }
        }
    }

    #[test]
    fn only_a_possible_beginning_is_held_back() {
        let redactor = redactor();
        let mut stream = RedactedStream::new(redactor);
        for (piece, leaves) in [
            ("data: hello\n\n", "data: hello\n\n"),
            ("data: sk-liv", "data: "),
            ("ing well\n\n", "sk-living well\n\n"),
            ("data: sk-live/4fJ+9xq=Zt\"7L", "data: "),
            ("m\n\n", "sk-none-AAAAbbbbCCCCdd\n\n"),
        ] {
            assert_eq!(stream.push(&Bytes::from(piece)), leaves, "{piece}");
        }
    }

    #[test]
    fn messages_do_not_wait_and_no_half_of_a_value_leaves() {
        let redactor = redactor();
        // All ways to split the value over three messages, each of which leaves at once.
        for first in 0..=VALUE.len() {
            for second in first..=VALUE.len() {
                let mut stream = RedactedStream::new(redactor.clone());
                let mut left = String::new();
                for part in [&VALUE[..first], &VALUE[first..second], &VALUE[second..]] {
                    let out = [stream.push(&Bytes::from(part.to_owned())), stream.boundary()].concat();
                    assert_eq!((out.len(), stream.held()), (part.len(), 0));
                    left.push_str(&String::from_utf8(out).unwrap());
                }
                let kept = left.bytes().zip(VALUE.bytes()).take_while(|(one, other)| one == other).count();
                assert!(kept * 2 <= VALUE.len() + 1, "{first} {second}: {left}");
                assert!(!left.ends_with(&VALUE[VALUE.len() / 2 + 1..]), "{first} {second}: {left}");
            }
        }
    }

    #[test]
    fn a_name_is_recognized_in_lower_case() {
        let redactor = Redactor::new([("Ab9xQ-77-TOKEN", "placeholder-000")]);
        assert!(redactor.is_in_name("x-ab9xq-77-token") && !redactor.is_in_name("x-ab9xq-77-tokem"));
    }

    proptest! {
        #[test]
        fn what_has_no_value_leaves_as_it_came(
            text in "[a-z -]{0,200}(sk-live/)?[a-z -]{0,50}", cuts in prop::collection::vec(0_usize..300, 0..10),
        ) {
            let redactor = redactor();
            let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (text.len() + 1)).collect();
            ends.extend([0, text.len()]);
            ends.sort_unstable();
            let pieces: Vec<&[u8]> = ends.windows(2).map(|ends| &text.as_bytes()[ends[0]..ends[1]]).collect();
            prop_assert_eq!(run(&redactor, &pieces), text.as_bytes());
        }

        #[test]
        fn values_among_other_text_are_replaced_at_any_splits(
            before in "[a-z/+ -]{0,60}", between in "[a-z/+ -]{0,9}", cuts in prop::collection::vec(0_usize..200, 0..10),
        ) {
            let redactor = redactor();
            let text = format!("{before}{VALUE}{between}{VALUE}");
            let expected = format!("{before}{PLACEHOLDER}{between}{PLACEHOLDER}");
            let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (text.len() + 1)).collect();
            ends.extend([0, text.len()]);
            ends.sort_unstable();
            let pieces: Vec<&[u8]> = ends.windows(2).map(|ends| &text.as_bytes()[ends[0]..ends[1]]).collect();
            prop_assert_eq!(run(&redactor, &pieces), expected.into_bytes());
        }
    }
}
