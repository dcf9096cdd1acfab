//! What a workspace's repository refers to, read from its files (gitrepository-layout(5)) without git: they are the agent's.

use std::collections::{BTreeMap, BTreeSet};

use super::name::Name;
use super::snapshot::Regular;

/// Most that is read of a repository's references, in bytes a file.
pub(super) const MAX_TEXT: usize = 64 << 20;
/// Folders below `.git` that hold what is nowhere else: the repositories of submodules, and contents that pointers in commits
/// stand for.
pub(super) const STORES: [&str; 3] = ["modules", "lfs/objects", "annex/objects"];
/// How deep one reference may name another.
const MAX_SYMBOLIC: usize = 5;

/// A workspace's repository.
#[derive(Debug, Default)]
pub struct Repository {
    /// What its references have in them, by name: `HEAD`, `refs/…`, and `worktrees/NAME/HEAD`.
    pub(super) references: BTreeMap<String, String>,
    /// References in `packed-refs`; one in a file of its own is newer.
    packed: BTreeMap<String, String>,
    /// Every commit that a reference was once at, by the logs of references, and what git holds of a merge, rebase or the like
    /// that is under way.
    pub(super) logged: BTreeSet<String>,
    /// Its objects and packs, by their paths below `objects`.
    pub(super) objects: BTreeMap<Name, Regular>,
    /// Its index.
    pub(super) index: Option<Regular>,
    /// Patterns of what it ignores, beside those in `.gitignore` files (`info/exclude`).
    pub(super) excluded: Vec<u8>,
    /// The folders that it has checked out, where that is not all (`info/sparse-checkout`).
    pub(super) sparse: Option<Vec<u8>>,
}

impl Repository {
    /// Whether a file below `.git` is read as a whole.
    pub(super) fn notes(inside: &[u8]) -> bool {
        let whole: [&[u8]; 4] = [b"packed-refs", b"info/exclude", b"info/sparse-checkout", b"commondir"];
        let below: [&[u8]; 3] = [b"refs/", b"logs/", b"reftable/"];
        let own = of_worktree(inside);
        whole.contains(&inside) || below.iter().any(|place| own.starts_with(place)) || own == b"HEAD" || is_state(own)
    }

    /// Notes such a file.
    ///
    /// # Errors
    /// It cannot be understood: what it refers to is not known.
    pub(super) fn note(&mut self, inside: &[u8], text: &[u8]) -> Result<(), String> {
        let own = of_worktree(inside);
        match inside {
            b"info/exclude" => self.excluded = text.to_vec(),
            b"info/sparse-checkout" => self.sparse = Some(text.to_vec()),
            b"commondir" => return Err("its references are in another folder".to_owned()),
            _ if own.starts_with(b"reftable/") || own == b"refs/heads" => {
                return Err("references in this form cannot be read".to_owned());
            }
            b"packed-refs" => {
                for line in text.split(|byte| *byte == b'\n') {
                    let line = std::str::from_utf8(line).map_err(|_| "it holds a name that is no UTF-8".to_owned())?;
                    if let Some((commit, name)) = line.split_once(' ')
                        && is_id(commit)
                    {
                        self.packed.insert(name.to_owned(), commit.to_owned());
                    }
                }
            }
            _ if own.starts_with(b"logs/") => self.note_log(text),
            _ if is_state(own) => self.note_state(text),
            _ if inside.ends_with(b".lock") => {}
            _ => {
                let value = String::from_utf8_lossy(text).trim().to_owned();
                if !is_id(&value) && !value.starts_with("ref: ") {
                    return Err("it names no commit".to_owned());
                }
                self.refer(inside, value)?;
            }
        }
        Ok(())
    }

    fn refer(&mut self, inside: &[u8], value: String) -> Result<(), String> {
        let name = String::from_utf8(inside.to_vec()).map_err(|_| "its name is no UTF-8".to_owned())?;
        self.references.insert(name, value);
        Ok(())
    }

    /// Notes a symbolic link below `.git`.
    ///
    /// # Errors
    /// It stands for something that git reads, and what it leads to is not known.
    pub(super) fn linked(&mut self, inside: &[u8], target: &[u8]) -> Result<(), String> {
        let own = of_worktree(inside);
        // As git once wrote a reference that names another (git-config(1): `core.preferSymlinkRefs`).
        if (own == b"HEAD" || own.starts_with(b"refs/")) && target.starts_with(b"refs/") {
            return self.refer(inside, format!("ref: {}", String::from_utf8_lossy(target)));
        }
        let folders: [&[u8]; 6] = [b"objects", b"refs", b"logs", b"reftable", b"worktrees", b"info"];
        let is_read = |name: &[u8]| folders.contains(&name) || name.starts_with(b"objects/");
        if Self::notes(inside)
            || is_read(own)
            || is_read(inside)
            || inside.starts_with(b"worktrees/") && !own.contains(&b'/')
        {
            return Err("it is a link, and what it leads to is not read".to_owned());
        }
        Ok(())
    }

