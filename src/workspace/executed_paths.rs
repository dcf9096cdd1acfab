//! Finds paths in a mounted folder that host tools execute or obey, before and after the agent ran.
//!
//! At the folder's root they are masked (`path_rules.rs`). In subfolders they cannot be: an agent that can write a
//! folder can move it away and create another. So they are recorded before the launch, and new or changed ones are
//! reported at the end. git executes commands from a repository's `config` (`core.fsmonitor`) at the first prompt or
//! `git status` in it. It recognises as a repository: a folder with `.git` (a folder, or a file that points
//! elsewhere), and a folder with `HEAD` and either `objects` and `refs` or `commondir` (gitrepository-layout(5)).

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::path_rules::{MASKED, is_executed};

/// How many entries are inspected at most.
const MAX_ENTRIES: usize = 5_000_000;
/// Folders with a package manager's files. Only repositories in them count, or every installation would be reported.
const PACKAGES: [&str; 3] = ["node_modules", ".venv", "site-packages"];
/// Files and folders of a repository that are executed, or that determine what is executed.
const OF_GIT: [&str; 5] = ["HEAD", "config", "config.worktree", "commondir", "hooks"];

/// Detects changes of a file. It includes ctime, which an agent cannot set.
type Stamp = (u64, u64, i64, i64, u32);

/// The executed paths of a folder.
#[derive(Debug, Clone, Default)]
pub struct ExecutedPaths(BTreeMap<PathBuf, (PathKind, Stamp)>);

/// A path that the user should inspect first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutedPath {
    /// The path, relative to the folder.
    pub path: PathBuf,
    /// Whether git takes it for a repository.
    pub repository: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PathKind {
    Repository,
    Executed,
}

/// Whether git takes a folder for a repository itself (a bare one, or a `.git`).
pub fn is_repository(folder: &Path) -> bool {
    let there = |name: &str| std::fs::symlink_metadata(folder.join(name)).is_ok();
    there("HEAD") && (there("objects") && there("refs") || there("commondir"))
}

impl ExecutedPaths {
    /// Scans a folder, without following links.
    ///
    /// # Errors
    /// It cannot be read, or has too many entries.
    pub fn scan(root: &Path) -> io::Result<Self> {
        let mut places = BTreeMap::new();
        let mut folders = vec![(PathBuf::new(), false)];
        let mut looked = 0;
        while let Some((below, packages)) = folders.pop() {
            let folder = root.join(&below);
            let entries = match std::fs::read_dir(&folder) {
                Err(error) if below.as_os_str().is_empty() => return Err(error),
                // A subfolder that disappeared or that this user cannot read is skipped.
                Err(_) => continue,
                Ok(entries) => entries,
            };
            if !below.as_os_str().is_empty() && is_repository(&folder) {
                note_repository(root, &below, &mut places);
            }
            for entry in entries.flatten() {
                looked += 1;
                if looked > MAX_ENTRIES {
                    return Err(io::Error::other(format!("it holds more than {MAX_ENTRIES} entries")));
                }
                let name = entry.file_name();
                let path = below.join(&name);
                let text = name.to_str().unwrap_or_default();
                let masked = below.as_os_str().is_empty() && MASKED.iter().any(|(masked, _)| *masked == text);
                let Some(seen) = entry.metadata().ok().filter(|_| !masked) else { continue };
                if text.eq_ignore_ascii_case(".git") {
                    places.insert(path.clone(), (PathKind::Repository, identity(&seen)));
                    if seen.is_dir() {
                        note_repository(root, &path, &mut places);
                    }
                } else if seen.is_dir() {
                    folders.push((path, packages || PACKAGES.contains(&text)));
                } else if !packages && path.to_str().is_some_and(is_executed) {
                    places.insert(path, (PathKind::Executed, stamp(&seen)));
                }
            }
        }
        Ok(Self(places))
    }

