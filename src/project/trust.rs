//! Which projects' files the user trusts: by content, file by file, kept in the state directory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Project;
use crate::host::{replace, wait_exclusive};

/// The store's file in the state directory.
const FILE: &str = "trust.json";
/// Its lock: held while it is read, changed and written.
const LOCK: &str = "trust.lock";

/// What is different from what was trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FileStatus {
    /// The file is as it was.
    Unchanged,
    /// It was not there.
    Added,
    /// Its content is another.
    Changed,
    /// It is gone.
    Removed,
}

/// The projects that are trusted.
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

    /// Every file of the project, and what is different from what was trusted.
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

    /// Trusts the files as they were read.
    ///
    /// # Errors
    /// The store cannot be read again or written.
    pub fn trust(&mut self, project: &Project) -> io::Result<()> {
        let _lock = self.refresh()?;
        self.projects.insert(project.root.clone(), TrustedFiles { files: digests(project) });
        self.write()
    }

    /// Trusts a project no more; whether it was trusted.
    ///
    /// # Errors
    /// The store cannot be read again or written.
    pub fn untrust(&mut self, root: &Path) -> io::Result<bool> {
        let _lock = self.refresh()?;
        let known = self.projects.remove(root).is_some();
        self.write()?;
        Ok(known)
    }

    /// Reads it again, as others may have changed it meanwhile, and keeps them from it until the lock is dropped.
    fn refresh(&mut self) -> io::Result<File> {
        let lock = wait_exclusive(&self.path.with_file_name(LOCK))?;
        self.projects = read(&self.path)?;
        Ok(lock)
    }

    fn write(&self) -> io::Result<()> {
        replace(&self.path, &serde_json::to_vec_pretty(&self.projects)?)
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
    }
}
