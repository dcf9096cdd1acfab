//! Reads what an upstream lists: `git ls-remote --symref`. Pure.

use std::collections::BTreeMap;

use super::demand::is_other;
use crate::git_ref::{self, HEADS, TAGS};

/// What matters of a list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Relevant {
    /// The branch that `HEAD` names.
    pub(super) head: Option<String>,
    /// The lines that the mirror follows.
    pub(super) ours: Vec<String>,
    /// Other references: names and ids.
    pub(super) others: BTreeMap<String, String>,
}

/// Reads a list.
pub(super) fn relevant(list: &[u8]) -> Relevant {
    let text = String::from_utf8_lossy(list);
    let symbolic = text.lines().find_map(|line| line.strip_prefix("ref: ")?.strip_suffix("\tHEAD"));
    let head = symbolic.filter(|name| name.starts_with(HEADS) && git_ref::is_printable_name(name)).map(str::to_owned);
    let (mut ours, mut others) = (Vec::new(), BTreeMap::new());
    for line in text.lines() {
        let (id, name) = line.split_once('\t').unwrap_or_default();
        if line.starts_with("ref: ") || name.starts_with(HEADS) || name.starts_with(TAGS) {
            ours.push(line.to_owned());
        } else if is_other(name) {
            others.insert(name.to_owned(), id.to_owned());
        }
    }
    Relevant { head, ours, others }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_list_branches_and_tags_are_followed_and_the_others_known() {
        let list = "ref: refs/heads/main\tHEAD\n1\tHEAD\n1\trefs/heads/main\n2\trefs/pull/1/head\n3\trefs/tags/v1\n\
            4\trefs/pull/1/head^{}\n";
        let Relevant { head, ours, others } = relevant(list.as_bytes());
        assert_eq!(head.as_deref(), Some("refs/heads/main"));
        assert_eq!(ours, ["ref: refs/heads/main\tHEAD", "1\trefs/heads/main", "3\trefs/tags/v1"]);
        assert_eq!(others, BTreeMap::from([("refs/pull/1/head".to_owned(), "2".to_owned())]));
        assert_eq!(relevant(b"ref: refs/heads/../x\tHEAD").head, None);
    }
}