    /// The paths that are new or changed since `before`, repositories first.
    pub fn new_since(&self, before: &Self) -> Vec<ExecutedPath> {
        let new = self.0.iter().filter(|(path, now)| before.0.get(*path) != Some(now));
        let mut found: Vec<ExecutedPath> = new
            .map(|(path, (kind, _))| ExecutedPath { path: path.clone(), repository: *kind == PathKind::Repository })
            .collect();
        found.sort_by_key(|place| !place.repository);
        found
    }
}

/// A folder's inode only: changes of its content are detected by its files.
fn identity(seen: &Metadata) -> Stamp {
    if seen.is_dir() { (seen.ino(), 0, 0, 0, 0) } else { stamp(seen) }
}

fn stamp(seen: &Metadata) -> Stamp {
    (seen.ino(), seen.size(), seen.ctime(), seen.ctime_nsec(), seen.mode())
}

fn note_repository(root: &Path, below: &Path, places: &mut BTreeMap<PathBuf, (PathKind, Stamp)>) {
    if let Ok(seen) = std::fs::symlink_metadata(root.join(below)) {
        places.insert(below.to_owned(), (PathKind::Repository, identity(&seen)));
    }
    for name in OF_GIT {
        let path = below.join(name);
        let Ok(seen) = std::fs::symlink_metadata(root.join(&path)) else { continue };
        // Another checked-out branch is not an attack.
        let stamp = if name == "HEAD" { (0, 0, 0, 0, 0) } else { identity(&seen) };
        places.insert(path.clone(), (PathKind::Repository, stamp));
        for hook in std::fs::read_dir(root.join(&path)).into_iter().flatten().flatten() {
            if let Ok(seen) = hook.metadata() {
                places.insert(path.join(hook.file_name()), (PathKind::Repository, self::stamp(&seen)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(places: &[ExecutedPath]) -> Vec<String> {
        places
            .iter()
            .map(|place| format!("{}{}", if place.repository { "git " } else { "" }, place.path.display()))
            .collect()
    }

    #[test]
    fn what_git_and_other_tools_would_execute_is_found_wherever_it_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let make = |path: &str| {
            std::fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            std::fs::write(root.join(path), path).unwrap();
        };
        for path in [
            "src/main.rs",
            "Makefile",
            ".git/config",
            "sub/.git/config",
            "sub/.git/HEAD",
            "node_modules/a/package.json",
        ] {
            make(path);
        }
        let before = ExecutedPaths::scan(root).unwrap();
        assert!(ExecutedPaths::scan(root).unwrap().new_since(&before).is_empty());
        // A branch is checked out, the root's own repository is masked, packages come and go.
        for path in ["sub/.git/HEAD", "sub/.git/objects/x", ".git/config", "node_modules/b/package.json", "src/lib.rs"]
        {
            std::fs::write(root.join(path), "changed")
                .or_else(|_| {
                    make(path);
                    Ok::<_, io::Error>(())
                })
                .unwrap();
        }
        assert_eq!(names(&ExecutedPaths::scan(root).unwrap().new_since(&before)), Vec::<String>::new());
        for path in ["Makefile", "sub/.git/config", "sub/.git/hooks/pre-commit"] {
            std::fs::remove_file(root.join(path)).ok();
            make(path);
        }
        for path in ["deep/er/.git/config", "file/.git", "bare/HEAD", "node_modules/b/.git/config", "deep/.envrc"] {
            make(path);
        }
        for path in ["bare/objects", "bare/refs"] {
            std::fs::create_dir_all(root.join(path)).unwrap();
        }
        make("common/HEAD");
        make("common/commondir");
        let found = names(&ExecutedPaths::scan(root).unwrap().new_since(&before));
        for expected in [
            "git bare",
            "git common",
            "git deep/er/.git",
            "git file/.git",
            "git node_modules/b/.git",
            "git sub/.git/config",
            "git sub/.git/hooks/pre-commit",
            "Makefile",
            "deep/.envrc",
        ] {
            assert!(found.iter().any(|name| name == expected), "{expected}: {found:?}");
        }
        assert!(found.last().is_some_and(|last| !last.starts_with("git ")), "repositories come first");
    }
}
