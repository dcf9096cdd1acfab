//! Reads the references and reflogs of an agent's repository from its files (gitrepository-layout(5)) without git,
//! because the files are not trusted.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use sha2::{Digest, Sha256};

use super::entry::Regular;
use super::name::{Name, shown};
use super::reftable::Value;
use super::tables::{Access, STUB, Tables, of_worktree};

/// Maximum size of a file with references, in bytes.
pub(super) const MAX_TEXT: usize = 64 << 20;
/// Folders below `.git` whose content exists nowhere else: repositories of submodules, and objects that pointers in
/// commits refer to.
pub(super) const STORES: [&str; 3] = ["modules", "lfs/objects", "annex/objects"];
/// How many uncertain tables are reported.
const MAX_UNCERTAIN: usize = 20;
/// Maximum length of a chain of symbolic references.
const MAX_SYMBOLIC: usize = 5;

/// The repository of a workspace.
#[derive(Debug, Default)]
pub struct Repository {
    /// The values of references, by name: `HEAD`, `refs/…`, and `worktrees/NAME/HEAD`.
    pub(super) references: BTreeMap<Name, Value>,
    /// References in `packed-refs`. A reference in its own file is newer.
    packed: BTreeMap<Name, String>,
    /// References whose files contain no valid value, as after a crash, each with the SHA-256 of the file's content.
    pub(super) broken_refs: BTreeMap<Name, String>,
    /// References in reftables, which are read once all tables have been collected.
    tables: Tables<Regular>,
    /// All commits in reflogs, and commits that git stores for an unfinished merge, rebase or the like.
    pub(super) logged: BTreeSet<String>,
    /// Its objects and packs, by their paths below `objects`.
    pub(super) objects: BTreeMap<Name, Regular>,
    /// Its index.
    pub(super) index: Option<Regular>,
    /// Ignore patterns besides those in `.gitignore` files (`info/exclude`).
    pub(super) excluded: Vec<u8>,
    /// The patterns of a sparse checkout, if it is one (`info/sparse-checkout`).
    pub(super) sparse: Option<Vec<u8>>,
}

impl Repository {
    /// Whether a file below `.git` is parsed.
    pub(super) fn notes(inside: &[u8]) -> bool {
        let whole: [&[u8]; 4] = [b"packed-refs", b"info/exclude", b"info/sparse-checkout", b"commondir"];
        let below: [&[u8]; 2] = [b"refs/", b"logs/"];
        let own = of_worktree(inside);
        whole.contains(&inside) || below.iter().any(|place| own.starts_with(place)) || own == b"HEAD" || is_state(own)
    }

    /// Parses such a file.
    ///
    /// # Errors
    /// It cannot be parsed, so it is unknown what it refers to.
    pub(super) fn note(&mut self, inside: &[u8], text: &[u8]) -> Result<(), String> {
        let own = of_worktree(inside);
        match inside {
            b"info/exclude" => self.excluded = text.to_vec(),
            b"info/sparse-checkout" => self.sparse = Some(text.to_vec()),
            b"commondir" => return Err("its references are in another folder".to_owned()),
            // The file that git leaves when references are stored elsewhere.
            _ if own == b"refs/heads" => self.tables.note_stub(inside),
            b"packed-refs" => {
                for line in text.split(|byte| *byte == b'\n') {
                    let Some(at) = line.iter().position(|byte| *byte == b' ') else { continue };
                    if let Some(object) = id(&line[..at]) {
                        self.packed.insert(line[at + 1..].to_vec(), object);
                    }
                }
            }
            _ if own.starts_with(b"logs/") => self.note_log(text),
            _ if is_state(own) => self.note_state(text),
            _ if inside.ends_with(b".lock") => {}
            _ => match value(text) {
                Some(value) => drop(self.references.insert(inside.to_vec(), value)),
                None if own == b"HEAD" => return Err("it has no commit".to_owned()),
                // Only this reference is affected.
                None => {
                    let digest = data_encoding::HEXLOWER.encode(&Sha256::digest(text));
                    self.broken_refs.insert(inside.to_vec(), digest);
                }
            },
        }
        Ok(())
    }

