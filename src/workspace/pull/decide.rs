//! Decides for each path whether the agent has an uncommitted change there. Pure.
//!
//! A path that the agent did not touch keeps the object of its commit, whatever is in the working tree (a submodule's
//! folder, a filtered file, nothing in a sparse checkout). An absent file counts as removed only if it was present at
//! the start.

use crate::workspace::entry::Entry;

/// A git tree's entry at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TreeEntry {
    pub(super) mode: String,
    pub(super) object: String,
}

/// The states of a path.
#[derive(Debug, Clone, Copy)]
pub(super) struct PathState<'a> {
    /// In the commit that the workspace started from.
    pub(super) base: Option<&'a TreeEntry>,
    /// In the agent's last commit.
    pub(super) head: Option<&'a TreeEntry>,
    /// The file that was copied in.
    pub(super) before: Option<&'a Entry>,
    /// The file now.
    pub(super) after: Option<&'a Entry>,
}

/// The decision for a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// Keep the state of the agent's last commit.
    Keep,
    /// Take the file from the working tree, with this executable bit.
    Take { executable: bool },
    /// Remove the path.
    Remove,
}

/// What the absence of a path means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Absence {
    /// It was removed, if it was present before.
    Removed,
    /// Nothing: it is not checked out.
    NotCheckedOut,
    /// The agent checked it out and removed it.
    RemovedAfterCheckout,
}

/// Decides about a path.
pub(super) fn decide(path: PathState<'_>, absence: Absence) -> Decision {
    let PathState { base, head, before, after } = path;
    let is_link = head.is_some_and(|head| head.mode == "160000");
    let committed = base != head;
    match after {
        Some(_) if before == after && !committed => Decision::Keep,
        Some(after) => Decision::Take { executable: executable(path, after) },
        None if is_link || head.is_none() || absence == Absence::NotCheckedOut => Decision::Keep,
        None if before.is_some() || committed || absence == Absence::RemovedAfterCheckout => Decision::Remove,
        None => Decision::Keep,
    }
}

/// Whether the decision depends on a sparse checkout. `moved`: the agent has changed what is checked out.
pub(super) fn may_be_skipped(path: PathState<'_>, moved: bool) -> bool {
    let was_there = path.before.is_some();
    path.after.is_none() && path.head.is_some() && (was_there && moved || !was_there && path.base != path.head)
}

/// The executable bit: the commit's, unless the agent changed it in the commit or the file.
fn executable(path: PathState<'_>, after: &Entry) -> bool {
    let Entry::File(file) = after else { return false };
    match (path.base, path.head, path.before) {
        (Some(base), Some(head), Some(Entry::File(before)))
            if base.mode == head.mode && head.mode.starts_with("100") && before.executable == file.executable =>
        {
            head.mode == "100755"
        }
        _ => file.executable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::entry::{ContentLocation, Regular};

    fn file(content: u8, executable: bool) -> Entry {
        Entry::File(Regular { size: 1, executable, digest: [content; 32], at: ContentLocation::Archive(0) })
    }

    fn listed(mode: &str, object: &str) -> TreeEntry {
        TreeEntry { mode: mode.to_owned(), object: object.to_owned() }
    }

    #[test]
    fn only_what_the_agent_has_touched_is_taken_or_removed() {
        use Decision::{Keep, Remove, Take};
        let (one, two, run) = (file(1, false), file(2, false), file(1, true));
        let (a, b, x) = (listed("100644", "a"), listed("100644", "b"), listed("100755", "a"));
        let sub = listed("160000", "s");
        let take = Take { executable: false };
        for (what, base, head, before, after, expected) in [
            ("untouched", Some(&a), Some(&a), Some(&one), Some(&one), Keep),
            ("edited", Some(&a), Some(&a), Some(&one), Some(&two), take),
            ("removed", Some(&a), Some(&a), Some(&one), None, Remove),
            ("a submodule", Some(&sub), Some(&sub), None, None, Keep),
            ("a submodule that the agent has moved", Some(&sub), Some(&listed("160000", "t")), None, None, Keep),
            ("not checked out", Some(&a), Some(&a), None, None, Keep),
            ("the user's own, not tracked", None, None, Some(&one), Some(&one), Keep),
            ("the user's own, removed", None, None, Some(&one), None, Keep),
            ("new", None, None, None, Some(&one), take),
            ("committed as it was", Some(&a), Some(&b), Some(&one), Some(&one), take),
            ("removed, committed, and made again", Some(&a), None, Some(&one), Some(&one), take),
            ("new, committed, removed", None, Some(&b), None, None, Remove),
            ("made executable", Some(&a), Some(&a), Some(&one), Some(&run), Take { executable: true }),
            ("made executable, committed, and taken back", Some(&a), Some(&x), Some(&one), Some(&one), take),
            ("edited where modes do not count", Some(&x), Some(&x), Some(&one), Some(&two), Take { executable: true }),
        ] {
            let path = PathState { base, head, before, after };
            assert_eq!(decide(path, Absence::Removed), expected, "{what}");
        }
        let elsewhere = PathState { base: Some(&a), head: Some(&b), before: None, after: None };
        assert!(may_be_skipped(elsewhere, false));
        assert_eq!(decide(elsewhere, Absence::NotCheckedOut), Keep, "committed outside of a sparse checkout");
        let narrowed = PathState { base: Some(&a), head: Some(&a), before: Some(&one), after: None };
        assert!(may_be_skipped(narrowed, true) && !may_be_skipped(narrowed, false));
        assert_eq!(decide(narrowed, Absence::NotCheckedOut), Keep, "checked out no more");
        let widened = PathState { base: Some(&a), head: Some(&a), before: None, after: None };
        assert_eq!(decide(widened, Absence::Removed), Keep, "the user's own removal");
        assert_eq!(decide(widened, Absence::RemovedAfterCheckout), Remove, "checked out, and removed");
    }
}
