//! A workspace at one moment, read from its archive: what is in it by path, and what its repository refers to. Contents stay
//! in the archive and are read when they are needed.
//!
//! An archive comes from a container in which the agent may do everything. What is refused or doubted here:
//! * an archive that was cut short: it must end with the blocks of zeros that end every archive;
//! * paths that lead elsewhere, and entries that are no files or links;
//! * hard links to anything that is not in the workspace; those to a file of it are that file;
//! * what the engine cannot see: below paths that are nearly as long as a system takes, it leaves out what is deeper, without
//!   a word. Whatever is in doubt is said, and nothing in doubt counts as brought or removed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::ignored::Ignored;
use super::name::{Name, folder, last, shown};
use super::repository::Repository;
use super::{Files, MAX_BYTES, MAX_FILE, MAX_FILES, WorkspaceFile};

/// Largest `.gitignore` that counts, in bytes.
const MAX_PATTERNS: u64 = 1 << 20;
/// Most entries of an archive, `.git` and what is ignored counted.
const MAX_ENTRIES: usize = 4_000_000;
/// A path of this length may have others below it that the engine cannot reach: 4096 bytes (`PATH_MAX`, limits.h), less a
/// name (255) and what the engine's own place is before it.
const LONG_PATH: usize = 3400;
/// Blocks of an archive, in bytes (POSIX ustar); two of zeros end it.
const BLOCK: u64 = 512;
/// Bytes that are read at once.
const PIECE: usize = 64 << 10;
/// Most doubts that are named.
const MAX_DOUBTS: usize = 20;

/// Where a content is.
#[derive(Debug, Clone)]
pub(super) enum At {
    /// In the snapshot's archive, from this byte on.
    Archive(u64),
    /// Here.
    Memory(Arc<Vec<u8>>),
}

/// A file or link of a workspace.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A regular file.
    File(Regular),
    /// A symbolic link to this.
    Link(Vec<u8>),
}

/// A regular file: what names its content, and where that is.
#[derive(Debug, Clone)]
pub struct Regular {
    /// Bytes.
    pub size: u64,
    /// Whether it may be executed.
    pub executable: bool,
    /// SHA-256 of its content.
    pub digest: [u8; 32],
    pub(super) at: At,
}

impl PartialEq for Regular {
    fn eq(&self, other: &Self) -> bool {
        (self.size, self.executable, self.digest) == (other.size, other.executable, other.digest)
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File(one), Self::File(two)) => one == two,
            (Self::Link(one), Self::Link(two)) => one == two,
            _ => false,
        }
    }
}

impl Entry {
    /// The mode that git has for it.
    pub(super) fn mode(&self) -> &'static str {
        match self {
            Self::File(Regular { executable: false, .. }) => "100644",
            Self::File(Regular { executable: true, .. }) => "100755",
            Self::Link(_) => "120000",
        }
    }

    /// What names it: its mode and the SHA-256 of its content.
    pub(super) fn fingerprint(&self) -> String {
        let digest = match self {
            Self::File(file) => data_encoding::HEXLOWER.encode(&file.digest),
            Self::Link(target) => data_encoding::HEXLOWER.encode(&Sha256::digest(target)),
        };
        format!("{} {digest}", self.mode())
    }
}

/// A workspace as it was at one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Its files and links, without `.git` and what is ignored.
    pub files: BTreeMap<Name, Entry>,
    /// Those that its `.gitignore` files name, and that were not there before.
    pub ignored: BTreeMap<Name, Entry>,
    /// Its repository.
    pub repository: Repository,
    /// Repositories inside of it, by their folders, each with what names its state.
    pub nested: BTreeMap<Name, String>,
    /// How much it is, in bytes, all of it.
    pub size: u64,
    /// What could not be read or is not certain, in words: while there is any, nobody knows whether all has been seen.
    pub doubts: Vec<String>,
    archive: Option<Arc<File>>,
}

impl Snapshot {
    /// Of files in memory.
    pub fn of(files: &Files) -> Self {
        let entries = files.iter().filter_map(|(path, file)| {
            let entry = match file {
                WorkspaceFile::Regular { content, executable } => Entry::File(Regular {
                    size: content.len() as u64,
                    executable: *executable,
                    digest: Sha256::digest(content).into(),
                    at: At::Memory(Arc::new(content.clone())),
                }),
                WorkspaceFile::Link(target) => Entry::Link(target.clone().into_bytes()),
                WorkspaceFile::Large { .. } => return None,
            };
            Some((path.clone().into_bytes(), entry))
        });
        Self { files: entries.collect(), ..Self::default() }
    }

    /// What is at a path, ignored or not, which is there.
    pub(super) fn files_or_ignored(&self, name: &[u8]) -> &Entry {
        self.files.get(name).or_else(|| self.ignored.get(name)).expect("the name is of this snapshot")
    }

