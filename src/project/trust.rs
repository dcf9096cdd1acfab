//! Which project files the user trusts: by content, file by file, in the state directory.
//!
//! `trust.json` holds the digests, which decide. `trusted/DIGEST` holds the contents, so that a later version can be compared
//! with the trusted one; a content that is missing or does not match its digest is not shown.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Project;
use crate::host::{make_private, replace, wait_exclusive};

/// The store's file in the state directory.
const FILE: &str = "trust.json";
/// Its lock: held while it is read, changed and written.
const LOCK: &str = "trust.lock";
/// The folder with the trusted contents, named by their digests.
const CONTENTS: &str = "trusted";

/// How a file differs from the trusted version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FileStatus {
    /// It has not changed.
    Unchanged,
    /// It is new.
    Added,
    /// Its content has changed.
    Changed,
    /// It was removed.
    Removed,
}

/// The trusted projects.
pub struct TrustStore {
    path: PathBuf,
    /// By the project's directory: its files' digests.
    projects: BTreeMap<PathBuf, TrustedFiles>,
}

#[derive(Serialize, Deserialize)]
struct TrustedFiles {
    files: BTreeMap<String, String>,
}

impl TrustStore {
    /// Opens the store of a state directory.
    ///
    /// # Errors
    /// It cannot be read; then nothing is trusted.
    pub fn open(state: &Path) -> io::Result<Self> {
        let path = state.join(FILE);
        let projects = read(&path)?;
        Ok(Self { path, projects })
    }

    /// Whether exactly these files are trusted.
    pub fn trusts(&self, project: &Project) -> bool {
        self.projects.get(&project.root).is_some_and(|trusted| trusted.files == digests(project))
    }

    /// The status of every file of the project.
    pub fn changes(&self, project: &Project) -> BTreeMap<String, FileStatus> {
        let known = self.projects.get(&project.root).map(|trusted| &trusted.files);
        let now = digests(project);
        let mut changes: BTreeMap<String, FileStatus> =
            known.into_iter().flat_map(BTreeMap::keys).map(|path| (path.clone(), FileStatus::Removed)).collect();
        for (path, digest) in now {
            let change = match known.and_then(|known| known.get(&path)) {
                None => FileStatus::Added,
                Some(before) if *before == digest => FileStatus::Unchanged,
                Some(_) => FileStatus::Changed,
            };
            changes.insert(path, change);
        }
        changes
    }

    /// The files of the project as they were trusted; `None` if it is not trusted, or not all contents are stored.
    pub fn trusted_files(&self, project: &Project) -> Option<BTreeMap<String, Vec<u8>>> {
        let trusted = self.projects.get(&project.root)?;
        let folder = self.path.with_file_name(CONTENTS);
        let content = |(path, digest): (&String, &String)| {
            let content = std::fs::read(folder.join(digest)).ok()?;
            (HEXLOWER.encode(&Sha256::digest(&content)) == *digest).then(|| (path.clone(), content))
        };
        trusted.files.iter().map(content).collect()
    }

    /// Trusts the files as they were read.
    ///
    /// # Errors
    /// The store cannot be read again or written.
    pub fn trust(&mut self, project: &Project) -> io::Result<()> {
        let _lock = self.refresh()?;
        let folder = self.path.with_file_name(CONTENTS);
        make_private(&folder)?;
        for content in project.files.values() {
            replace(&folder.join(HEXLOWER.encode(&Sha256::digest(content))), content)?;
        }
        self.projects.insert(project.root.clone(), TrustedFiles { files: digests(project) });
        self.write()
    }

    /// Stops trusting a project; returns whether it was trusted.
    ///
    /// # Errors
    /// The store cannot be read again or written.
    pub fn untrust(&mut self, root: &Path) -> io::Result<bool> {
        let _lock = self.refresh()?;
        let known = self.projects.remove(root).is_some();
        self.write()?;
        Ok(known)
    }

    /// Locks the store and reads it again, because another process may have changed it.
    fn refresh(&mut self) -> io::Result<File> {
        let lock = wait_exclusive(&self.path.with_file_name(LOCK))?;
        self.projects = read(&self.path)?;
        Ok(lock)
    }

    /// Removes the contents that no project refers to. One that cannot be removed only takes space.
    fn remove_unused_contents(&self) {
        let used: BTreeSet<&String> = self.projects.values().flat_map(|trusted| trusted.files.values()).collect();
        let folder = self.path.with_file_name(CONTENTS);
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_none_or(|name| !used.contains(&name.to_owned())) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    fn write(&self) -> io::Result<()> {
        replace(&self.path, &serde_json::to_vec_pretty(&self.projects)?)?;
        self.remove_unused_contents();
        Ok(())
    }
}

fn read(path: &Path) -> io::Result<BTreeMap<PathBuf, TrustedFiles>> {
    match std::fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(io::Error::new(error.kind(), format!("read {}: {error}", path.display()))),
        Ok(text) => serde_json::from_slice(&text)
            .map_err(|error| io::Error::other(format!("{}: {error}; remove it and trust again", path.display()))),
    }
}

fn digests(project: &Project) -> BTreeMap<String, String> {
    let digest = |content: &Vec<u8>| HEXLOWER.encode(&Sha256::digest(content));
    project.files.iter().map(|(path, content)| (path.clone(), digest(content))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(files: &[(&str, &str)]) -> Project {
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect();
        Project { root: "/p".into(), files }
    }

    #[test]
    fn many_at_once_are_all_trusted() {
        let state = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for number in 0..20 {
                let state = state.path();
                scope.spawn(move || {
                    let project = Project { root: format!("/p{number}").into(), ..project(&[("hooks.lua", "x")]) };
                    TrustStore::open(state).unwrap().trust(&project).unwrap();
                });
            }
        });
        assert_eq!(TrustStore::open(state.path()).unwrap().projects.len(), 20);
    }

    #[test]
    fn one_changed_byte_is_not_trusted_and_says_which_file() {
        let state = tempfile::tempdir().unwrap();
        let mut store = TrustStore::open(state.path()).unwrap();
        let before = project(&[("hooks.lua", "return {}"), ("gone.lua", "")]);
        assert!(!store.trusts(&before));
        store.trust(&before).unwrap();
        let store = TrustStore::open(state.path()).unwrap();
        assert!(store.trusts(&before));
        let after = project(&[("hooks.lua", "return { }"), ("new.lua", "")]);
        assert!(!store.trusts(&after));
        let expected =
            [("gone.lua", FileStatus::Removed), ("hooks.lua", FileStatus::Changed), ("new.lua", FileStatus::Added)];
        assert_eq!(store.changes(&after), expected.map(|(path, change)| (path.to_owned(), change)).into());
        // The trusted version is there to compare with, and goes with the trust in it.
        assert_eq!(store.trusted_files(&after), Some(before.files.clone()));
        let contents = || std::fs::read_dir(state.path().join(CONTENTS)).unwrap().count();
        assert_eq!(contents(), 2);
        let changed = std::fs::read_dir(state.path().join(CONTENTS)).unwrap().next().unwrap().unwrap();
        std::fs::write(changed.path(), "another").unwrap();
        assert_eq!(store.trusted_files(&after), None, "a content that does not match its digest");
        let mut store = store;
        store.untrust(&after.root).unwrap();
        assert_eq!(contents(), 0);
    }
}