    /// Records a symbolic link below `.git`.
    ///
    /// # Errors
    /// git would read the target, but it is not read here.
    pub(super) fn note_link(&mut self, inside: &[u8], target: &[u8]) -> Result<(), String> {
        let own = of_worktree(inside);
        // Old versions of git wrote symbolic references as links (git-config(1): `core.preferSymlinkRefs`).
        if (own == b"HEAD" || own.starts_with(b"refs/")) && target.starts_with(b"refs/") {
            self.references.insert(inside.to_vec(), Value::Symbolic(target.to_vec()));
            return Ok(());
        }
        let folders: [&[u8]; 6] = [b"objects", b"refs", b"logs", b"reftable", b"worktrees", b"info"];
        let is_read = |name: &[u8]| folders.contains(&name) || name.starts_with(b"objects/");
        if Self::notes(inside)
            || own.starts_with(b"reftable/")
            || is_read(own)
            || is_read(inside)
            || inside.starts_with(b"worktrees/") && !own.contains(&b'/')
        {
            return Err("it is a symbolic link, whose target is not read".to_owned());
        }
        Ok(())
    }

    /// Records the state of an unfinished operation: each line starts with an object id.
    fn note_state(&mut self, text: &[u8]) {
        let words = text.split(|byte| *byte == b'\n').filter_map(|line| line.split(u8::is_ascii_whitespace).next());
        self.note_logged(words.filter_map(id));
    }

    /// Records a reflog; each line is `OLD NEW NAME <MAIL> TIME ZONE\tMESSAGE`.
    fn note_log(&mut self, text: &[u8]) {
        let lines = text.split(|byte| *byte == b'\n');
        self.note_logged(lines.flat_map(|line| line.split(|byte| *byte == b' ').take(2).filter_map(id)));
    }

    /// Records former values of references.
    fn note_logged(&mut self, objects: impl Iterator<Item = String>) {
        self.logged.extend(objects.filter(|object| !is_null(object)));
    }

    /// Reads the references in reftables. Returns what is uncertain, as text.
    pub(super) fn read_tables(&mut self, content: &dyn Fn(&Regular) -> io::Result<Vec<u8>>) -> Vec<String> {
        let tables = std::mem::take(&mut self.tables);
        let stub = Value::Symbolic(STUB.to_vec());
        let mut uncertain = Vec::new();
        for (place, stack) in tables.stacks(&Access { size: &|file| file.size, content }) {
            // Further messages do not help.
            if uncertain.len() >= MAX_UNCERTAIN {
                break;
            }
            let head = [&place, &b"HEAD"[..]].concat();
            if self.references.get(&head).is_some_and(|value| *value != stub) {
                let why = "it exists beside references in tables, and it is unknown which of them count";
                uncertain.push((head, why.to_owned()));
            }
            match stack {
                Ok(stack) => {
                    self.note_logged(stack.logged());
                    for (name, value) in stack.references {
                        self.note_value([&place, &name[..]].concat(), value);
                    }
                }
                Err(unread) => uncertain.push(unread),
            }
        }
        let said = "it is a file, and it is unknown where the references are";
        uncertain.extend(tables.without_tables().into_iter().map(|path| (path, said.to_owned())));
        let lost = self.references.iter().filter(|(_, value)| **value == stub);
        uncertain.extend(lost.map(|(name, _)| (name.clone(), "its value is in no table".to_owned())));
        uncertain.into_iter().take(MAX_UNCERTAIN).map(|(path, why)| format!(".git/{}: {why}", shown(&path))).collect()
    }

    /// Records a reference from a table under the name of the file that it would otherwise have.
    fn note_value(&mut self, inside: Name, value: Value) {
        let own = of_worktree(&inside);
        if own == b"HEAD" || own.starts_with(b"refs/") {
            self.references.insert(inside, value);
        } else if is_state(own)
            && let Value::Object(object) = value
        {
            self.note_logged([object].into_iter());
        }
    }