    /// A file's content.
    ///
    /// # Errors
    /// The archive cannot be read.
    pub fn content(&self, file: &Regular) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        self.reader(file)?.read_to_end(&mut content)?;
        Ok(content)
    }

    /// A reader of a file's content.
    pub(super) fn reader<'a>(&'a self, file: &'a Regular) -> io::Result<Box<dyn Read + Send + 'a>> {
        match &file.at {
            At::Memory(content) => Ok(Box::new(content.as_slice())),
            At::Archive(offset) => {
                let archive = self.archive.as_deref().ok_or_else(|| io::Error::other("the archive is gone"))?;
                Ok(Box::new(Part { archive, offset: *offset, left: file.size }))
            }
        }
    }

    /// Writes the whole archive to a file.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub fn copy_archive(&self, to: &mut impl io::Write) -> io::Result<u64> {
        let archive = self.archive.as_deref().ok_or_else(|| io::Error::other("the archive is gone"))?;
        let left = archive.metadata()?.len();
        io::copy(&mut BufReader::with_capacity(1 << 20, Part { archive, offset: 0, left }), to)
    }

    /// Its files in memory, within bounds, and the names of those that cannot be held so.
    ///
    /// # Errors
    /// The archive cannot be read.
    pub fn held(&self) -> io::Result<(Files, Vec<String>)> {
        let (mut files, mut not_held, mut space) = (Files::new(), Vec::new(), MAX_BYTES as u64);
        for (name, entry) in &self.files {
            let Ok(path) = String::from_utf8(name.clone()) else {
                not_held.push(shown(name));
                continue;
            };
            let held = match entry {
                Entry::File(file) if file.size <= MAX_FILE.min(space) => {
                    space -= file.size;
                    WorkspaceFile::Regular { content: self.content(file)?, executable: file.executable }
                }
                Entry::File(file) => WorkspaceFile::Large {
                    size: file.size,
                    digest: data_encoding::HEXLOWER.encode(&file.digest),
                    executable: file.executable,
                },
                Entry::Link(target) => {
                    let Ok(target) = String::from_utf8(target.clone()) else {
                        not_held.push(path);
                        continue;
                    };
                    WorkspaceFile::Link(target)
                }
            };
            files.insert(path, held);
        }
        Ok((files, not_held))
    }
}

/// A part of a file, read without moving its position: several may read it at once.
struct Part<'a> {
    archive: &'a File,
    offset: u64,
    left: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(to.len());
        let count = self.archive.read_at(&mut to[..most], self.offset)?;
        if count == 0 && most > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is cut short"));
        }
        self.offset += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

/// Reads an archive of a workspace that is below `root` in it. With what was there `before`, new files that its `.gitignore`
/// files name are told apart.
///
/// # Errors
/// It is malformed or cut short, or holds more than the bounds allow.
pub fn read(archive: File, root: &str, before: Option<&Snapshot>) -> io::Result<Snapshot> {
    check_end(&archive)?;
    let mut reading =
        Reading { root: root.trim_matches('/').rsplit('/').next().unwrap_or_default().into(), ..Reading::default() };
    if let Some(before) = before {
        reading.rules.add(b"", &before.repository.excluded);
    }
    (&archive).seek(SeekFrom::Start(0))?;
    for entry in tar::Archive::new(BufReader::with_capacity(1 << 20, &archive)).entries()? {
        reading.entry(entry?)?;
    }
    let mut snapshot = reading.end(before)?;
    snapshot.archive = Some(Arc::new(archive));
    Ok(snapshot)
}

/// The same of an archive by its path.
///
/// # Errors
/// It cannot be opened, is malformed or cut short, or holds more than the bounds allow.
pub fn read_at(archive: &Path, root: &str, before: Option<&Snapshot>) -> io::Result<Snapshot> {
    read(File::open(archive)?, root, before)
}

/// Bytes of the blocks that end an archive.
const END: usize = 1024;

