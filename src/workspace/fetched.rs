//! Records which files and references of an agent's work were fetched, and computes what was not.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::name::{Name, folder, quoted, shown};
use super::pull::PullReport;
use super::snapshot::{Snapshot, changes};

/// The file in a bottle's directory.
const FILE: &str = "brought.json";
/// The state of a removed file.
const REMOVED: &str = "removed";

/// What was fetched, as stored in the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetched {
    /// Paths, quoted as git quotes them, with their fingerprints.
    pub files: BTreeMap<String, String>,
    /// The agent's references, quoted as git quotes them, with their object ids.
    pub references: BTreeMap<String, String>,
    /// Commits from reflogs.
    pub logged: BTreeSet<String>,
    /// Nested repositories, with their fingerprints.
    pub nested: BTreeMap<String, String>,
    /// The commit of each fetched branch, by repository path and branch name.
    pub branches: BTreeMap<String, BTreeMap<String, String>>,
}

/// What was not fetched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outstanding {
    /// Changed files that are not ignored.
    pub files: Vec<String>,
    /// The number of ignored files by top-level folder.
    pub ignored: BTreeMap<String, usize>,
    /// References.
    pub references: Vec<String>,
    /// Commits that only reflogs refer to.
    pub logged: Vec<String>,
    /// Nested repositories.
    pub nested: Vec<String>,
    /// What could not be read or is uncertain.
    pub uncertain: Vec<String>,
}

impl Outstanding {
    /// Whether everything was fetched.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// A summary, one line for each kind.
    pub fn lines(&self) -> Vec<String> {
        const SHOWN: usize = 5;
        let some = |names: Vec<String>| {
            let more = names.len().saturating_sub(SHOWN);
            let text = names.into_iter().take(SHOWN).collect::<Vec<_>>().join(", ");
            if more > 0 { format!("{text} and {more} more") } else { text }
        };
        let ignored = self.ignored.iter().map(|(place, count)| format!("{place} ({count})")).collect();
        let kinds = [
            ("changed", self.files.clone()),
            ("ignored by git, new or changed", ignored),
            ("references", self.references.clone()),
            ("commits that only the reflog has", self.logged.clone()),
            ("nested repositories", self.nested.clone()),
            ("uncertain", self.uncertain.clone()),
        ];
        let there = kinds.into_iter().filter(|(_, names)| !names.is_empty());
        there.map(|(kind, names)| format!("{kind}: {}", some(names))).collect()
    }
}

/// Computes what was changed and not fetched.
pub fn outstanding(before: &Snapshot, after: &Snapshot, fetched: &Fetched) -> Outstanding {
    let is_fetched = |name: &[u8], state: &str| fetched.files.get(&quoted(name)).is_some_and(|known| known == state);
    let changed = changes(before, after);
    let files = changed.keys().filter(|name| !is_fetched(name, &state(after, name))).map(|name| shown(name)).collect();
    let mut ignored: BTreeMap<String, usize> = BTreeMap::new();
    for (name, _) in after.ignored.iter().filter(|(name, entry)| !is_fetched(name, &entry.fingerprint())) {
        *ignored.entry(place(name)).or_default() += 1;
    }
    let (began, now) = (before.repository.tips(), after.repository.tips());
    let is_new =
        |name: &Name, tip: &String| began.get(name) != Some(tip) && fetched.references.get(&quoted(name)) != Some(tip);
    let unread = after.repository.broken_refs.iter().filter(|(name, digest)| {
        before.repository.broken_refs.get(*name) != Some(digest)
            && fetched.references.get(&quoted(name)) != Some(digest)
    });
    let unread: Vec<String> = unread.map(|(name, _)| format!("{} (has no value)", shown(name))).collect();
    let new = now.iter().filter(|(name, tip)| is_new(name, tip)).map(|(name, _)| shown(name));
    let references: Vec<String> = new.chain(unread).collect();
    let known: BTreeSet<String> = before.repository.known_objects().into_iter().chain(now.into_values()).collect();
    let is_unknown = |commit: &&String| !known.contains(*commit) && !fetched.logged.contains(*commit);
    let logged = after.repository.logged.iter().filter(is_unknown).map(|commit| commit[..12].to_owned()).collect();
    let is_other = |name: &Vec<u8>, state: &String| {
        before.nested.get(name) != Some(state) && fetched.nested.get(&quoted(name)) != Some(state)
    };
    let nested =
        after.nested.iter().filter(|(name, state)| is_other(name, state)).map(|(name, _)| shown(name)).collect();
    Outstanding { files, ignored, references, logged, nested, uncertain: after.uncertain.clone() }
}

fn state(after: &Snapshot, name: &[u8]) -> String {
    after.files.get(name).map_or_else(|| REMOVED.to_owned(), super::entry::Entry::fingerprint)
}

