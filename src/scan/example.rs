//! Example values from public documentation: they are not secrets.

use std::collections::HashSet;
use std::sync::LazyLock;

use serde::Deserialize;

/// The list, with the source of each value. Values are split into parts, so that repository scanners do not report
/// them.
const LIST: &str = include_str!("examples.toml");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    examples: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    value: Vec<String>,
    /// Text that the value's rule requires before it.
    #[serde(default)]
    #[cfg_attr(not(test), expect(dead_code, reason = "for the test"))]
    context: String,
    /// For readers of the list.
    #[serde(rename = "source")]
    _source: String,
}

fn list() -> Vec<Entry> {
    toml::from_str::<List>(LIST).expect("it is compiled in, and a test reads it").examples
}

static VALUES: LazyLock<HashSet<Vec<u8>>> =
    LazyLock::new(|| list().into_iter().map(|entry| entry.value.concat().into_bytes()).collect());

/// Whether a token is exactly one of the examples.
pub(super) fn is_example(token: &[u8]) -> bool {
    VALUES.contains(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::Rules;

    #[test]
    fn each_is_a_value_that_a_rule_would_take_for_a_secret_and_its_likes_are_none() {
        let rules = Rules::providers().unwrap();
        for entry in list() {
            let value = entry.value.concat();
            let text = format!("a = \"{}{value}\"", entry.context);
            let found = rules
                .find(text.as_bytes(), &mut crate::scan::Budget::unbounded(), &mut |_, _, token| Some(token.to_vec()))
                .unwrap();
            assert_eq!(found.as_deref(), Some(value.as_bytes()), "{text}");
            assert!(is_example(value.as_bytes()));
            let mut other = value.clone().into_bytes();
            *other.last_mut().unwrap() ^= 1;
            assert!(!is_example(&other) && !is_example(&value.as_bytes()[1..]));
            assert!(!is_example(format!("{value}A").as_bytes()));
        }
    }
}
