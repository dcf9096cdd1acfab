//! Archives of a workspace: out of the seed towards a container, and back from one, in this process and within bounds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::ignored::Ignored;
use super::{Files, MAX_BYTES, MAX_FILE, MAX_FILES, Seed, WorkspaceFile};

/// Bytes that travel at once.
const PIECE: usize = 256 << 10;
/// Pieces that wait for a slow reader.
const WAITING: usize = 8;
/// Most that is read of a repository's references, in bytes a file.
const MAX_REFERENCES: u64 = 16 << 20;
/// Largest `.gitignore` that counts, in bytes.
const MAX_PATTERNS: u64 = 256 << 10;

/// A workspace as an agent left it.
#[derive(Debug, Default)]
pub struct Left {
    /// Its files, without `.git` and what its `.gitignore` files name, unless it was there before.
    pub files: Files,
    /// How much it is, in bytes, all of it.
    pub size: u64,
    /// Where its repository's branches are, and HEAD, by their names; nothing where it has none.
    pub references: BTreeMap<String, String>,
}

/// An archive of a seed, everything in it the agent's own, below a path of the container's.
pub fn stream(seed: Arc<Seed>, path: &str, owner: (u64, u64)) -> BoxStream<'static, io::Result<Bytes>> {
    let (sender, receiver) = mpsc::channel(WAITING);
    let root = path.trim_matches('/').to_owned();
    tokio::task::spawn_blocking(move || {
        let to = Pieces { sender: sender.clone(), begun: Vec::with_capacity(PIECE) };
        // A reader that is gone has its own reason to tell.
        if let Err(error) = pack(&seed, &root, owner, to) {
            let _ = sender.blocking_send(Err(error));
        }
    });
    futures_util::stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) }).boxed()
}

/// Bytes on their way, piece by piece.
struct Pieces {
    sender: mpsc::Sender<io::Result<Bytes>>,
    begun: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.begun.extend_from_slice(bytes);
        if self.begun.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.begun, Vec::with_capacity(PIECE));
        let sent = self.sender.blocking_send(Ok(Bytes::from(piece)));
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}

/// An archive that is being written, with the folders that it has already.
struct Packer<W: Write> {
    tar: tar::Builder<W>,
    folders: BTreeSet<String>,
    owner: (u64, u64),
}

impl<W: Write> Packer<W> {
    fn header(&self, mode: u32) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_uid(self.owner.0);
        header.set_gid(self.owner.1);
        header.set_mode(mode);
        header.set_size(0);
        header.set_mtime(0);
        header
    }

    fn folder(&mut self, path: &str) -> io::Result<()> {
        if !self.folders.insert(path.to_owned()) {
            return Ok(());
        }
        let mut header = self.header(0o755);
        header.set_entry_type(tar::EntryType::Directory);
        self.tar.append_data(&mut header, format!("{path}/"), io::empty())
    }

    /// The folders that a path is in, from the workspace's own on.
    fn folders(&mut self, root: &str, path: &str) -> io::Result<()> {
        for (end, _) in path.match_indices('/') {
            if end >= root.len() {
                self.folder(&path[..end])?;
            }
        }
        Ok(())
    }
}