/// The top-level folder of an ignored file.
fn place(name: &[u8]) -> String {
    if folder(name).is_empty() {
        return shown(name);
    }
    let end = name.iter().position(|byte| *byte == b'/').unwrap_or(name.len());
    format!("{}/", shown(&name[..end]))
}

impl Fetched {
    /// Reads the file in a bottle's directory. If it cannot be read, nothing counts as fetched.
    pub fn read(directory: &Path) -> Self {
        let text = std::fs::read(directory.join(FILE)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Writes the file. Call it after the fetched work is on the disk.
    ///
    /// # Errors
    /// It cannot be written; then the work counts as not fetched.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        crate::host::replace(&directory.join(FILE), &serde_json::to_vec(self)?)
    }

    /// Records what a branch contains, without skipped paths.
    pub fn note_branch(
        &mut self,
        before: &Snapshot,
        after: &Snapshot,
        pulled: &PullReport,
        repository: &str,
        branch: &str,
    ) {
        self.note_files(before, after, &pulled.skipped);
        let ignored =
            pulled.ignored.iter().filter_map(|name| Some((quoted(name), after.ignored.get(name)?.fingerprint())));
        self.files.extend(ignored);
        self.references.extend(pulled.tips.iter().map(|(name, tip)| (quoted(name), tip.clone())));
        self.logged.extend(pulled.logged.iter().cloned());
        let branches = self.branches.entry(repository.to_owned()).or_default();
        branches.insert(branch.to_owned(), pulled.commit.clone());
    }

    /// Records what a patch contains, without skipped paths.
    pub fn note_files(&mut self, before: &Snapshot, after: &Snapshot, skipped: &[super::pull::SkippedPath]) {
        let skipped: BTreeSet<&Vec<u8>> = skipped.iter().map(|(name, _)| name).collect();
        for name in changes(before, after).keys().filter(|name| !skipped.contains(name)) {
            self.files.insert(quoted(name), state(after, name));
        }
    }

    /// Records everything, for a whole archive.
    pub fn note_all(&mut self, before: &Snapshot, after: &Snapshot) {
        self.note_files(before, after, &[]);
        self.files.extend(after.ignored.iter().map(|(name, entry)| (quoted(name), entry.fingerprint())));
        let unread = after.repository.broken_refs.clone();
        let references = after.repository.tips().into_iter().chain(unread);
        self.references.extend(references.map(|(name, state)| (quoted(&name), state)));
        self.logged.extend(after.repository.logged.iter().cloned());
        self.nested.extend(after.nested.iter().map(|(name, state)| (quoted(name), state.clone())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::{Files, WorkspaceFile};

    fn files(entries: &[(&str, &str)]) -> Snapshot {
        let file = |text: &str| WorkspaceFile::Regular { content: text.as_bytes().to_vec(), executable: false };
        let files: Files = entries.iter().map(|(name, text)| ((*name).to_owned(), file(text))).collect();
        Snapshot::of(&files)
    }

    #[test]
    fn each_thing_counts_by_itself_and_only_in_the_state_that_was_brought() {
        let before = files(&[("a", "a"), ("b", "b")]);
        let mut after = files(&[("a", "A"), ("c", "c")]);
        let mut fetched = Fetched::default();
        assert_eq!(outstanding(&before, &after, &fetched).files, ["a", "b", "c"]);
        fetched.note_files(&before, &after, &[(b"c".to_vec(), String::new())]);
        assert_eq!(outstanding(&before, &after, &fetched).files, ["c"]);
        after.files.extend(files(&[("a", "again")]).files);
        assert_eq!(outstanding(&before, &after, &fetched).files, ["a", "c"]);
        after.ignored = files(&[("target/x", "x"), ("target/y", "y"), ("z", "z")]).files;
        let commit = "1".repeat(40);
        after.repository.note(b"refs/stash", commit.as_bytes()).unwrap();
        after.repository.note(b"logs/HEAD", format!("{} {} a", "0".repeat(40), "2".repeat(40)).as_bytes()).unwrap();
        after.nested.insert(b"sub".to_vec(), "1".to_owned());
        let lines = outstanding(&before, &after, &fetched).lines();
        let expected = [
            "changed: a, c",
            "ignored by git, new or changed: target/ (2), z (1)",
            "references: refs/stash",
            "commits that only the reflog has: 222222222222",
            "nested repositories: sub",
        ];
        assert_eq!(lines, expected);
        fetched.note_all(&before, &after);
        assert!(outstanding(&before, &after, &fetched).is_empty());
        // What is uncertain never counts as fetched.
        after.uncertain.push("a long path".to_owned());
        assert!(!outstanding(&before, &after, &fetched).is_empty());
    }
}
