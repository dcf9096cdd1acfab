//! Reads what an upstream lists: `git ls-remote --symref`. Pure.

use std::collections::BTreeMap;

use super::commands::is_id;
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

/// The branches and tags of a list: ids and names, in its order.
pub(super) fn branches_and_tags(list: &[u8]) -> Vec<(&str, &str)> {
    let lines = list.split(|&byte| byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok()?.split_once('\t'));
    // What is behind an annotated tag is listed as well, by a name that is none.
    let is_ours = |name: &str| (name.starts_with(HEADS) || name.starts_with(TAGS)) && git_ref::is_printable_name(name);
    lines.filter(|(id, name)| is_id(id) && is_ours(name)).collect()
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

    #[test]
    fn branches_and_tags_are_listed_by_their_names_alone() {
        let [a, b] = ["a".repeat(40), "b".repeat(40)];
        let list = format!(
            "ref: refs/heads/main\tHEAD\n{a}\tHEAD\n{a}\trefs/heads/main\n{b}\trefs/pull/1/head\n{b}\trefs/tags/v1\n\
             {a}\trefs/tags/v1^{{}}\n{a}\trefs/heads/a..b\nx\trefs/heads/x\n{a} refs/heads/y\n"
        );
        assert_eq!(branches_and_tags(list.as_bytes()), [(&*a, "refs/heads/main"), (&*b, "refs/tags/v1")]);
        assert_eq!(branches_and_tags(b""), []);
    }
}
