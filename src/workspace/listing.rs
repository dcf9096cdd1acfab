//! Lists the files of a folder that are copied: with git, tracked and unignored files; without git, everything.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::file::MAX_FILES;
use super::git::Git;
use super::ignore_rules::IgnoreRules;
use super::name::Name;
use super::walk::walk_names;

/// An entry of git's index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct IndexEntry {
    /// 100644, 100755, 120000, or 160000 for a submodule's commit.
    pub(super) mode: u32,
    /// It is not checked out (`skip-worktree`).
    pub(super) skip_worktree: bool,
    /// Its differences are ignored (`assume-unchanged`).
    pub(super) assume_unchanged: bool,
}

/// The mode of a submodule's commit.
pub(super) const GITLINK: u32 = 0o160_000;

/// The files of a folder that are copied.
#[derive(Debug, Default)]
pub struct Listing {
    /// The paths of files and links.
    pub paths: Vec<Name>,
    /// Whether the folder is the top of a repository.
    pub is_repository: bool,
    /// Folders that are not copied, with the reason.
    pub omitted: BTreeMap<Name, &'static str>,
    pub(super) index: BTreeMap<Name, IndexEntry>,
}

/// Lists the files that would be copied.
///
/// # Errors
/// The folder cannot be read, or has too many files.
pub fn list(root: &Path, exclude: &[String]) -> io::Result<Listing> {
    if !std::fs::metadata(root)?.is_dir() {
        return Err(io::Error::other("it is not a folder"));
    }
    let git = Git::at(root);
    let top = git.line(&["rev-parse", "--show-toplevel"]).map(PathBuf::from);
    let mut listing = match top {
        Some(top) => {
            let mut listing = tracked(root, &git)?;
            listing.is_repository = top.canonicalize().ok() == root.canonicalize().ok();
            listing
        }
        None if root.join(".git").exists() => {
            // A plain copy would include ignored files.
            let why = git.run(&["rev-parse", "--show-toplevel"]).err();
            let mut why =
                why.map_or_else(|| "git does not report its top folder".to_owned(), |error| error.to_string());
            if why.to_lowercase().contains("refstorage") {
                why.push_str(": its references are in tables, which only git 2.45 and newer can read");
            }
            return Err(io::Error::other(format!("it has a repository that git cannot read: {why}")));
        }
        None => Listing { paths: walk_names(root, MAX_FILES)?, ..Listing::default() },
    };
    let mut excluded = IgnoreRules::default();
    excluded.add(b"", exclude.join("\n").as_bytes());
    listing.paths.retain(|path| !excluded.is_ignored(path));
    listing.omitted.retain(|path, _| !excluded.is_ignored(path));
    if listing.paths.len() > MAX_FILES {
        return Err(io::Error::other(format!("there are more than {MAX_FILES} files")));
    }
    Ok(listing)
}

/// Lists tracked files and unignored files.
fn tracked(root: &Path, git: &Git<'_>) -> io::Result<Listing> {
    let index = index(&git.run(&["ls-files", "-z", "--cached", "--stage", "-v"])?);
    let others = git.run(&["ls-files", "-z", "--others", "--exclude-standard"])?;
    let mut paths = BTreeSet::new();
    let mut omitted = BTreeMap::new();
    for (path, indexed) in &index {
        if indexed.mode == GITLINK {
            omitted.insert(path.clone(), "a submodule");
        } else if !indexed.skip_worktree || is_there(root, path) {
            paths.insert(path.clone());
        }
    }
    for path in others.split(|byte| *byte == 0).filter(|path| !path.is_empty()) {
        // git lists an untracked nested repository as its folder.
        match path.strip_suffix(b"/") {
            Some(folder) => drop(omitted.insert(folder.to_vec(), "a repository of its own")),
            None => drop(paths.insert(path.to_vec())),
        }
    }
    Ok(Listing { paths: paths.into_iter().collect(), is_repository: false, omitted, index })
}

/// Whether a skip-worktree file exists nevertheless, as a local change.
fn is_there(root: &Path, path: &Name) -> bool {
    std::fs::symlink_metadata(root.join(OsStr::from_bytes(path))).is_ok()
}

/// Reads `ls-files -z --stage -v`: `TAG MODE OBJECT STAGE\tPATH`.
fn index(text: &[u8]) -> BTreeMap<Name, IndexEntry> {
    let entries = text.split(|byte| *byte == 0).filter_map(|line| {
        let at = line.iter().position(|byte| *byte == b'\t')?;
        let (head, path) = (std::str::from_utf8(&line[..at]).ok()?, &line[at + 1..]);
        let mut words = head.split(' ');
        let tag = words.next()?.chars().next()?;
        let mode = u32::from_str_radix(words.next()?, 8).ok()?;
        let indexed = IndexEntry {
            mode,
            skip_worktree: tag.eq_ignore_ascii_case(&'S'),
            assume_unchanged: tag.is_ascii_lowercase(),
        };
        Some((path.to_vec(), indexed))
    });
    entries.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_that_git_cannot_read_is_not_copied_whole() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("secret"), "s").unwrap();
        assert_eq!(list(folder.path(), &[]).unwrap().paths, [b"secret"]);
        assert_eq!(list(folder.path(), &["sec*".to_owned()]).unwrap().paths, Vec::<Name>::new());
        std::fs::create_dir(folder.path().join(".git")).unwrap();
        assert!(list(folder.path(), &[]).unwrap_err().to_string().contains("git cannot read"));
    }

    #[test]
    fn promise_15_so_many_files_are_listed_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let git = |arguments: &[&str], input: &str| {
            let mut child = std::process::Command::new("git");
            let child = child.arg("-C").arg(folder.path()).args(arguments).stdin(std::process::Stdio::piped());
            let mut child = child.stdout(std::process::Stdio::null()).spawn().unwrap();
            io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
            assert!(child.wait().unwrap().success());
        };
        git(&["init", "-q"], "");
        git(&["hash-object", "-w", "--stdin"], "");
        // An index lists what is not there, too: that is a removal, which the agent sees.
        let empty = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391";
        let entry = |number: usize| format!("100644 {empty} 0\tfolder-{}/{number}\n", number % 100);
        git(&["update-index", "--index-info"], &(0..MAX_FILES).map(entry).collect::<Vec<_>>().concat());
        assert_eq!(list(folder.path(), &[]).unwrap().paths.len(), MAX_FILES);
        git(&["update-index", "--index-info"], &entry(MAX_FILES));
        let why = list(folder.path(), &[]).unwrap_err().to_string();
        assert_eq!(why, format!("there are more than {MAX_FILES} files"));
        assert_eq!(list(folder.path(), &["folder-0".to_owned()]).unwrap().paths.len(), MAX_FILES / 100 * 99);
    }

    #[test]
    fn an_index_is_read_with_its_marks() {
        let text = b"H 100644 1111 0\ta b\0S 100755 1111 0\tsparse\0h 120000 1111 0\tassumed\0s 160000 1111 0\t\xff\0";
        let expected = [
            (&b"a b"[..], 0o100_644, false, false),
            (b"sparse", 0o100_755, true, false),
            (b"assumed", 0o120_000, false, true),
            (b"\xff", 0o160_000, true, true),
        ];
        let expected = expected.map(|(name, mode, skip_worktree, assume_unchanged)| {
            (name.to_vec(), IndexEntry { mode, skip_worktree, assume_unchanged })
        });
        assert_eq!(index(text), BTreeMap::from(expected));
    }
}