fn pack(seed: &Seed, root: &str, owner: (u64, u64), to: impl Write) -> io::Result<()> {
    let mut packer = Packer { tar: tar::Builder::new(to), folders: BTreeSet::new(), owner };
    packer.folder(root)?;
    match seed {
        Seed::Files(files) => {
            for (path, file) in files {
                let path = format!("{root}/{path}");
                packer.folders(root, &path)?;
                match file {
                    WorkspaceFile::Regular { content, executable } => {
                        let mut header = packer.header(if *executable { 0o755 } else { 0o644 });
                        header.set_size(content.len() as u64);
                        packer.tar.append_data(&mut header, &path, content.as_slice())?;
                    }
                    WorkspaceFile::Link(target) => {
                        let mut header = packer.header(0o777);
                        header.set_entry_type(tar::EntryType::Symlink);
                        packer.tar.append_link(&mut header, &path, target)?;
                    }
                    WorkspaceFile::Large { .. } => {
                        let message = format!("{path} is too large to be given to another bottle");
                        return Err(io::Error::other(message));
                    }
                }
            }
        }
        Seed::Archive(archive) => {
            for entry in tar::Archive::new(BufReader::with_capacity(1 << 20, File::open(archive)?)).entries()? {
                let entry = entry?;
                let path = format!("{root}/{}", entry.path()?.to_string_lossy());
                packer.folders(root, &path)?;
                let kind = entry.header().entry_type();
                if kind.is_dir() {
                    packer.folder(path.trim_end_matches('/'))?;
                    continue;
                }
                let mut header = packer.header(entry.header().mode()?);
                header.set_mtime(entry.header().mtime()?);
                if kind.is_symlink() {
                    header.set_entry_type(tar::EntryType::Symlink);
                    let target = entry.link_name()?.unwrap_or_default().into_owned();
                    packer.tar.append_link(&mut header, &path, target)?;
                } else {
                    header.set_size(entry.size());
                    packer.tar.append_data(&mut header, &path, entry)?;
                }
            }
        }
    }
    packer.tar.into_inner()?.flush()
}

/// Reads an archive of a workspace that is below `root` in it. What its `.gitignore` files name is passed over, unless it
/// was there `before`.
///
/// # Errors
/// It is malformed, or holds more than the bounds allow.
pub fn read(archive: &Path, root: &str, before: Option<&Files>) -> io::Result<Left> {
    let mut ignored = Ignored::default();
    let mut left = Left::default();
    each(archive, root, |path, entry| {
        left.size = left.size.saturating_add(entry.size());
        if let Some(name) = path.strip_prefix(".git/") {
            return note_reference(name, entry, &mut left.references);
        }
        if before.is_some() && path.rsplit('/').next() == Some(".gitignore") && entry.size() <= MAX_PATTERNS {
            let mut text = Vec::new();
            entry.read_to_end(&mut text)?;
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            ignored.add(folder, &String::from_utf8_lossy(&text));
        }
        Ok(())
    })?;
    let mut space = MAX_BYTES;
    each(archive, root, |path, entry| {
        let kind = entry.header().entry_type();
        let known = before.is_none_or(|before| before.contains_key(path));
        if path.split('/').any(|part| part == ".git") || !known && ignored.has(path) {
            return Ok(());
        }
        if kind.is_file() {
            let executable = entry.header().mode()? & 0o111 != 0;
            let file = regular(entry, executable, &mut space)?;
            left.files.insert(path.to_owned(), file);
        } else if kind.is_symlink() {
            let target = entry.link_name()?.unwrap_or_default().to_string_lossy().into_owned();
            left.files.insert(path.to_owned(), WorkspaceFile::Link(target));
        }
        if left.files.len() > MAX_FILES {
            return Err(io::Error::other(format!("there are more than {MAX_FILES} files")));
        }
        Ok(())
    })?;
    Ok(left)
}

/// Notes a reference of a repository, if a file below `.git` is one, or holds some (gitrepository-layout(5)).
pub(super) fn note_reference(
    name: &str,
    entry: &mut impl Read,
    known: &mut BTreeMap<String, String>,
) -> io::Result<()> {
    let is_branch = name == "HEAD" || name.starts_with("refs/heads/");
    if !is_branch && name != "packed-refs" {
        return Ok(());
    }
    let mut text = Vec::new();
    entry.take(MAX_REFERENCES).read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    if is_branch {
        known.insert(name.to_owned(), text.trim().to_owned());
        return Ok(());
    }
    for (commit, name) in text.lines().filter_map(|line| line.split_once(' ')) {
        if name.starts_with("refs/heads/") {
            // One in a file of its own is newer.
            known.entry(name.to_owned()).or_insert_with(|| commit.to_owned());
        }
    }
    Ok(())
}

