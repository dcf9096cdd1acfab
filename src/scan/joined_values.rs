//! The strings of JSON texts, joined: a secret may be split over the strings of one text, of several lines, or of several
//! messages of a connection, as clients send what is dictated or typed.
//!
//! The strings of each name are joined by themselves, because other strings stand between the pieces: `{"type": "delta",
//! "text": "first half"}`, `{"type": "delta", "text": "second half"}`. All strings together are joined as well. What a text is
//! joined with has left already: only the text that completes a secret is stopped.

use super::action::{Action, KNOWN_SECRET};
use super::budget::{Budget, Exhausted};
use super::finding::Finding;
use super::near::unescape_near;
use super::scanner::Scanner;

/// Names whose strings are joined by themselves: the first ones that occur.
const MAX_NAMES: usize = 32;
/// Longer names are not told apart, in bytes.
const MAX_NAME: usize = 64;
/// Strings are joined and searched in blocks of this size, in bytes.
const MAX_TOGETHER: usize = 64 << 10;

/// What was joined so far: the ends of all strings, and of those of each name.
#[derive(Clone, Default)]
pub(super) struct JoinedValues {
    all: Vec<u8>,
    named: Vec<(Vec<u8>, Vec<u8>)>,
}

impl JoinedValues {
    /// Joins the strings of a text with the ones before, if it is JSON; a known secret that is completed.
    ///
    /// # Errors
    /// The budget is exhausted.
    pub(super) fn join(
        &mut self,
        scanner: &Scanner,
        text: &[u8],
        budget: &mut Budget,
    ) -> Result<Option<Finding>, Exhausted> {
        let begins = matches!(text.trim_ascii_start().first(), Some(b'{' | b'[' | b'"'));
        if begins { self.join_lines(scanner, text, budget) } else { Ok(None) }
    }

    /// The same for a text that has JSON in its lines.
    ///
    /// # Errors
    /// The budget is exhausted.
    pub(super) fn join_lines(
        &mut self,
        scanner: &Scanner,
        text: &[u8],
        budget: &mut Budget,
    ) -> Result<Option<Finding>, Exhausted> {
        let longest = scanner.longest_form();
        if longest == 0 || scanner.action(KNOWN_SECRET) < Action::Mask {
            return Ok(None);
        }
        let mut found = false;
        for (name, value) in values(text) {
            // Of a long string, only its ends can be part of a split secret.
            let (beginning, is_long) = (&value[..value.len().min(longest)], value.len() > longest);
            for joined in [Some(&mut self.all), named(&mut self.named, name)].into_iter().flatten() {
                joined.extend_from_slice(beginning);
                if is_long || joined.len() >= MAX_TOGETHER {
                    found |= holds(scanner, joined, budget)?;
                    let end = if is_long { value } else { &joined[..] };
                    *joined = end[end.len() - longest.min(end.len())..].to_vec();
                }
            }
        }
        for joined in std::iter::once(&mut self.all).chain(self.named.iter_mut().map(|(_, joined)| joined)) {
            found |= holds(scanner, joined, budget)?;
            joined.drain(..joined.len().saturating_sub(longest));
        }
        Ok(found.then(Finding::known_secret))
    }
}

/// Whether joined strings hold a secret, with or without their escapes.
fn holds(scanner: &Scanner, joined: &[u8], budget: &mut Budget) -> Result<bool, Exhausted> {
    budget.spend(joined.len())?;
    Ok(scanner.exact.matches(joined)
        || unescape_near(joined, scanner.exact.reach()).is_some_and(|near| scanner.exact.matches(&near.text)))
}

/// The place for the strings of a name, as long as there are few names.
fn named<'a>(all: &'a mut Vec<(Vec<u8>, Vec<u8>)>, name: &[u8]) -> Option<&'a mut Vec<u8>> {
    let name = &name[..name.len().min(MAX_NAME)];
    let place = match all.iter().position(|(other, _)| other == name) {
        None if all.len() == MAX_NAMES => return None,
        None => {
            all.push((name.to_vec(), Vec::new()));
            all.len() - 1
        }
        Some(place) => place,
    };
    Some(&mut all[place].1)
}

