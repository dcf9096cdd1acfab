//! A folder of the host as an agent gets it: with git, what is tracked or not ignored, and a repository of its own that
//! has the same history and none of its settings, hooks and credentials.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::clone::clone;
use super::git::Git;
use super::ignored::Ignored;
use super::name::Name;
use super::reading::read_at;
use super::snapshot::Snapshot;
use super::walk::{Kind, Opened, walk, walk_names};
use super::{Files, MAX_FILES};

/// What a workspace begins with.
#[derive(Debug)]
pub enum Seed {
    /// Files in memory.
    Files(Files),
    /// An archive on this disk.
    Archive(PathBuf),
    /// One that is removed when nobody needs it any more.
    Temporary(Temporary),
}

/// A file that is removed with this.
#[derive(Debug)]
pub struct Temporary(PathBuf);

impl Temporary {
    /// A file that need not be there yet.
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Seed {
    /// What is in it.
    ///
    /// # Errors
    /// The archive cannot be read, or is not whole.
    pub fn read(&self) -> io::Result<Snapshot> {
        match self {
            Self::Files(files) => Ok(Snapshot::of(files)),
            Self::Archive(path) | Self::Temporary(Temporary(path)) => read_at(path, "", None),
        }
    }

    /// The archive that it is, where it is one.
    pub fn archive(&self) -> Option<&Path> {
        match self {
            Self::Files(_) => None,
            Self::Archive(path) | Self::Temporary(Temporary(path)) => Some(path),
        }
    }
}

/// A path that git's index has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Indexed {
    /// 100644, 100755, 120000, or 160000 for a commit of another repository.
    pub(super) mode: u32,
    /// It is not checked out (`skip-worktree`).
    pub(super) absent: bool,
    /// What differs from it is not looked at (`assume-unchanged`).
    pub(super) assumed: bool,
}

/// The mode of a commit of another repository: of a submodule.
pub(super) const GITLINK: u32 = 0o160_000;

/// What of a folder would be copied.
#[derive(Debug, Default)]
pub struct Listing {
    /// The paths of files and links.
    pub paths: Vec<Name>,
    /// Whether there is a repository with this folder as its top.
    pub is_repository: bool,
    /// Folders that are left out, and what they are.
    pub left_out: BTreeMap<Name, &'static str>,
    pub(super) index: BTreeMap<Name, Indexed>,
}

/// Looks at what would be copied.
///
/// # Errors
/// The folder cannot be read, or holds too many files.
pub fn list(root: &Path, exclude: &[String]) -> io::Result<Listing> {
    if !std::fs::metadata(root)?.is_dir() {
        return Err(io::Error::other("it is no folder"));
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
            // Copied whole, it would bring along what git is told to leave alone.
            let why = git.run(&["rev-parse", "--show-toplevel"]).err();
            let mut why = why.map_or_else(|| "git does not say where it begins".to_owned(), |error| error.to_string());
            if why.to_lowercase().contains("refstorage") {
                why.push_str(": its references are in tables, which git 2.45 and newer reads");
            }
            return Err(io::Error::other(format!("there is a repository that git cannot read: {why}")));
        }
        None => Listing { paths: walk_names(root, MAX_FILES)?, ..Listing::default() },
    };
    let mut excluded = Ignored::default();
    excluded.add(b"", exclude.join("\n").as_bytes());
    listing.paths.retain(|path| !excluded.has(path));
    listing.left_out.retain(|path, _| !excluded.has(path));
    if listing.paths.len() > MAX_FILES {
        return Err(io::Error::other(format!("there are more than {MAX_FILES} files")));
    }
    Ok(listing)
}

/// What git tracks, and what is not ignored.
fn tracked(root: &Path, git: &Git<'_>) -> io::Result<Listing> {
    let index = index(&git.run(&["ls-files", "-z", "--cached", "--stage", "-v"])?);
    let others = git.run(&["ls-files", "-z", "--others", "--exclude-standard"])?;
    let mut paths = BTreeSet::new();
    let mut left_out = BTreeMap::new();
    for (path, indexed) in &index {
        if indexed.mode == GITLINK {
            left_out.insert(path.clone(), "a submodule");
        } else if !indexed.absent || is_there(root, path) {
            paths.insert(path.clone());
        }
    }
    for path in others.split(|byte| *byte == 0).filter(|path| !path.is_empty()) {
        // A repository inside that git does not follow is named with its folder.
        match path.strip_suffix(b"/") {
            Some(folder) => drop(left_out.insert(folder.to_vec(), "a repository of its own")),
            None => drop(paths.insert(path.to_vec())),
        }
    }
    Ok(Listing { paths: paths.into_iter().collect(), is_repository: false, left_out, index })
}

/// Whether a file is there that git is told to pass over (`skip-worktree`): changed for this machine alone.
fn is_there(root: &Path, path: &Name) -> bool {
    std::fs::symlink_metadata(root.join(OsStr::from_bytes(path))).is_ok()
}

