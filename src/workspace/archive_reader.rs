//! Reads the archive of a workspace in one pass.
//!
//! The archive comes from a container that the agent controls. Refused, or recorded as uncertain:
//! * a truncated archive: it must end with the zero blocks that end every archive;
//! * paths outside the workspace, and entries that are neither files nor links;
//! * hard links to files outside the workspace; those to a file in it count as that file, also in the repository;
//! * symbolic links in place of files that git reads in a repository, because their targets are not read;
//! * long paths: the engine silently leaves out what is below a path near the system's limit.
//!
//! While anything is uncertain, nothing counts as completely fetched.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::entry::{ContentLocation, Entry, Regular};
use super::file::MAX_FILES;
use super::ignore_rules::IgnoreRules;
use super::name::{Name, folder, last, shown};
use super::repository::{self, Repository};
use super::snapshot::Snapshot;

/// Maximum size of a `.gitignore` file that is evaluated, in bytes.
const MAX_PATTERNS: u64 = 1 << 20;
/// Maximum number of entries in an archive, including `.git` and ignored files.
const MAX_ENTRIES: usize = 4_000_000;
/// Paths of this length may contain others that the engine cannot reach: `PATH_MAX` (4096 bytes, limits.h) less a
/// name (255) and the engine's own path in front.
const LONG_PATH: usize = 3400;
/// Size of an archive's blocks, in bytes (POSIX ustar). Two zero blocks end it.
const BLOCK: u64 = 512;
/// Bytes per read.
const PIECE: usize = 64 << 10;
/// How many uncertain paths are reported.
const MAX_UNCERTAIN: usize = 20;

/// Reads the archive of a workspace that is at `root` in it. Given the snapshot `before`, new files that the agent's
/// `.gitignore` files match are listed separately.
///
/// # Errors
/// It is malformed or truncated, or exceeds a limit.
pub fn read(archive: File, root: &str, before: Option<&Snapshot>) -> io::Result<Snapshot> {
    check_end(&archive)?;
    let archive = Arc::new(archive);
    let mut reader = ArchiveReader {
        root: root.trim_matches('/').rsplit('/').next().unwrap_or_default().into(),
        snapshot: Snapshot { archive: Some(archive.clone()), ..Snapshot::default() },
        ..ArchiveReader::default()
    };
    if let Some(before) = before {
        reader.rules.add(b"", &before.repository.excluded);
    }
    archive.as_ref().seek(SeekFrom::Start(0))?;
    for entry in tar::Archive::new(BufReader::with_capacity(1 << 20, archive.as_ref())).entries()? {
        reader.entry(entry?)?;
    }
    reader.end(before)
}

/// Reads the archive at a path.
///
/// # Errors
/// It cannot be opened, is malformed or truncated, or exceeds a limit.
pub fn read_at(archive: &Path, root: &str, before: Option<&Snapshot>) -> io::Result<Snapshot> {
    read(File::open(archive)?, root, before)
}

/// Size of the two blocks that end an archive, in bytes.
const END: usize = 1024;

