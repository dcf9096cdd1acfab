//! Reads the skip-worktree and assume-unchanged marks of an agent's index (gitformat-index(5)) without git, because
//! the file is not trusted.

use std::collections::BTreeMap;

use super::name::Name;

/// Bytes in front of an entry's object id: times, device, inode, mode, owner, size.
const STAT: usize = 40;
/// The offset of the mode in it.
const MODE: usize = 24;
/// The mode of a folder that is not checked out, in a sparse index.
const FOLDER: u32 = 0o040_000;
/// Flags: extended flags follow; among those, `skip-worktree` (not checked out).
const EXTENDED: u16 = 0x4000;
const SKIPPED: u16 = 0x4000;
/// Flag: `assume-unchanged` (differences are ignored).
const ASSUMED: u16 = 0x8000;

/// The marks of an index.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    /// The paths with their flags. Folders end with `/`.
    paths: BTreeMap<Name, Flags>,
}

/// The flags of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Flags {
    skipped: bool,
    assumed: bool,
}

impl Index {
    /// Parses an index; `wide` if object ids are SHA-256. `None` if it is malformed, or needs another file.
    pub(super) fn read(bytes: &[u8], wide: bool) -> Option<Self> {
        let id = if wide { 32 } else { 20 };
        let end = bytes.len().checked_sub(id)?;
        let mut from = Cursor { bytes: bytes.get(..end)?, at: 0 };
        let (magic, version, count) = (from.take(4)?, from.number()?, from.number()?);
        if magic != b"DIRC" || !(2..=4).contains(&version) {
            return None;
        }
        let (mut index, mut name) = (Self::default(), Name::new());
        for _ in 0..count {
            let began = from.at;
            let seen = from.take(STAT)?;
            let mode = u32::from_be_bytes(seen[MODE..MODE + 4].try_into().ok()?);
            from.take(id)?;
            let flags = from.short()?;
            let extended = if flags & EXTENDED == 0 { 0 } else { from.short()? };
            if version == 4 {
                let kept = name.len().checked_sub(from.varint()?)?;
                name.truncate(kept);
                name.extend_from_slice(from.text()?);
            } else {
                name = from.text()?.to_vec();
                // Entries are padded with zeros to a multiple of eight bytes; one of the zeros has been read.
                from.take((8 - (from.at - began) % 8) % 8)?;
            }
            let marks = Flags { skipped: extended & SKIPPED != 0 || mode == FOLDER, assumed: flags & ASSUMED != 0 };
            index.paths.insert(name.clone(), marks);
        }
        while from.at < end {
            let (kind, size) = (from.take(4)?, from.number()?);
            // A split index: the entries are in another file, and this one contains only the differences.
            if kind == b"link" {
                return None;
            }
            from.take(usize::try_from(size).ok()?)?;
        }
        Some(index)
    }

    /// Whether a path is marked as not checked out.
    pub(super) fn skips(&self, name: &[u8]) -> bool {
        let folders = name.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &name[..=at]);
        folders.chain([name]).any(|name| self.paths.get(name).is_some_and(|marks| marks.skipped))
    }

    /// Whether any path is marked as not checked out.
    pub(super) fn is_sparse(&self) -> bool {
        self.paths.values().any(|marks| marks.skipped)
    }

    /// Whether differences at a path are ignored.
    pub(super) fn assumes(&self, name: &[u8]) -> bool {
        self.paths.get(name).is_some_and(|marks| marks.assumed)
    }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn number(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn short(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    /// Reads up to a zero byte, and consumes it.
    fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.bytes.get(self.at..)?.iter().position(|byte| *byte == 0)?;
        let text = self.take(length)?;
        self.take(1)?;
        Some(text)
    }

    /// A number in the encoding of pack offsets (gitformat-pack(5)).
    fn varint(&mut self) -> Option<usize> {
        let mut byte = *self.take(1)?.first()?;
        let mut value = usize::from(byte & 0x7f);
        while byte & 0x80 != 0 {
            byte = *self.take(1)?.first()?;
            value = value.checked_add(1)?.checked_mul(128)?.checked_add(usize::from(byte & 0x7f))?;
        }
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::process::Command;

    fn git(folder: &Path, arguments: &[&str]) {
        let mut command = Command::new("git");
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
        let done = command.args(arguments).current_dir(folder).output().unwrap();
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// All versions as git writes them, with either hash; then with every byte cut off or changed.
    #[test]
    fn what_git_marks_is_read_and_what_is_damaged_is_not_believed() {
        for (format, version) in [("sha1", "2"), ("sha1", "4"), ("sha256", "3"), ("sha1", "sparse")] {
            let folder = tempfile::tempdir().unwrap();
            let folder = folder.path();
            git(folder, &["init", "-q", &format!("--object-format={format}")]);
            for name in ["a/f", "a/g", "bb/f", "bb/long name", "c"] {
                let path = folder.join(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, name).unwrap();
            }
            git(folder, &["add", "."]);
            git(folder, &["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "one"]);
            if version == "sparse" {
                git(folder, &["sparse-checkout", "set", "--cone", "--sparse-index", "a"]);
            } else {
                git(folder, &["update-index", "--index-version", version]);
                git(folder, &["update-index", "--skip-worktree", "bb/f", "bb/long name"]);
                git(folder, &["update-index", "--assume-unchanged", "c"]);
            }
            let bytes = std::fs::read(folder.join(".git/index")).unwrap();
            let index = Index::read(&bytes, format == "sha256").unwrap();
            for (name, expected) in
                [("a/f", false), ("a/g", false), ("bb/f", true), ("bb/long name", true), ("c", false)]
            {
                assert_eq!(index.skips(name.as_bytes()), expected, "{name} in {version}");
                assert_eq!(index.assumes(name.as_bytes()), name == "c" && version != "sparse", "{name} in {version}");
            }
            for end in 0..bytes.len() {
                let _ = Index::read(&bytes[..end], format == "sha256");
                let mut changed = bytes.clone();
                changed[end] ^= 0xff;
                let _ = Index::read(&changed, format == "sha256");
            }
            if version == "sparse" {
                continue;
            }
            git(folder, &["update-index", "--split-index"]);
            assert_eq!(Index::read(&std::fs::read(folder.join(".git/index")).unwrap(), format == "sha256"), None);
        }
    }
}