/// The string values of JSON texts (RFC 8259, section 7), still escaped, each with the name before it.
fn values(json: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let (mut rest, mut name) = (json, &b""[..]);
    std::iter::from_fn(move || {
        loop {
            let from = memchr::memchr(b'"', rest)? + 1;
            let mut to = from;
            loop {
                to += memchr::memchr2(b'"', b'\\', rest.get(to..)?)?;
                if rest[to] == b'"' {
                    break;
                }
                to += 2;
            }
            let value = &rest[from..to];
            rest = &rest[to + 1..];
            if rest.trim_ascii_start().first() != Some(&b':') {
                return Some((name, value));
            }
            name = value;
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::scan::{Actions, Dlp, Rules};

    const SECRET: &str = "correct-horse/battery \"staple\"";

    fn scanner() -> Scanner {
        Scanner::new(&[SECRET.to_owned()], Arc::new(Rules::none()), Arc::new(Actions::new(&Dlp::default())))
    }

    /// The number of the text that is stopped.
    fn stopped(texts: &[String]) -> Option<usize> {
        let (scanner, mut joined) = (scanner(), JoinedValues::default());
        texts.iter().position(|text| {
            joined.join(&scanner, text.as_bytes(), &mut Budget::of(text.len())).expect("it is little").is_some()
        })
    }

    fn quoted(text: &str) -> String {
        serde_json::to_string(text).unwrap()
    }

    #[test]
    fn promise_09_pieces_in_strings_of_several_texts_are_joined() {
        for at in 1..SECRET.len() {
            let (one, two) = (quoted(&SECRET[..at]), quoted(&SECRET[at..]));
            for (first, second) in [
                (format!("{{\"delta\":{one}}}"), format!("{{\"delta\":{two}}}")),
                (format!("{{\"delta\":{one},\"more\":[1,2]}}"), format!(" {{\"id\":7,\"delta\":{two}}}")),
                // Others stand between.
                (
                    format!("{{\"type\":\"append\",\"text\":{one},\"id\":\"a\"}}"),
                    format!("{{\"type\":\"append\",\"text\":{two},\"id\":\"b\"}}"),
                ),
                (format!("[[\"a\", {one}]]"), two.clone()),
            ] {
                assert_eq!(stopped(&[first.clone(), second.clone()]), Some(1), "{first} {second}");
                assert_eq!(
                    stopped(&[first.clone(), "no JSON".to_owned(), second.clone()]),
                    Some(2),
                    "{first} {second}"
                );
                assert_eq!(stopped(&[second, first]), None);
            }
        }
        // In pieces of one letter, and of one text.
        let letters: Vec<String> =
            SECRET.chars().map(|letter| format!("{{\"d\":{}}}", quoted(&letter.to_string()))).collect();
        assert_eq!(stopped(&letters), Some(letters.len() - 1));
        let all: Vec<String> = SECRET.chars().map(|letter| quoted(&letter.to_string())).collect();
        assert_eq!(stopped(&[format!("[{}]", all.join(","))]), Some(0));
        assert_eq!(stopped(&[letters.concat()]), Some(0));
    }

    #[test]
    fn promise_09_pieces_at_the_ends_of_long_strings_and_behind_many_texts_are_joined() {
        let (one, two) = ("correct-horse/batt", "ery \\\"staple\\\"");
        let longest = scanner().longest_form();
        let long = "x".repeat(3 * longest);
        let first = format!("{{\"d\":\"{long}{one}\"}}");
        assert_eq!(stopped(&[first.clone(), format!("{{\"d\":\"{two}{long}\"}}")]), Some(1));
        let many = vec!["{\"other\":\"text\"}".to_owned(); 3 * MAX_NAMES];
        assert_eq!(stopped(&[vec![first.clone()], many, vec![format!("{{\"d\":\"{two}\"}}")]].concat()), Some(97));
        let text = format!("[{}{two}\"]", "\"x\",".repeat(MAX_TOGETHER) + &format!("\"{one}\",\""));
        assert_eq!(stopped(&[text]), Some(0));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let (scanner, mut joined) = (scanner(), JoinedValues::default());
        for number in 0..4 * MAX_NAMES {
            let text = format!("{{\"{}{number}\":\"{}\"}}", "n".repeat(MAX_NAME / 2), "x".repeat(2 * MAX_TOGETHER));
            assert_eq!(joined.join(&scanner, text.as_bytes(), &mut Budget::of(text.len())), Ok(None));
        }
        assert_eq!(joined.named.len(), MAX_NAMES);
        assert!(joined.named.iter().all(|(_, end)| end.len() <= scanner.longest_form()));
        assert!(joined.all.len() <= scanner.longest_form());
        let many = format!("[{}\"\"]", "\"x\",".repeat(1 << 20));
        assert_eq!(joined.join(&scanner, many.as_bytes(), &mut Budget::of(many.len())), Ok(None));
        // Without secrets nothing is kept.
        let none = Scanner::new(&[], Arc::new(Rules::none()), Arc::new(Actions::new(&Dlp::default())));
        let mut joined = JoinedValues::default();
        assert_eq!(joined.join(&none, b"{\"a\":\"b\"}", &mut Budget::unbounded()), Ok(None));
        assert!(joined.all.is_empty() && joined.named.is_empty());
    }
}