    /// Records a file below `.git` that is not parsed.
    pub(super) fn note_stored(&mut self, inside: &[u8], file: Regular) {
        if inside == b"index" {
            self.index = Some(file);
        } else if of_worktree(inside).starts_with(b"reftable/") {
            self.tables.files.insert(inside.to_vec(), file);
        } else if let Some(object) = inside.strip_prefix(b"objects/") {
            self.objects.insert(object.to_vec(), file);
        }
    }

    /// Resolves a reference to an object id.
    fn resolve(&self, name: &[u8]) -> Option<String> {
        let mut value = self.get(name)?;
        for _ in 0..MAX_SYMBOLIC {
            match value {
                Value::Symbolic(name) => value = self.get(&name)?,
                Value::Object(object) => return Some(object),
            }
        }
        None
    }

    fn get(&self, name: &[u8]) -> Option<Value> {
        let own = self.references.get(name).cloned();
        own.or_else(|| self.packed.get(name).map(|object| Value::Object(object.clone())))
    }

    /// The checked-out commit.
    pub fn head(&self) -> Option<String> {
        self.resolve(b"HEAD")
    }

    /// The value of `HEAD`.
    pub(super) fn checked_out(&self) -> Option<&Value> {
        self.references.get(&b"HEAD"[..])
    }

    /// Whether the checked-out branch has an invalid file.
    pub(super) fn is_head_broken(&self) -> bool {
        let mut name = b"HEAD".to_vec();
        for _ in 0..MAX_SYMBOLIC {
            match self.get(&name) {
                _ if self.broken_refs.contains_key(&name) => return true,
                Some(Value::Symbolic(next)) => name = next,
                _ => return false,
            }
        }
        false
    }

    /// Whether there is a `HEAD`, with or without a commit.
    pub(super) fn has_head(&self) -> bool {
        self.checked_out().is_some()
    }

    /// Whether there is any commit on the checked-out branch.
    pub(super) fn has_commit(&self) -> bool {
        self.head().is_some()
    }

    /// The object ids of all references, by name. `HEAD` is included only if it is detached; otherwise its branch is.
    pub(super) fn tips(&self) -> BTreeMap<Name, String> {
        let names = self.packed.keys().chain(self.references.keys());
        let direct = names.filter_map(|name| match self.get(name)? {
            Value::Object(object) => Some((name.clone(), object)),
            Value::Symbolic(_) => None,
        });
        direct.collect()
    }

    /// Whether object ids are SHA-256.
    pub(super) fn is_sha256(&self) -> bool {
        self.head().is_some_and(|head| head.len() == 64)
    }

    /// All objects that its references and reflogs contain.
    pub(super) fn known_objects(&self) -> BTreeSet<String> {
        self.tips().into_values().chain(self.logged.iter().cloned()).collect()
    }
}

/// Whether a file contains a commit of an unfinished operation, which may not be reachable from any reference
/// (git-rebase(1), git-merge(1): `--autostash`).
fn is_state(own: &[u8]) -> bool {
    let is_name = own.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'_');
    let held: [&[u8]; 7] = [
        b"BISECT_EXPECTED_REV",
        b"NOTES_MERGE_PARTIAL",
        b"rebase-merge/autostash",
        b"rebase-merge/orig-head",
        b"rebase-apply/autostash",
        b"rebase-apply/orig-head",
        b"sequencer/head",
    ];
    own != b"HEAD" && is_name && (own.ends_with(b"HEAD") || own.ends_with(b"AUTOSTASH")) || held.contains(&own)
}

/// Whether an object id is the null id.
fn is_null(id: &str) -> bool {
    id.bytes().all(|byte| byte == b'0')
}

/// Parses an object id of either length.
fn id(text: &[u8]) -> Option<String> {
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let is_id = matches!(text.len(), 40 | 64) && text.iter().all(is_digit);
    is_id.then(|| String::from_utf8_lossy(text).into_owned())
}