/// Checks the end: an archive that is truncated between two entries looks complete to a reader of entries.
fn check_end(archive: &File) -> io::Result<()> {
    let size = archive.metadata()?.len();
    let mut end = [1; END];
    let at = size.checked_sub(2 * BLOCK).filter(|_| size % BLOCK == 0);
    let whole = at.is_some_and(|at| archive.read_exact_at(&mut end, at).is_ok());
    if whole && end.iter().all(|byte| *byte == 0) {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is truncated: its end is missing"))
}

#[derive(Default)]
struct ArchiveReader {
    root: Vec<u8>,
    rules: IgnoreRules,
    all: BTreeMap<Name, Entry>,
    /// All regular files, for hard links to them.
    regular: HashMap<Name, Regular>,
    nested: BTreeMap<Name, Sha256>,
    snapshot: Snapshot,
    entries: usize,
    /// Bytes read again through hard links.
    linked: u64,
    /// The read buffer.
    piece: Vec<u8>,
}

impl ArchiveReader {
    /// The path below the workspace; `None` outside of it.
    fn below(&self, path: &[u8]) -> Option<Name> {
        let below = match self.root.as_slice() {
            b"" => path,
            root => path.strip_prefix(root)?.strip_prefix(b"/")?,
        };
        let below = below.strip_suffix(b"/").unwrap_or(below);
        let leads_elsewhere = below.split(|byte| *byte == b'/').any(|part| matches!(part, b"" | b"." | b".."));
        (!leads_elsewhere).then(|| below.to_vec())
    }

    fn note_uncertain(&mut self, why: String) {
        if self.snapshot.uncertain.len() < MAX_UNCERTAIN {
            self.snapshot.uncertain.push(why);
        }
    }

    fn entry(&mut self, mut entry: tar::Entry<'_, impl Read>) -> io::Result<()> {
        let Some(name) = self.below(&entry.path_bytes()) else { return Ok(()) };
        self.entries += 1;
        if self.entries > MAX_ENTRIES {
            return Err(io::Error::other(format!(
                "there are more than {MAX_ENTRIES} files, `.git` and ignored ones counted"
            )));
        }
        let kind = entry.header().entry_type();
        if name.len() >= LONG_PATH {
            self.note_uncertain(format!("{}…: paths below one of this length cannot be read", shown(&name[..80])));
        }
        let read = if kind.is_file() {
            let executable = entry.header().mode()? & 0o111 != 0;
            self.snapshot.size = self.snapshot.size.saturating_add(entry.size());
            Some(self.regular(&name, &mut entry, executable)?)
        } else if kind.is_hard_link() {
            let target = entry.link_name_bytes().and_then(|target| self.below(&target));
            let known = target.and_then(|target| self.regular.get(&target)).cloned();
            match &known {
                // The second name of a file may be the one that is evaluated.
                Some(file) if (1..=most_kept(&name)).contains(&file.size) => {
                    self.linked += file.size;
                    if self.linked > repository::MAX_TEXT as u64 {
                        self.note_uncertain(format!("{}: too many hard links to read", shown(&name)));
                    } else {
                        let content = self.snapshot.content(file)?;
                        self.understand(&name, &content);
                    }
                }
                Some(_) => {}
                None => self
                    .note_uncertain(format!("{}: it is a hard link to a file outside of the workspace", shown(&name))),
            }
            known.map(Entry::File)
        } else if kind.is_symlink() {
            Some(Entry::Link(entry.link_name_bytes().unwrap_or_default().into_owned()))
        } else {
            None
        };
        let Some(read) = read else { return Ok(()) };
        if let Some(inside) = name.strip_prefix(b".git/") {
            self.inside(inside, read);
            return Ok(());
        }
        let parts: Vec<&[u8]> = name.split(|byte| *byte == b'/').collect();
        match parts.iter().position(|part| *part == b".git") {
            None => drop(self.all.insert(name, read)),
            // The `.git` file of a worktree or submodule, or a root `.git` that is no longer a folder.
            Some(at) if at + 1 == parts.len() => {}
            Some(at) => self.nested(parts[..at].join(&b'/'), &name, &read),
        }
        Ok(())
    }

    /// Adds a file to the fingerprint of a nested repository or store.
    fn nested(&mut self, place: Name, name: &[u8], read: &Entry) {
        let hash = self.nested.entry(place).or_default();
        hash.update(name);
        hash.update(read.fingerprint());
    }

    /// Records a file or link below `.git`.
    fn inside(&mut self, inside: &[u8], read: Entry) {
        // Repositories of submodules and LFS or annex objects exist nowhere else.
        let store = repository::STORES.iter().find(|store| inside.starts_with(format!("{store}/").as_bytes()));
        if let Some(store) = store {
            self.nested(format!(".git/{store}").into_bytes(), inside, &read);
            return;
        }
        match read {
            Entry::File(file) => self.snapshot.repository.note_stored(inside, file),
            Entry::Link(target) => {
                if let Err(why) = self.snapshot.repository.note_link(inside, &target) {
                    self.note_uncertain(format!(".git/{}: {why}", shown(inside)));
                }
            }
        }
    }

    fn regular(&mut self, name: &[u8], entry: &mut tar::Entry<'_, impl Read>, executable: bool) -> io::Result<Entry> {
        let (size, at, most) = (entry.size(), ContentLocation::Archive(entry.raw_file_position()), most_kept(name));
        let mut hash = Sha256::new();
        let (mut kept, mut read) = (Vec::new(), 0);
        self.piece.resize(PIECE, 0);
        loop {
            let count = entry.read(&mut self.piece)?;
            if count == 0 {
                break;
            }
            read += count as u64;
            hash.update(&self.piece[..count]);
            if read <= most {
                kept.extend_from_slice(&self.piece[..count]);
            }
        }
        if read != size {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{} is truncated", shown(name))));
        }
        if size <= most {
            self.understand(name, &kept);
        } else if is_noted(name) {
            self.note_uncertain(format!("{}: it is larger than {most} bytes", shown(name)));
        }
        let file = Regular { size, executable, digest: hash.finalize().into(), at };
        self.regular.insert(name.to_vec(), file.clone());
        Ok(Entry::File(file))
    }

    /// Evaluates a file that affects how others are read, or that contains references.
    fn understand(&mut self, name: &[u8], text: &[u8]) {
        if is_noted(name) {
            if let Err(why) = self.snapshot.repository.note(&name[b".git/".len()..], text) {
                self.note_uncertain(format!("{}: {why}", shown(name)));
            }
        } else if last(name) == b".gitignore" {
            self.rules.add(folder(name), text);
        }
    }

    fn end(self, before: Option<&Snapshot>) -> io::Result<Snapshot> {
        let Self { rules, all, nested, mut snapshot, .. } = self;
        for (name, entry) in all {
            let known = before.is_none_or(|before| before.files.contains_key(&name));
            if !known && rules.is_ignored(&name) {
                snapshot.ignored.insert(name, entry);
            } else {
                snapshot.files.insert(name, entry);
            }
        }
        if snapshot.files.len() > MAX_FILES {
            return Err(io::Error::other(format!("there are more than {MAX_FILES} files")));
        }
        let state = |hash: Sha256| data_encoding::HEXLOWER.encode(&hash.finalize());
        let mut repository = std::mem::take(&mut snapshot.repository);
        let uncertain = repository.read_tables(&|file| snapshot.content(file));
        snapshot.repository = repository;
        if snapshot.repository.is_head_broken() {
            snapshot.uncertain.push(".git: the branch that is checked out has no commit".to_owned());
        }
        let more = MAX_UNCERTAIN.saturating_sub(snapshot.uncertain.len());
        snapshot.uncertain.extend(uncertain.into_iter().take(more));
        snapshot.nested = nested.into_iter().map(|(name, hash)| (name, state(hash))).collect();
        if let Some(before) = before
            && before.repository.has_commit()
            && !snapshot.repository.has_head()
        {
            snapshot.uncertain.push("its repository, `.git`, is gone or has no HEAD".to_owned());
        }
        Ok(snapshot)
    }
}

/// Whether the repository parses a file.
fn is_noted(name: &[u8]) -> bool {
    name.strip_prefix(b".git/").is_some_and(Repository::notes)
}

/// Maximum size up to which a file is read as a whole, in bytes; 0 if it is not.
fn most_kept(name: &[u8]) -> u64 {
    if is_noted(name) {
        repository::MAX_TEXT as u64
    } else if last(name) == b".gitignore" && !name.starts_with(b".git/") {
        MAX_PATTERNS
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::{Files, WorkspaceFile};

    /// Creates an archive whose entries have exactly these names.
    fn archive(path: &Path, entries: &[(&str, tar::EntryType, &str)]) {
        let mut tar = tar::Builder::new(File::create(path).unwrap());
        for (name, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(0o644);
            let is_link = matches!(kind, tar::EntryType::Symlink | tar::EntryType::Link);
            if is_link {
                header.set_link_name_literal(content).unwrap();
            }
            let content = if is_link { &b""[..] } else { content.as_bytes() };
            header.set_size(content.len() as u64);
            header.set_cksum();
            tar.append(&header, content).unwrap();
        }
        tar.into_inner().unwrap();
    }

    fn names(entries: &BTreeMap<Name, Entry>) -> Vec<String> {
        entries.keys().map(|name| shown(name)).collect()
    }

    #[test]
    fn only_files_and_links_below_the_workspace_are_read() {
        use tar::EntryType::{Block, Directory, Fifo, Link, Regular, Symlink};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("left.tar");
        let commit = "1".repeat(40);
        archive(
            &path,
            &[
                ("workspace/", Directory, ""),
                ("workspace/a", Regular, "a"),
                ("workspace/../escape", Regular, "x"),
                ("/etc/absolute", Regular, "x"),
                ("workspace//double", Regular, "x"),
                ("other/b", Regular, "x"),
                ("workspaces/c", Regular, "x"),
                ("workspace/link", Symlink, "/etc/passwd"),
                ("workspace/hard", Link, "workspace/a"),
                ("workspace/pipe", Fifo, ""),
                ("workspace/disk", Block, ""),
                ("workspace/.git/config", Regular, "[core]"),
                ("workspace/.git/HEAD", Regular, "ref: refs/heads/a\n"),
                ("workspace/.git/refs/heads/a", Regular, &commit),
                ("workspace/sub/.git/config", Regular, "[core]"),
                ("workspace/.gitignore", Regular, "*.log\n"),
                ("workspace/new.log", Regular, "x"),
                ("workspace/old.log", Regular, "x"),
            ],
        );
        let before = Snapshot::of(&Files::from([("old.log".to_owned(), WorkspaceFile::Link("x".into()))]));
        let left = read_at(&path, "/workspace", Some(&before)).unwrap();
        assert_eq!(names(&left.files), [".gitignore", "a", "hard", "link", "old.log"]);
        assert_eq!(names(&left.ignored), ["new.log"]);
        assert_eq!(left.nested.keys().collect::<Vec<_>>(), [b"sub"]);
        assert_eq!(left.repository.head().as_deref(), Some(commit.as_str()));
        assert_eq!(left.files[&b"link"[..]], Entry::Link(b"/etc/passwd".to_vec()));
        assert_eq!(left.files[&b"hard"[..]], left.files[&b"a"[..]]);
        assert_eq!(left.uncertain, Vec::<String>::new());
        archive(&path, &[("workspace/x", Link, "/etc/passwd")]);
        let left = read_at(&path, "/workspace", Some(&before)).unwrap();
        assert!(left.files.is_empty() && left.uncertain.len() == 1, "{left:?}");
    }

    #[test]
    fn promise_15_so_many_files_are_read_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("left.tar");
        let files = |count: usize| {
            let mut tar = tar::Builder::new(io::BufWriter::new(File::create(&path).unwrap()));
            let mut append = |name: &str| {
                let mut header = tar::Header::new_gnu();
                header.set_mode(0o644);
                header.set_size(0);
                tar.append_data(&mut header, name, io::empty()).unwrap();
            };
            (0..count).for_each(|number| append(&format!("{number}")));
            // These do not count.
            append(".git/HEAD");
            append("sub/.git/HEAD");
            tar.into_inner().unwrap().into_inner().unwrap();
            read_at(&path, "", None)
        };
        assert_eq!(files(MAX_FILES).unwrap().files.len(), MAX_FILES);
        let why = files(MAX_FILES + 1).unwrap_err().to_string();
        assert_eq!(why, format!("there are more than {MAX_FILES} files"));
    }

    #[test]
    fn promise_15_below_a_long_path_nothing_is_sure() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("left.tar");
        for (length, is_sure) in [(LONG_PATH - 1, true), (LONG_PATH, false)] {
            let mut tar = tar::Builder::new(File::create(&path).unwrap());
            let name: String =
                (0..length).map(|at| if at % 200 == 199 && at + 1 < length { '/' } else { 'x' }).collect();
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(0o755);
            header.set_size(0);
            tar.append_data(&mut header, format!("workspace/{name}"), io::empty()).unwrap();
            tar.into_inner().unwrap();
            let left = read_at(&path, "/workspace", None).unwrap();
            assert_eq!(left.uncertain.is_empty(), is_sure, "{length}: {:?}", left.uncertain);
            assert!(is_sure || left.uncertain[0].ends_with("paths below one of this length cannot be read"));
        }
    }

    #[test]
    fn an_archive_that_is_cut_short_anywhere_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("left.tar");
        archive(&path, &[("a", tar::EntryType::Regular, "a"), ("b", tar::EntryType::Regular, "b")]);
        let whole = std::fs::read(&path).unwrap();
        assert_eq!(read_at(&path, "", None).unwrap().files.len(), 2);
        for end in (0..whole.len()).step_by(256) {
            std::fs::write(&path, &whole[..end]).unwrap();
            assert!(read_at(&path, "", None).is_err(), "{end} of {}", whole.len());
        }
    }
}