/// Reads `ls-files -z --stage -v`: `TAG MODE OBJECT STAGE\tPATH`.
fn index(text: &[u8]) -> BTreeMap<Name, Indexed> {
    let entries = text.split(|byte| *byte == 0).filter_map(|line| {
        let at = line.iter().position(|byte| *byte == b'\t')?;
        let (head, path) = (std::str::from_utf8(&line[..at]).ok()?, &line[at + 1..]);
        let mut words = head.split(' ');
        let tag = words.next()?.chars().next()?;
        let mode = u32::from_str_radix(words.next()?, 8).ok()?;
        let indexed = Indexed { mode, absent: tag.eq_ignore_ascii_case(&'S'), assumed: tag.is_ascii_lowercase() };
        Some((path.to_vec(), indexed))
    });
    entries.collect()
}

/// Copies a folder into an archive, which is on the disk when this returns. `staging` is a folder of bottler's own for what
/// is in between; it is left empty.
///
/// # Errors
/// Something cannot be read or written.
pub fn copy(root: &Path, exclude: &[String], staging: &Path, archive: &Path) -> io::Result<()> {
    let listing = list(root, exclude)?;
    // Where git does not go by the modes of files here, the modes are those of its index.
    let modes = listing.is_repository
        && Git::at(root).line(&["config", "--type=bool", "core.fileMode"]).as_deref() == Some("false");
    let repository = staging.join("repository.git");
    let file = std::thread::scope(|scope| {
        let clone = listing.is_repository.then(|| scope.spawn(|| clone(root, &repository, &listing)));
        let mut tar = tar::Builder::new(create_private(archive)?);
        let opened = Opened::at(root)?;
        for path in &listing.paths {
            let executable = modes.then(|| listing.index.get(path).is_some_and(|indexed| indexed.mode & 0o111 != 0));
            append(&mut tar, &opened, path, path, executable)?;
        }
        // git takes the folder of a submodule that is not there for a removal.
        for (path, _) in listing.index.iter().filter(|(_, indexed)| indexed.mode == GITLINK && !indexed.absent) {
            folder(&mut tar, path)?;
        }
        if let Some(clone) = clone {
            clone.join().map_err(|_| io::Error::other("it was cut short"))??;
            let opened = Opened::at(&repository)?;
            for path in walk(&repository, usize::MAX)? {
                append(&mut tar, &opened, path.as_bytes(), format!(".git/{path}").as_bytes(), None)?;
            }
            // git does not take a folder for a repository without these two.
            folder(&mut tar, b".git/refs")?;
            folder(&mut tar, b".git/objects")?;
            std::fs::remove_dir_all(&repository)?;
        }
        tar.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)
    })?;
    file.sync_all()
}

/// Makes a file that only its user can read, for what is large.
///
/// # Errors
/// It cannot be made.
pub fn create_private(path: &Path) -> io::Result<BufWriter<File>> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    Ok(BufWriter::with_capacity(1 << 20, file))
}

pub(super) fn folder(tar: &mut tar::Builder<impl Write>, name: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_size(0);
    header.set_mode(0o755);
    header.set_mtime(0);
    let name = [name, b"/"].concat();
    tar.append_data(&mut header, OsStr::from_bytes(&name), io::empty())
}

/// Appends a regular file or a link; pipes, sockets, devices and what has gone meanwhile are passed over.
pub(super) fn append(
    tar: &mut tar::Builder<impl Write>,
    from: &Opened,
    path: &[u8],
    name: &[u8],
    executable: Option<bool>,
) -> io::Result<()> {
    let name = OsStr::from_bytes(name);
    let mut header = tar::Header::new_gnu();
    match from.look(path)? {
        Kind::Regular(file, seen) => {
            header.set_size(seen.size);
            header.set_mode(if executable.unwrap_or(seen.mode & 0o111 != 0) { 0o755 } else { 0o644 });
            header.set_mtime(seen.modified);
            // A file that grows or shrinks meanwhile has the size that it had: an archive is whole or none.
            let content = io::Read::take(io::Read::chain(file, io::repeat(0)), seen.size);
            tar.append_data(&mut header, name, content)
        }
        Kind::Link(target) => {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            header.set_mode(0o777);
            header.set_mtime(0);
            tar.append_link(&mut header, name, target)
        }
        Kind::Other => Ok(()),
    }
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
    fn an_index_is_read_with_its_marks() {
        let text = b"H 100644 1111 0\ta b\0S 100755 1111 0\tsparse\0h 120000 1111 0\tassumed\0s 160000 1111 0\t\xff\0";
        let expected = [
            (&b"a b"[..], 0o100_644, false, false),
            (b"sparse", 0o100_755, true, false),
            (b"assumed", 0o120_000, false, true),
            (b"\xff", 0o160_000, true, true),
        ];
        let expected = expected.map(|(name, mode, absent, assumed)| (name.to_vec(), Indexed { mode, absent, assumed }));
        assert_eq!(index(text), BTreeMap::from(expected));
    }
}