/// Parses the content of a reference's file.
fn value(text: &[u8]) -> Option<Value> {
    let text = text.trim_ascii();
    match text.strip_prefix(b"ref:") {
        Some(name) => Some(Value::Symbolic(name.trim_ascii().to_vec())),
        None => id(text).map(Value::Object),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_wherever_git_writes_them() {
        let (one, two, three) = ("1".repeat(40), "2".repeat(40), "3".repeat(40));
        let mut repository = Repository::default();
        repository
            .note(
                b"packed-refs",
                format!("# pack-refs with: peeled\n{one} refs/heads/a\n{two} refs/tags/t\n^{one}\n").as_bytes(),
            )
            .unwrap();
        repository.note(b"HEAD", b"ref: refs/heads/a\n").unwrap();
        assert_eq!(repository.head(), Some(one));
        repository.note(b"refs/heads/a", format!("{three}\n").as_bytes()).unwrap();
        repository
            .note(b"logs/HEAD", format!("{} {two} a <a@b> 1 +0000\tcommit\n", "0".repeat(40)).as_bytes())
            .unwrap();
        repository.note(b"worktrees/w/HEAD", two.as_bytes()).unwrap();
        assert_eq!(repository.head(), Some(three));
        // Names are bytes and may not be UTF-8.
        let odd = [two.as_bytes(), b" refs/heads/\xff\n"].concat();
        repository.note(b"packed-refs", &odd).unwrap();
        repository.note(b"refs/heads/b\xfe", two.as_bytes()).unwrap();
        repository.note(b"worktrees/x/HEAD", b"ref: refs/heads/\xff").unwrap();
        let expected: [&[u8]; 5] =
            [b"refs/heads/a", b"refs/heads/b\xfe", b"refs/heads/\xff", b"refs/tags/t", b"worktrees/w/HEAD"];
        assert_eq!(repository.tips().keys().collect::<Vec<_>>(), expected);
        assert_eq!(repository.resolve(b"worktrees/x/HEAD"), Some(two.clone()));
        assert_eq!(repository.logged, BTreeSet::from([two]));
        assert!(repository.note(b"commondir", b"../elsewhere").is_err());
        assert!(repository.note(b"HEAD", b"evil").is_err());
        repository.note(b"refs/heads/b", b"evil").unwrap();
        assert!(repository.broken_refs.contains_key(&b"refs/heads/b"[..]) && !repository.is_head_broken());
        assert!(repository.note(b"refs/heads/a.lock", b"").is_ok());
    }

    #[test]
    fn what_is_under_way_counts_wherever_git_holds_it() {
        let id = |digit: &str| digit.repeat(40);
        let mut repository = Repository::default();
        for (place, text) in [
            ("ORIG_HEAD", id("1")),
            ("MERGE_AUTOSTASH", id("2")),
            ("rebase-merge/autostash", id("3")),
            ("worktrees/w/rebase-apply/orig-head", id("4")),
            ("FETCH_HEAD", format!("{}\t\tbranch 'a'\n{}\tnot-for-merge\n", id("5"), id("6"))),
            ("worktrees/w/logs/HEAD", format!("{} {} a <a@b> 1 +0000\tcommit\n", id("0"), id("7"))),
        ] {
            assert!(Repository::notes(place.as_bytes()), "{place}");
            repository.note(place.as_bytes(), text.as_bytes()).unwrap();
        }
        assert_eq!(repository.logged, ["1", "2", "3", "4", "5", "6", "7"].map(id).into());
        for place in ["COMMIT_EDITMSG", "AUTO_MERGE", "config", "worktrees/w/gitdir", "rebase-merge/done"] {
            assert!(!Repository::notes(place.as_bytes()), "{place}");
        }
    }

    #[test]
    fn a_link_in_the_place_of_something_that_git_reads_is_followed_or_doubted() {
        let mut repository = Repository::default();
        repository.note_link(b"HEAD", b"refs/heads/a").unwrap();
        repository.note(b"refs/heads/a", "1".repeat(40).as_bytes()).unwrap();
        assert_eq!(repository.head(), Some("1".repeat(40)));
        for place in [
            "refs",
            "refs/heads/b",
            "objects/ab",
            "logs/HEAD",
            "packed-refs",
            "worktrees/w",
            "worktrees/w/HEAD",
            "reftable/x",
        ] {
            assert!(repository.note_link(place.as_bytes(), b"/elsewhere").is_err(), "{place}");
        }
        assert!(repository.note_link(b"hooks/pre-commit", b"/elsewhere").is_ok());
    }
}
