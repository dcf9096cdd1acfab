//! The seed of a workspace: the copy of a host folder that an agent starts with. With git, it contains the files that
//! are tracked or not ignored, and a repository with the same history, without settings, hooks and credentials.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::archive_reader::read_at;
use super::clone::clone;
use super::file::{Files, MAX_ARCHIVE};
use super::git::Git;
use super::listing::{GITLINK, list};
use super::name::shown;
use super::snapshot::Snapshot;
use super::walk::{FileKind, RootDir, walk};

/// The size of what precedes a file in an archive, in bytes (POSIX ustar).
const HEADER: u64 = 512;

/// The initial content of a workspace.
#[derive(Debug)]
pub enum Seed {
    /// Files in memory.
    Files(Files),
    /// An archive on this disk.
    Archive(PathBuf),
    /// An archive that is removed when dropped.
    Temporary(TemporaryFile),
}

/// A file that is removed when dropped.
#[derive(Debug)]
pub struct TemporaryFile(PathBuf);

impl TemporaryFile {
    /// A file, which may not exist yet.
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Seed {
    /// Reads its content as a snapshot.
    ///
    /// # Errors
    /// The archive cannot be read, or is truncated.
    pub fn read(&self) -> io::Result<Snapshot> {
        match self {
            Self::Files(files) => Ok(Snapshot::of(files)),
            Self::Archive(path) | Self::Temporary(TemporaryFile(path)) => read_at(path, "", None),
        }
    }

    /// The path of its archive, if it is one.
    pub fn archive(&self) -> Option<&Path> {
        match self {
            Self::Files(_) => None,
            Self::Archive(path) | Self::Temporary(TemporaryFile(path)) => Some(path),
        }
    }
}

/// Copies a folder into an archive, which is synchronised to the disk before this returns. `staging` is a temporary
/// folder of bottler, which is left empty.
///
/// # Errors
/// Something cannot be read or written.
pub fn copy(root: &Path, exclude: &[String], staging: &Path, archive: &Path) -> io::Result<()> {
    let listing = list(root, exclude)?;
    // If git ignores file modes here, take them from its index.
    let modes = listing.is_repository
        && Git::at(root).line(&["config", "--type=bool", "core.fileMode"]).as_deref() == Some("false");
    let repository = staging.join("repository.git");
    let file = std::thread::scope(|scope| {
        let clone = listing.is_repository.then(|| scope.spawn(|| clone(root, &repository, &listing)));
        let mut tar = tar::Builder::new(create_private(archive)?);
        let mut left = MAX_ARCHIVE;
        let opened = RootDir::at(root)?;
        for path in &listing.paths {
            let executable = modes.then(|| listing.index.get(path).is_some_and(|indexed| indexed.mode & 0o111 != 0));
            append(&mut tar, &opened, (path, path), executable, &mut left)?;
        }
        // git takes the absence of a submodule's folder for a removal.
        for (path, _) in listing.index.iter().filter(|(_, indexed)| indexed.mode == GITLINK && !indexed.skip_worktree) {
            folder(&mut tar, path)?;
        }
        if let Some(clone) = clone {
            clone.join().map_err(|_| io::Error::other("the thread panicked"))??;
            let opened = RootDir::at(&repository)?;
            for path in walk(&repository, usize::MAX)? {
                let name = format!(".git/{path}");
                append(&mut tar, &opened, (path.as_bytes(), name.as_bytes()), None, &mut left)?;
            }
            // git only recognises a repository that has these two folders.
            folder(&mut tar, b".git/refs")?;
            folder(&mut tar, b".git/objects")?;
            std::fs::remove_dir_all(&repository)?;
        }
        tar.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)
    })?;
    file.sync_all()
}

/// Creates a file that only this user can read, with a buffered writer.
///
/// # Errors
/// It cannot be created.
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

/// Appends a regular file or a link, with its path and its name in the archive. Pipes, sockets, devices and deleted files
/// are skipped. What is `left` is the rest of an archive that can be read again: a larger one could not be brought back.
pub(super) fn append(
    tar: &mut tar::Builder<impl Write>,
    from: &RootDir,
    (path, name): (&[u8], &[u8]),
    executable: Option<bool>,
    left: &mut u64,
) -> io::Result<()> {
    let is_too_large = || {
        let most = MAX_ARCHIVE >> 30;
        io::Error::other(format!(
            "{}: with it the workspace has more than {most} GiB; exclude what is large",
            shown(name)
        ))
    };
    let name = OsStr::from_bytes(name);
    let mut header = tar::Header::new_gnu();
    match from.open(path)? {
        FileKind::Regular(file, seen) => {
            *left = left.checked_sub(seen.size.saturating_add(HEADER)).ok_or_else(is_too_large)?;
            header.set_size(seen.size);
            header.set_mode(if executable.unwrap_or(seen.mode & 0o111 != 0) { 0o755 } else { 0o644 });
            header.set_mtime(seen.modified);
            // Pad or cut a file that changes meanwhile to its first size, so that the archive stays valid.
            let content = io::Read::take(io::Read::chain(file, io::repeat(0)), seen.size);
            tar.append_data(&mut header, name, content)
        }
        FileKind::Link(target) => {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            header.set_mode(0o777);
            header.set_mtime(0);
            tar.append_link(&mut header, name, target)
        }
        FileKind::Other => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promise_15_what_could_not_be_read_back_is_not_copied() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("project/images")).unwrap();
        std::fs::create_dir_all(at("staging")).unwrap();
        std::fs::write(at("project/a"), "a").unwrap();
        // It takes no space.
        File::create(at("project/images/disk")).unwrap().set_len(MAX_ARCHIVE - HEADER).unwrap();
        let made = |exclude: &[&str]| {
            let exclude: Vec<String> = exclude.iter().map(|word| (*word).to_owned()).collect();
            copy(&at("project"), &exclude, &at("staging"), &at("seed.tar"))
        };
        let why = made(&[]).unwrap_err().to_string();
        assert_eq!(why, "images/disk: with it the workspace has more than 16 GiB; exclude what is large");
        assert!(std::fs::metadata(at("seed.tar")).unwrap().len() < 1 << 20, "nothing of it was written");
        made(&["images"]).unwrap();
        assert_eq!(Seed::Archive(at("seed.tar")).read().unwrap().files.len(), 1);
        // At the limit.
        let mut left = MAX_ARCHIVE;
        let mut tar = tar::Builder::new(io::sink());
        File::create(at("project/images/disk")).unwrap().set_len(8 << 20).unwrap();
        let opened = RootDir::at(&at("project")).unwrap();
        for most in [HEADER + (8 << 20), HEADER + (8 << 20) - 1] {
            left = left.min(most);
            let done = append(&mut tar, &opened, (b"images/disk", b"images/disk"), None, &mut left);
            assert_eq!(done.is_ok(), most == HEADER + (8 << 20));
            left = MAX_ARCHIVE;
        }
    }
}