    /// What git remembers of something that it has begun: an object at the beginning of each line.
    fn note_state(&mut self, text: &[u8]) {
        let words = text.split(|byte| *byte == b'\n').filter_map(|line| line.split(u8::is_ascii_whitespace).next());
        let words = words.filter_map(|word| std::str::from_utf8(word).ok());
        self.logged.extend(words.filter(|word| is_id(word) && !is_null(word)).map(str::to_owned));
    }

    /// `OLD NEW NAME <MAIL> TIME ZONE\tMESSAGE`, a line for each change.
    fn note_log(&mut self, text: &[u8]) {
        for line in text.split(|byte| *byte == b'\n') {
            let words = line.split(|byte| *byte == b' ').take(2).filter_map(|word| std::str::from_utf8(word).ok());
            let commits = words.filter(|word| is_id(word) && !is_null(word));
            self.logged.extend(commits.map(str::to_owned));
        }
    }

    /// Notes a file below `.git` that is not read as a whole.
    pub(super) fn stored(&mut self, inside: &[u8], file: Regular) {
        if inside == b"index" {
            self.index = Some(file);
        } else if let Some(object) = inside.strip_prefix(b"objects/") {
            self.objects.insert(object.to_vec(), file);
        }
    }

    /// Where a value leads: a commit or other object.
    fn resolve(&self, value: &str) -> Option<String> {
        let mut value = value;
        for _ in 0..MAX_SYMBOLIC {
            match value.strip_prefix("ref: ") {
                Some(name) => value = self.get(name.trim())?,
                None => return is_id(value).then(|| value.to_owned()),
            }
        }
        None
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.references.get(name).or_else(|| self.packed.get(name)).map(String::as_str)
    }

    /// The commit that is checked out.
    pub fn head(&self) -> Option<String> {
        self.resolve(self.get("HEAD")?)
    }

    /// What `HEAD` has in it: a branch by its full name, or a commit.
    pub(super) fn checked_out(&self) -> Option<String> {
        let value = self.get("HEAD")?;
        Some(value.strip_prefix("ref: ").unwrap_or(value).trim().to_owned())
    }

    /// Whether there is a `HEAD`, with a commit or without.
    pub(super) fn has_head(&self) -> bool {
        self.references.contains_key("HEAD")
    }

    /// Whether anything is committed.
    pub(super) fn has_commit(&self) -> bool {
        self.head().is_some()
    }

    /// What every reference is at, by name; `HEAD` only where it names a commit itself, for else its branch has it.
    pub(super) fn tips(&self) -> BTreeMap<String, String> {
        let names = self.packed.keys().chain(self.references.keys());
        let direct = names.filter_map(|name| {
            let value = self.get(name)?;
            is_id(value).then(|| (name.clone(), value.to_owned()))
        });
        direct.collect()
    }

    /// Whether its objects are named by SHA-256.
    pub(super) fn is_sha256(&self) -> bool {
        self.head().is_some_and(|head| head.len() == 64)
    }

    /// Every object that it names, or once named.
    pub(super) fn known(&self) -> BTreeSet<String> {
        self.tips().into_values().chain(self.logged.iter().cloned()).collect()
    }
}

/// A path below `.git`, without the folder of a worktree that it is in.
fn of_worktree(inside: &[u8]) -> &[u8] {
    let Some(rest) = inside.strip_prefix(b"worktrees/") else { return inside };
    rest.iter().position(|byte| *byte == b'/').map_or(rest, |at| &rest[at + 1..])
}

/// Whether a file holds a commit of something that is under way, which no reference need lead to (git-rebase(1),
/// git-merge(1): `--autostash`).
fn is_state(own: &[u8]) -> bool {
    let is_name = own.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'_');
    let held: [&[u8]; 5] = [
        b"rebase-merge/autostash",
        b"rebase-merge/orig-head",
        b"rebase-apply/autostash",
        b"rebase-apply/orig-head",
        b"sequencer/head",
    ];
    own != b"HEAD" && is_name && (own.ends_with(b"HEAD") || own.ends_with(b"AUTOSTASH")) || held.contains(&own)
}

/// Whether an object's name stands for none.
fn is_null(id: &str) -> bool {
    id.bytes().all(|byte| byte == b'0')
}

/// Whether a text is the name of an object, in either of git's formats.
pub(super) fn is_id(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
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
        assert_eq!(repository.tips().keys().collect::<Vec<_>>(), ["refs/heads/a", "refs/tags/t", "worktrees/w/HEAD"]);
        assert_eq!(repository.logged, BTreeSet::from([two]));
        assert!(repository.note(b"reftable/0x1.ref", b"REFT").is_err());
        assert!(repository.note(b"commondir", b"../elsewhere").is_err());
        assert!(repository.note(b"refs/heads/b", b"evil").is_err());
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
        repository.linked(b"HEAD", b"refs/heads/a").unwrap();
        repository.note(b"refs/heads/a", "1".repeat(40).as_bytes()).unwrap();
        assert_eq!(repository.head(), Some("1".repeat(40)));
        for place in
            ["refs", "refs/heads/b", "objects/ab", "logs/HEAD", "packed-refs", "worktrees/w", "worktrees/w/HEAD"]
        {
            assert!(repository.linked(place.as_bytes(), b"/elsewhere").is_err(), "{place}");
        }
        assert!(repository.linked(b"hooks/pre-commit", b"/elsewhere").is_ok());
    }
}
