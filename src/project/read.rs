//! Folders of the host, read without following a link and within bounds.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use crate::primitive::workspace::{MAX_BYTES, MAX_FILES};
use crate::primitive::{Files, WorkspaceFile};

/// What a walk finds: paths below the root.
#[derive(Default)]
struct Found {
    regular: Vec<String>,
    links: Vec<String>,
    others: Vec<String>,
}

/// Every regular file below a folder, by its path there.
///
/// # Errors
/// One is a link or no regular file, cannot be read, or the bounds are exceeded.
pub fn read_files(root: &Path, max_files: usize, max_bytes: usize) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let found = walk(root, max_files)?;
    if let Some(path) = found.links.first().or(found.others.first()) {
        return Err(io::Error::other(format!("{path} is a link or no regular file")));
    }
    let opened = File::open(root)?;
    let mut left = max_bytes;
    found.regular.into_iter().map(|path| Ok((path.clone(), read(&opened, &path, &mut left)?.0))).collect()
}

/// What goes into an agent's workspace: regular files, and links as they are; `.git`, pipes and devices are not read.
///
/// # Errors
/// A file cannot be read, or the bounds are exceeded.
pub fn workspace(root: &Path) -> io::Result<Files> {
    let found = walk(root, MAX_FILES)?;
    let opened = File::open(root)?;
    // Room for the archive's own blocks.
    let mut left = MAX_BYTES / 2;
    let mut files = Files::new();
    for path in found.regular {
        let (content, mode) = read(&opened, &path, &mut left)?;
        files.insert(path, WorkspaceFile::Regular { content, executable: mode & 0o111 != 0 });
    }
    for path in found.links {
        let target = std::fs::read_link(root.join(&path))?;
        files.insert(path, WorkspaceFile::Link(target.to_string_lossy().into_owned()));
    }
    Ok(files)
}

fn walk(root: &Path, max_files: usize) -> io::Result<Found> {
    let mut found = Found::default();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root.join(&folder))? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                return Err(io::Error::other(format!("{} is no UTF-8 name", entry.path().display())));
            };
            let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
            let kind = entry.file_type()?;
            if kind.is_dir() && name != ".git" {
                folders.push(path);
            } else if kind.is_file() && name != ".git" {
                found.regular.push(path);
            } else if kind.is_symlink() {
                found.links.push(path);
            } else if name != ".git" {
                found.others.push(path);
            }
            if found.regular.len() + found.links.len() > max_files {
                return Err(io::Error::other(format!("there are more than {max_files} files")));
            }
        }
    }
    Ok(found)
}

/// A file's content and mode. It may have become something else since it was listed: no link is followed.
fn read(root: &File, path: &str, left: &mut usize) -> io::Result<(Vec<u8>, u32)> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{path}: {error}"));
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    let file = File::from(openat2(root, path, how).map_err(|error| named(error.into()))?);
    let seen = file.metadata()?;
    if !seen.is_file() {
        return Err(io::Error::other(format!("{path} is no regular file")));
    }
    let mut content = Vec::new();
    file.take(*left as u64 + 1).read_to_end(&mut content).map_err(named)?;
    *left =
        left.checked_sub(content.len()).ok_or_else(|| io::Error::other(format!("{path}: the files are too large")))?;
    Ok((content, seen.mode()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workspace_keeps_links_and_reads_no_pipe_and_no_git() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join(".git")).unwrap();
        std::fs::write(root.path().join(".git/config"), "x").unwrap();
        std::fs::create_dir(root.path().join("a")).unwrap();
        std::fs::write(root.path().join("a/b.txt"), "b").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.path().join("out")).unwrap();
        nix::unistd::mkfifo(&root.path().join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let files = workspace(root.path()).unwrap();
        assert_eq!(files.keys().collect::<Vec<_>>(), ["a/b.txt", "out"]);
        assert_eq!(files["out"], WorkspaceFile::Link("/etc/passwd".into()));
    }

    #[test]
    fn project_files_are_no_links_and_bounded() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("hooks.lua"), "return {}").unwrap();
        assert_eq!(read_files(root.path(), 10, 9).unwrap()["hooks.lua"], b"return {}");
        assert!(read_files(root.path(), 10, 8).unwrap_err().to_string().contains("too large"));
        std::os::unix::fs::symlink("/etc/passwd", root.path().join("x.lua")).unwrap();
        assert!(read_files(root.path(), 10, 100).unwrap_err().to_string().contains("x.lua is a link"));
    }
}
