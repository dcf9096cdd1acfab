//! What a workspace's repository refers to, read from its files (gitrepository-layout(5)) without git: they are the agent's.

use std::collections::{BTreeMap, BTreeSet};

use super::name::Name;
use super::snapshot::Regular;

/// Most that is read of a repository's references, in bytes a file.
pub(super) const MAX_TEXT: usize = 64 << 20;
/// How deep one reference may name another.
const MAX_SYMBOLIC: usize = 5;

/// A workspace's repository.
#[derive(Debug, Default)]
pub struct Repository {
    /// What its references have in them, by name: `HEAD`, `refs/…`, and `worktrees/NAME/HEAD`.
    pub(super) references: BTreeMap<String, String>,
    /// References in `packed-refs`; one in a file of its own is newer.
    packed: BTreeMap<String, String>,
    /// Every commit that a reference was once at, by the logs of references.
    pub(super) logged: BTreeSet<String>,
    /// Its objects and packs, by their paths below `objects`.
    pub(super) objects: BTreeMap<Name, Regular>,
    /// Patterns of what it ignores, beside those in `.gitignore` files (`info/exclude`).
    pub(super) excluded: Vec<u8>,
    /// The folders that it has checked out, where that is not all (`info/sparse-checkout`).
    pub(super) sparse: Option<Vec<u8>>,
}

impl Repository {
    /// Whether a file below `.git` is read as a whole.
    pub(super) fn notes(inside: &[u8]) -> bool {
        let whole: [&[u8]; 4] = [b"HEAD", b"packed-refs", b"info/exclude", b"info/sparse-checkout"];
        let below: [&[u8]; 3] = [b"refs/", b"logs/", b"reftable/"];
        whole.contains(&inside)
            || below.iter().any(|place| inside.starts_with(place))
            || inside.starts_with(b"worktrees/") && (inside.ends_with(b"/HEAD"))
    }

    /// Notes such a file.
    ///
    /// # Errors
    /// It cannot be understood: what it refers to is not known.
    pub(super) fn note(&mut self, inside: &[u8], text: &[u8]) -> Result<(), String> {
        if text.len() > MAX_TEXT {
            return Err(format!("it is larger than {MAX_TEXT} bytes"));
        }
        match inside {
            b"info/exclude" => self.excluded = text.to_vec(),
            b"info/sparse-checkout" => self.sparse = Some(text.to_vec()),
            _ if inside.starts_with(b"reftable/") => {
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
            _ if inside.starts_with(b"logs/") || inside.ends_with(b"/logs/HEAD") => self.note_log(text),
            _ if inside.ends_with(b".lock") => {}
            _ => {
                let name = String::from_utf8(inside.to_vec()).map_err(|_| "its name is no UTF-8".to_owned())?;
                let value = String::from_utf8_lossy(text).trim().to_owned();
                if !is_id(&value) && !value.starts_with("ref: ") {
                    return Err("it names no commit".to_owned());
                }
                self.references.insert(name, value);
            }
        }
        Ok(())
    }

    /// `OLD NEW NAME <MAIL> TIME ZONE\tMESSAGE`, a line for each change.
    fn note_log(&mut self, text: &[u8]) {
        for line in text.split(|byte| *byte == b'\n') {
            let words = line.split(|byte| *byte == b' ').take(2).filter_map(|word| std::str::from_utf8(word).ok());
            let commits = words.filter(|word| is_id(word) && word.bytes().any(|byte| byte != b'0'));
            self.logged.extend(commits.map(str::to_owned));
        }
    }

    /// Notes a file below `.git` that is not read as a whole.
    pub(super) fn stored(&mut self, inside: &[u8], file: Regular) {
        if let Some(object) = inside.strip_prefix(b"objects/") {
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
        assert!(repository.note(b"refs/heads/b", b"evil").is_err());
        assert!(repository.note(b"refs/heads/a.lock", b"").is_ok());
    }
}
