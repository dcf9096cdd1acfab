//! Where in a request a credential may stand, and where a placeholder is looked for.

use std::fmt;

use crate::scan::{ExactMatcher, is_key_header};

/// Parts of the names of headers that hold credentials. A placeholder in such a header goes nowhere but into its slot.
const WORDS: [&str; 9] = ["auth", "cookie", "credential", "key", "passw", "pwd", "secret", "session", "token"];
/// Headers with a list of values, one of which may be a credential (RFC 6455, section 11.3.4).
pub(super) const PROTOCOLS: &str = "sec-websocket-protocol";
/// How often percent-encoding is resolved: servers behind a proxy decode twice.
const MAX_DECODED: usize = 8;
/// Longer names of headers are not repeated in a message, in bytes.
const MAX_NAME: usize = 64;

/// A place of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Position {
    /// A header, by its name in lower case.
    Header(String),
    /// The query.
    Query,
    /// The path.
    Path,
}

impl Position {
    /// A header of this name.
    pub(super) fn header(name: &str) -> Self {
        Self::Header(if name.len() <= MAX_NAME { name.to_owned() } else { "of a long name".to_owned() })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "the header {name}"),
            Self::Query => f.write_str("the query"),
            Self::Path => f.write_str("the path"),
        }
    }
}

/// Whether a header may hold a credential, by its name in lower case. Every server may have its own.
pub fn may_hold_credential(name: &str) -> bool {
    name == PROTOCOLS || WORDS.iter().any(|word| name.contains(word))
}

/// Whether a header holds a credential and nothing else.
pub(super) fn holds_credential(name: &str) -> bool {
    name == "authorization" || name != PROTOCOLS && is_key_header(name)
}

/// Finds placeholders: in every encoding, and behind several layers of percent-encoding.
pub struct Placeholders {
    all: ExactMatcher,
    /// Each by itself, with the name of its credential: to tell which one was found.
    each: Vec<(String, ExactMatcher)>,
}

impl Placeholders {
    /// Takes names and placeholders.
    pub fn new<'a>(credentials: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let each: Vec<(String, String)> =
            credentials.map(|(name, placeholder)| (name.to_owned(), placeholder.to_owned())).collect();
        let all: Vec<String> = each.iter().map(|(_, placeholder)| placeholder.clone()).collect();
        let one = |(name, placeholder): (String, String)| (name, ExactMatcher::new(&[placeholder]));
        Self { all: ExactMatcher::new(&all), each: each.into_iter().map(one).collect() }
    }

    /// The name of a credential whose placeholder is in the text.
    pub fn find(&self, text: &[u8]) -> Option<&str> {
        let mut text = text.to_vec();
        for _ in 0..MAX_DECODED {
            if self.all.matches(&text) {
                let found = self.each.iter().find(|(_, exact)| exact.matches(&text));
                return found.map(|(name, _)| name.as_str());
            }
            if !text.contains(&b'%') {
                return None;
            }
            let decoded: Vec<u8> = percent_encoding::percent_decode(&text).collect();
            if decoded == text {
                return None;
            }
            text = decoded;
        }
        // More layers than anybody writes: it is taken for what it hides.
        self.each.first().map(|(name, _)| name.as_str())
    }
}