fn regular(entry: &mut impl Read, executable: bool, space: &mut usize) -> io::Result<WorkspaceFile> {
    let mut content = Vec::new();
    let most = MAX_FILE.min(*space as u64);
    entry.by_ref().take(most).read_to_end(&mut content)?;
    let mut rest = [0_u8; 8192];
    let mut count = entry.read(&mut rest)?;
    if count == 0 {
        *space -= content.len();
        return Ok(WorkspaceFile::Regular { content, executable });
    }
    let mut hash = Sha256::new().chain_update(&content);
    let mut size = content.len() as u64;
    while count > 0 {
        hash.update(&rest[..count]);
        size += count as u64;
        count = entry.read(&mut rest)?;
    }
    let digest = data_encoding::HEXLOWER.encode(&hash.finalize());
    Ok(WorkspaceFile::Large { size, digest, executable })
}

/// Looks at every entry below a root, by its path there. A path that leads elsewhere is none.
pub(super) fn each(
    archive: &Path,
    root: &str,
    mut look: impl FnMut(&str, &mut tar::Entry<'_, BufReader<File>>) -> io::Result<()>,
) -> io::Result<()> {
    let root = root.trim_matches('/').rsplit('/').next().unwrap_or_default();
    for entry in tar::Archive::new(BufReader::with_capacity(1 << 20, File::open(archive)?)).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.to_string_lossy().into_owned();
        let below = if root.is_empty() {
            Some(path.as_str())
        } else {
            path.strip_prefix(root).and_then(|rest| rest.strip_prefix('/'))
        };
        let Some(below) = below.map(|path| path.strip_suffix('/').unwrap_or(path)) else { continue };
        if below.is_empty() || below.split('/').any(|part| matches!(part, "" | "." | "..")) {
            continue;
        }
        let below = below.to_owned();
        look(&below, &mut entry)?;
    }
    Ok(())
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

    #[test]
    fn only_files_and_links_below_the_workspace_are_read() {
        use tar::EntryType::{Block, Directory, Fifo, Link, Regular, Symlink};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("left.tar");
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
                ("workspace/hard", Link, "/etc/passwd"),
                ("workspace/pipe", Fifo, ""),
                ("workspace/disk", Block, ""),
                ("workspace/.git/config", Regular, "[core]"),
                ("workspace/.git/HEAD", Regular, "ref: refs/heads/a\n"),
                ("workspace/sub/.git/config", Regular, "[core]"),
                ("workspace/.gitignore", Regular, "*.log\n"),
                ("workspace/new.log", Regular, "x"),
                ("workspace/old.log", Regular, "x"),
            ],
        );
        let before = Files::from([("old.log".to_owned(), WorkspaceFile::Link("x".into()))]);
        let left = read(&path, "/workspace", Some(&before)).unwrap();
        assert_eq!(left.files.keys().collect::<Vec<_>>(), [".gitignore", "a", "link", "old.log"]);
        assert_eq!(left.references, BTreeMap::from([("HEAD".to_owned(), "ref: refs/heads/a".to_owned())]));
        assert_eq!(left.files["link"], WorkspaceFile::Link("/etc/passwd".into()));
    }

    #[test]
    fn what_is_too_large_to_hold_is_known_by_its_digest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("left.tar");
        let mut space = 4;
        let small = regular(&mut &b"1234"[..], false, &mut space).unwrap();
        assert_eq!(small, WorkspaceFile::Regular { content: b"1234".to_vec(), executable: false });
        let large = regular(&mut &b"12345"[..], true, &mut space).unwrap();
        assert!(matches!(large, WorkspaceFile::Large { size: 5, executable: true, .. }), "{large:?}");
        std::fs::write(&path, b"no archive at all").unwrap();
        assert!(read(&path, "workspace", None).is_err());
    }
}
