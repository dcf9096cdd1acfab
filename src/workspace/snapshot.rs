//! A snapshot of a workspace: its files by path, and its repository's references. Contents stay in the archive and
//! are read when needed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::entry::{ContentLocation, Entry, Regular};
use super::file::{Change, Files, MAX_BYTES, MAX_FILE, WorkspaceFile};
use super::index::Index;
use super::name::{Name, shown};
use super::repository::Repository;

/// The state of a workspace at one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Its files and links, without `.git` and ignored files.
    pub files: BTreeMap<Name, Entry>,
    /// New files that its `.gitignore` files match.
    pub ignored: BTreeMap<Name, Entry>,
    /// Its repository.
    pub repository: Repository,
    /// Nested repositories by folder, with their fingerprints.
    pub nested: BTreeMap<Name, String>,
    /// The total size in bytes.
    pub size: u64,
    /// What could not be read or is uncertain, as text. If this is not empty, the snapshot may be incomplete.
    pub uncertain: Vec<String>,
    pub(super) archive: Option<Arc<File>>,
}

impl Snapshot {
    /// A snapshot of files in memory.
    pub fn of(files: &Files) -> Self {
        let entries = files.iter().filter_map(|(path, file)| {
            let entry = match file {
                WorkspaceFile::Regular { content, executable } => Entry::File(Regular {
                    size: content.len() as u64,
                    executable: *executable,
                    digest: Sha256::digest(content).into(),
                    at: ContentLocation::Memory(Arc::new(content.clone())),
                }),
                WorkspaceFile::Link(target) => Entry::Link(target.clone().into_bytes()),
                WorkspaceFile::Large { .. } => return None,
            };
            Some((path.clone().into_bytes(), entry))
        });
        Self { files: entries.collect(), ..Self::default() }
    }

    /// The file at a path, ignored or not. The path must exist.
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

    /// The index of its repository; `None` if it does not exist or cannot be parsed.
    pub(super) fn index(&self) -> Option<Index> {
        let file = self.repository.index.as_ref().filter(|file| file.size <= MAX_BYTES as u64)?;
        Index::read(&self.content(file).ok()?, self.repository.is_sha256())
    }

    /// A reader of a file's content.
    pub(super) fn reader<'a>(&'a self, file: &'a Regular) -> io::Result<Box<dyn Read + Send + 'a>> {
        match &file.at {
            ContentLocation::Memory(content) => Ok(Box::new(content.as_slice())),
            ContentLocation::Archive(offset) => {
                let archive = self.archive.as_deref().ok_or_else(|| io::Error::other("the archive is gone"))?;
                Ok(Box::new(FileRange { archive, offset: *offset, left: file.size }))
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
        io::copy(&mut BufReader::with_capacity(1 << 20, FileRange { archive, offset: 0, left }), to)
    }

    /// Loads its files into memory, within limits. Also returns the names that are not UTF-8 and cannot be loaded.
    ///
    /// # Errors
    /// The archive cannot be read.
    pub fn load_files(&self) -> io::Result<(Files, Vec<String>)> {
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

/// A range of a file. Reading it does not move the file's position, so several ranges can be read at the same time.
struct FileRange<'a> {
    archive: &'a File,
    offset: u64,
    left: u64,
}

impl Read for FileRange<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(to.len());
        let count = self.archive.read_at(&mut to[..most], self.offset)?;
        if count == 0 && most > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is truncated"));
        }
        self.offset += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

/// The changed paths between two snapshots.
pub fn changes(before: &Snapshot, after: &Snapshot) -> BTreeMap<Name, Change> {
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

    #[test]
    fn promise_15_what_a_recipe_reads_is_held_up_to_a_size_and_known_by_its_hash_beyond_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("archive");
        let archive = File::create_new(&path).unwrap();
        archive.set_len(MAX_FILE + 1).unwrap();
        let mut snapshot = Snapshot { archive: Some(Arc::new(File::open(&path).unwrap())), ..Snapshot::default() };
        let mut add = |name: &str, size: u64| {
            let at = ContentLocation::Archive(0);
            let file = Regular { size, executable: false, digest: [7; 32], at };
            snapshot.files.insert(name.as_bytes().to_vec(), Entry::File(file));
        };
        add("a large one", MAX_FILE + 1);
        // As many as there is space for, and then one byte.
        let count = u64::try_from(MAX_BYTES).unwrap() / MAX_FILE;
        for number in 0..count {
            add(&format!("b {number:02}"), MAX_FILE);
        }
        add("c one more", 1);
        let (files, not_held) = snapshot.load_files().unwrap();
        assert_eq!(not_held, Vec::<String>::new());
        let large: Vec<_> = files
            .iter()
            .filter(|(_, file)| matches!(file, WorkspaceFile::Large { .. }))
            .map(|(name, _)| name)
            .collect();
        assert_eq!(large, ["a large one", "c one more"]);
        let WorkspaceFile::Large { size, digest, .. } = &files["c one more"] else { panic!("it is held") };
        assert_eq!((*size, digest.as_str()), (1, "07".repeat(32).as_str()));
        let WorkspaceFile::Regular { content, .. } = &files["b 00"] else { panic!("it is not held") };
        assert_eq!(content.len() as u64, MAX_FILE);
    }
}