/// An archive that ends between two of its entries looks whole to those who only read entries.
fn check_end(archive: &File) -> io::Result<()> {
    let size = archive.metadata()?.len();
    let mut end = [1; END];
    let at = size.checked_sub(2 * BLOCK).filter(|_| size % BLOCK == 0);
    let whole = at.is_some_and(|at| archive.read_exact_at(&mut end, at).is_ok());
    if whole && end.iter().all(|byte| *byte == 0) {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is cut short: its end is not there"))
}

#[derive(Default)]
struct Reading {
    root: Vec<u8>,
    rules: Ignored,
    all: BTreeMap<Name, Entry>,
    /// Every regular file, for the hard links to it.
    regular: HashMap<Name, Regular>,
    nested: BTreeMap<Name, Sha256>,
    snapshot: Snapshot,
    entries: usize,
    /// What is read at once.
    piece: Vec<u8>,
}

impl Reading {
    /// A path of the archive, below the workspace.
    fn below(&self, path: &[u8]) -> Option<Name> {
        let below = match self.root.as_slice() {
            b"" => path,
            root => path.strip_prefix(root)?.strip_prefix(b"/")?,
        };
        let below = below.strip_suffix(b"/").unwrap_or(below);
        let leads_elsewhere = below.split(|byte| *byte == b'/').any(|part| matches!(part, b"" | b"." | b".."));
        (!leads_elsewhere).then(|| below.to_vec())
    }

    fn doubt(&mut self, why: String) {
        if self.snapshot.doubts.len() < MAX_DOUBTS {
            self.snapshot.doubts.push(why);
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
            self.doubt(format!("{}…: below paths of this length nothing can be read", shown(&name[..80])));
        }
        let read = if kind.is_file() {
            let executable = entry.header().mode()? & 0o111 != 0;
            self.snapshot.size = self.snapshot.size.saturating_add(entry.size());
            Some(self.regular(&name, &mut entry, executable)?)
        } else if kind.is_hard_link() {
            let target = entry.link_name_bytes().and_then(|target| self.below(&target));
            let known = target.and_then(|target| self.regular.get(&target)).cloned();
            if known.is_none() {
                self.doubt(format!("{}: it is a link to something that is not in the workspace", shown(&name)));
            }
            known.map(Entry::File)
        } else if kind.is_symlink() {
            Some(Entry::Link(entry.link_name_bytes().unwrap_or_default().into_owned()))
        } else {
            None
        };
        let Some(read) = read else { return Ok(()) };
        if let Some(inside) = name.strip_prefix(b".git/") {
            if let Entry::File(file) = read {
                self.snapshot.repository.stored(inside, file);
            }
            return Ok(());
        }
        let parts: Vec<&[u8]> = name.split(|byte| *byte == b'/').collect();
        match parts.iter().position(|part| *part == b".git") {
            None => drop(self.all.insert(name, read)),
            // A worktree's or submodule's, which is a file, or the root's own that is none any more.
            Some(at) if at + 1 == parts.len() => {}
            Some(at) => {
                let place = parts[..at].join(&b'/');
                let hash = self.nested.entry(place).or_default();
                hash.update(&name);
                hash.update(read.fingerprint());
            }
        }
        Ok(())
    }

    fn regular(&mut self, name: &[u8], entry: &mut tar::Entry<'_, impl Read>, executable: bool) -> io::Result<Entry> {
        let is_rules = last(name) == b".gitignore" && entry.size() <= MAX_PATTERNS;
        let is_noted = name.strip_prefix(b".git/").is_some_and(Repository::notes);
        let (size, at) = (entry.size(), At::Archive(entry.raw_file_position()));
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
            if is_rules || is_noted && kept.len() <= super::repository::MAX_TEXT {
                kept.extend_from_slice(&self.piece[..count]);
            }
        }
        if read != size {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{} is cut short", shown(name))));
        }
        if is_rules && !name.starts_with(b".git/") {
            self.rules.add(folder(name), &kept);
        }
        if let Some(inside) = name.strip_prefix(b".git/").filter(|_| is_noted)
            && let Err(why) = self.snapshot.repository.note(inside, &kept)
        {
            self.doubt(format!("{}: {why}", shown(name)));
        }
        let file = Regular { size, executable, digest: hash.finalize().into(), at };
        self.regular.insert(name.to_vec(), file.clone());
        Ok(Entry::File(file))
    }

    fn end(self, before: Option<&Snapshot>) -> io::Result<Snapshot> {
        let Self { rules, all, nested, mut snapshot, .. } = self;
        for (name, entry) in all {
            let known = before.is_none_or(|before| before.files.contains_key(&name));
            if !known && rules.has(&name) {
                snapshot.ignored.insert(name, entry);
            } else {
                snapshot.files.insert(name, entry);
            }
        }
        if snapshot.files.len() > MAX_FILES {
            return Err(io::Error::other(format!("there are more than {MAX_FILES} files")));
        }
        let state = |hash: Sha256| data_encoding::HEXLOWER.encode(&hash.finalize());
        snapshot.nested = nested.into_iter().map(|(name, hash)| (name, state(hash))).collect();
        if let Some(before) = before
            && before.repository.has_commit()
            && !snapshot.repository.has_head()
        {
            snapshot.doubts.push("its repository, `.git`, is gone or has no HEAD".to_owned());
        }
        Ok(snapshot)
    }
}

/// What changed from one moment to another, by path.
pub fn changes(before: &Snapshot, after: &Snapshot) -> BTreeMap<Name, super::Change> {
    use super::Change;
    let names: BTreeSet<&Name> = before.files.keys().chain(after.files.keys()).collect();
    let changed = names.into_iter().filter_map(|name| {
        let change = match (before.files.get(name), after.files.get(name)) {
            (None, _) => Change::Added,
            (Some(_), None) => Change::Removed,
            (Some(one), Some(two)) if one != two => Change::Changed,
            _ => return None,
        };
        Some((name.clone(), change))
    });
    changed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An archive with entries whose names are written as they are.
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
        assert_eq!(left.doubts, Vec::<String>::new());
        archive(&path, &[("workspace/x", Link, "/etc/passwd")]);
        let left = read_at(&path, "/workspace", Some(&before)).unwrap();
        assert!(left.files.is_empty() && left.doubts.len() == 1, "{left:?}");
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
