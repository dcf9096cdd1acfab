//! Reads host folders within limits, without following symbolic links.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2, readlinkat};

use super::name::{Name, shown};

/// A folder whose files are opened safely even if it changes meanwhile.
pub(super) struct RootDir(File);

/// The kind of a path.
pub(super) enum FileKind {
    /// A regular file.
    Regular(File, FileInfo),
    /// A link, with its target.
    Link(OsString),
    /// Anything else, or nothing.
    Other,
}

/// A file's metadata.
pub(super) struct FileInfo {
    pub(super) size: u64,
    pub(super) mode: u32,
    /// Seconds since 1970.
    pub(super) modified: u64,
}

impl RootDir {
    pub(super) fn at(folder: &Path) -> io::Result<Self> {
        File::open(folder).map(Self)
    }

    /// Opens a path below the folder without following links.
    pub(super) fn open(&self, path: &(impl AsRef<[u8]> + ?Sized)) -> io::Result<FileKind> {
        use nix::errno::Errno;
        let path = OsStr::from_bytes(path.as_ref());
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", shown(path.as_bytes())));
        let how = |flags: OFlag| {
            let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
            OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve)
        };
        match openat2(&self.0, path, how(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)) {
            Ok(file) => {
                let file = File::from(file);
                let seen = file.metadata()?;
                if !seen.is_file() {
                    return Ok(FileKind::Other);
                }
                let modified = u64::try_from(seen.mtime()).unwrap_or_default();
                Ok(FileKind::Regular(file, FileInfo { size: seen.len(), mode: seen.mode(), modified }))
            }
            // The last component is a link, or an earlier one is; the latter leads out of the folder.
            Err(Errno::ELOOP) => match readlinkat(&self.0, path) {
                Ok(target) if self.is_direct(path) => Ok(FileKind::Link(target)),
                _ => Ok(FileKind::Other),
            },
            // Deleted meanwhile, a socket, or a device without a driver.
            Err(Errno::ENOENT | Errno::ENXIO | Errno::ENODEV | Errno::ENOTDIR) => Ok(FileKind::Other),
            Err(error) => Err(named(error.into())),
        }
    }

    /// Whether no parent folder of a path is a link.
    fn is_direct(&self, path: &OsStr) -> bool {
        let folder = OsStr::from_bytes(super::name::folder(path.as_bytes()));
        if folder.is_empty() {
            return true;
        }
        let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
        openat2(&self.0, folder, OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(resolve)).is_ok()
    }
}

/// Lists everything below a folder except folders, by relative path, sorted. `.git` is skipped.
pub(super) fn walk(root: &Path, max_files: usize) -> io::Result<Vec<String>> {
    let named = |name: Name| {
        String::from_utf8(name).map_err(|error| {
            io::Error::other(format!("the name {} in {} is not UTF-8", shown(error.as_bytes()), root.display()))
        })
    };
    walk_names(root, max_files)?.into_iter().map(named).collect()
}

/// The same for names that may not be UTF-8.
pub(super) fn walk_names(root: &Path, max_files: usize) -> io::Result<Vec<Name>> {
    let (mut found, mut folders) = (Vec::new(), vec![Name::new()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root.join(OsStr::from_bytes(&folder)))? {
            let entry = entry?;
            let name = entry.file_name().into_vec();
            if name == b".git" {
                continue;
            }
            let path = if folder.is_empty() { name } else { [&folder[..], b"/", &name].concat() };
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else {
                found.push(path);
            }
            if found.len() > max_files {
                return Err(io::Error::other(format!("there are more than {max_files} files")));
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Reads all regular files below a folder, by relative path.
///
/// # Errors
/// One is a link or another kind of file, cannot be read, or a limit is exceeded.
pub fn read_files(root: &Path, max_files: usize, max_bytes: usize) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let opened = RootDir::at(root)?;
    let mut left = max_bytes;
    let mut files = BTreeMap::new();
    for path in walk(root, max_files)? {
        let FileKind::Regular(file, _) = opened.open(&path)? else {
            return Err(io::Error::other(format!("{path} is a link or no regular file")));
        };
        let mut content = Vec::new();
        file.take(left as u64 + 1).read_to_end(&mut content)?;
        left = left
            .checked_sub(content.len())
            .ok_or_else(|| io::Error::other(format!("{path}: the files are too large")))?;
        files.insert(path, content);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn project_files_are_no_links_and_bounded() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("hooks.lua"), "return {}").unwrap();
        assert_eq!(read_files(root.path(), 10, 9).unwrap()["hooks.lua"], b"return {}");
        assert!(read_files(root.path(), 10, 8).unwrap_err().to_string().contains("too large"));
        std::os::unix::fs::symlink("/etc/passwd", root.path().join("x.lua")).unwrap();
        assert!(read_files(root.path(), 10, 100).unwrap_err().to_string().contains("x.lua is a link"));
    }

    #[test]
    fn nothing_is_read_through_a_link() {
        let root = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc", root.path().join("etc")).unwrap();
        let opened = RootDir::at(root.path()).unwrap();
        assert!(matches!(opened.open("etc").unwrap(), FileKind::Link(target) if target == "/etc"));
        assert!(matches!(opened.open("etc/passwd").unwrap(), FileKind::Other));
        assert!(matches!(opened.open("etc/mtab").unwrap(), FileKind::Other));
        assert!(matches!(opened.open("none").unwrap(), FileKind::Other));
    }
}
