//! Chooses the names of the agent's references in the user's repository. Pure.
//!
//! A name that git rejects, or that conflicts with another, would fail the whole transaction. Such a reference is
//! named by its object id instead.

use std::collections::{BTreeMap, BTreeSet};

use crate::git_ref::is_name;
use crate::workspace::name::Name;

/// Changes of references, by name: the new value, and the old one, which is `None` if the reference must not exist.
pub(super) type Changes = BTreeMap<Name, (String, Option<String>)>;

/// Folders below the bottle's references in which the agent may not choose names.
const OURS: [&[u8]; 3] = [b"refs/earlier/", b"refs/log/", b"refs/other/"];

/// Computes the changes below `place` (`refs/bottler/ID`) and at the branch. Also returns the references that got
/// another name, with the agent's name.
pub(super) fn changes(
    place: &str,
    users: &BTreeMap<Name, String>,
    (branch, commit): (&Name, &str),
    wanted: &BTreeMap<Name, String>,
    logged: BTreeSet<String>,
) -> (Changes, BTreeMap<Name, Name>) {
    let mut there: BTreeSet<Name> = users.keys().chain([branch]).cloned().collect();
    let mut at = BTreeMap::from([(branch.clone(), commit.to_owned())]);
    let mut renamed = BTreeMap::new();
    let numbered = |kind: &str, object: &str| format!("{place}/{kind}/{object}").into_bytes();
    for (name, tip) in wanted {
        let own = [place.as_bytes(), b"/", name.strip_prefix(b"refs/").unwrap_or(name)].concat();
        let is_free = !OURS.iter().any(|ours| name.starts_with(ours)) && is_name(&own) && !is_blocked(&own, &there);
        let ours = if is_free { own } else { numbered("other", tip) };
        if !is_free {
            renamed.insert(ours.clone(), name.clone());
        }
        there.insert(ours.clone());
        at.insert(ours, tip.clone());
    }
    at.extend(logged.into_iter().map(|commit| (numbered("log", &commit), commit)));
    let changed = at.into_iter().filter_map(|(name, new)| {
        let old = users.get(&name).cloned();
        (old.as_ref() != Some(&new)).then_some((name, (new, old)))
    });
    (changed.collect(), renamed)
}

/// Whether a name conflicts with existing ones: git cannot have one reference as the folder of another.
fn is_blocked(name: &[u8], there: &BTreeSet<Name>) -> bool {
    let folders = name.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &name[..at]);
    let below = [name, b"/"].concat();
    folders.into_iter().any(|folder| there.contains(folder))
        || there.range(below.clone()..).next().is_some_and(|next| next.starts_with(&below))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_keep_its_name_goes_under_that_of_its_object() {
        let map = |names: &[(&str, &str)]| -> BTreeMap<Name, String> {
            names.iter().map(|(name, tip)| (name.as_bytes().to_vec(), (*tip).to_owned())).collect()
        };
        let users = map(&[("refs/bottler/b/heads/x", "1"), ("refs/bottler/b/tags/same", "4"), ("refs/heads/p", "0")]);
        let wanted = map(&[
            ("refs/heads/x/y", "2"),
            ("refs/heads/z", "3"),
            ("refs/heads/z/z", "5"),
            ("refs/tags/same", "4"),
            ("refs/tags/a b", "6"),
            ("refs/log/9", "7"),
            ("HEAD", "8"),
        ]);
        let branch = (&b"refs/heads/p".to_vec(), "1");
        let (changes, renamed) = changes("refs/bottler/b", &users, branch, &wanted, BTreeSet::from(["9".to_owned()]));
        let told: Vec<String> = changes
            .iter()
            .map(|(name, (new, old))| {
                format!("{} {new} {}", String::from_utf8_lossy(name), old.as_deref().unwrap_or("-"))
            })
            .collect();
        let expected = [
            "refs/bottler/b/HEAD 8 -",
            "refs/bottler/b/heads/z 3 -",
            "refs/bottler/b/log/9 9 -",
            "refs/bottler/b/other/2 2 -",
            "refs/bottler/b/other/5 5 -",
            "refs/bottler/b/other/6 6 -",
            "refs/bottler/b/other/7 7 -",
            "refs/heads/p 1 0",
        ];
        assert_eq!(told, expected);
        assert_eq!(renamed[&b"refs/bottler/b/other/6"[..]], b"refs/tags/a b");
    }
}
