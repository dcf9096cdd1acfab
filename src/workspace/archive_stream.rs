//! Streams a workspace's seed to a container as a tar archive.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::sync::mpsc;

use super::file::WorkspaceFile;
use super::seed::Seed;

/// Bytes of one chunk.
const CHUNK: usize = 256 << 10;
/// Chunks that are buffered for a slow reader.
const WAITING: usize = 8;

/// An archive of a seed below a path of the container; the agent owns all entries.
pub fn stream(seed: Arc<Seed>, path: &str, owner: (u64, u64)) -> BoxStream<'static, io::Result<Bytes>> {
    let (sender, receiver) = mpsc::channel(WAITING);
    let root = path.trim_matches('/').to_owned();
    crate::task::blocking(move || {
        let to = ChunkWriter { sender: sender.clone(), begun: Vec::with_capacity(CHUNK) };
        // A reader that has stopped reports its own error.
        if let Err(error) = pack(&seed, &root, owner, to) {
            let _ = sender.blocking_send(Err(error));
        }
    });
    futures_util::stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) }).boxed()
}

/// Sends written bytes in chunks.
struct ChunkWriter {
    sender: mpsc::Sender<io::Result<Bytes>>,
    begun: Vec<u8>,
}

impl Write for ChunkWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.begun.extend_from_slice(bytes);
        if self.begun.len() >= CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.begun, Vec::with_capacity(CHUNK));
        let sent = self.sender.blocking_send(Ok(Bytes::from(piece)));
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}

/// An archive that is being written, and the folders that it already contains.
struct Packer<W: Write> {
    tar: tar::Builder<W>,
    folders: BTreeSet<Vec<u8>>,
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

    fn folder(&mut self, path: &[u8]) -> io::Result<()> {
        if !self.folders.insert(path.to_vec()) {
            return Ok(());
        }
        let mut header = self.header(0o755);
        header.set_entry_type(tar::EntryType::Directory);
        let path = [path, b"/"].concat();
        self.tar.append_data(&mut header, OsStr::from_bytes(&path), io::empty())
    }

    /// Appends the parent folders of a path, from the workspace's own on.
    fn folders(&mut self, root: &[u8], path: &[u8]) -> io::Result<()> {
        for (end, _) in path.iter().enumerate().filter(|(at, byte)| **byte == b'/' && *at >= root.len()) {
            self.folder(&path[..end])?;
        }
        Ok(())
    }
}

fn pack(seed: &Seed, root: &str, owner: (u64, u64), to: impl Write) -> io::Result<()> {
    let mut packer = Packer { tar: tar::Builder::new(to), folders: BTreeSet::new(), owner };
    let root = root.as_bytes();
    packer.folder(root)?;
    match seed {
        Seed::Files(files) => {
            for (path, file) in files {
                let path = [root, b"/", path.as_bytes()].concat();
                packer.folders(root, &path)?;
                let path = OsStr::from_bytes(&path);
                match file {
                    WorkspaceFile::Regular { content, executable } => {
                        let mut header = packer.header(if *executable { 0o755 } else { 0o644 });
                        header.set_size(content.len() as u64);
                        packer.tar.append_data(&mut header, path, content.as_slice())?;
                    }
                    WorkspaceFile::Link(target) => {
                        let mut header = packer.header(0o777);
                        header.set_entry_type(tar::EntryType::Symlink);
                        packer.tar.append_link(&mut header, path, target)?;
                    }
                    WorkspaceFile::Large { .. } => {
                        let message = format!("{} is too large to be given to another bottle", path.display());
                        return Err(io::Error::other(message));
                    }
                }
            }
        }
        Seed::Archive(_) | Seed::Temporary(_) => {
            let archive = seed.archive().ok_or_else(|| io::Error::other("it is not an archive"))?;
            for entry in tar::Archive::new(BufReader::with_capacity(1 << 20, File::open(archive)?)).entries()? {
                let entry = entry?;
                let path = [root, b"/", &entry.path_bytes()].concat();
                packer.folders(root, &path)?;
                let kind = entry.header().entry_type();
                if kind.is_dir() {
                    packer.folder(path.strip_suffix(b"/").unwrap_or(&path))?;
                    continue;
                }
                let path = OsStr::from_bytes(&path);
                let mut header = packer.header(entry.header().mode()?);
                header.set_mtime(entry.header().mtime()?);
                if kind.is_symlink() {
                    header.set_entry_type(tar::EntryType::Symlink);
                    let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                    packer.tar.append_link(&mut header, path, OsStr::from_bytes(&target))?;
                } else {
                    header.set_size(entry.size());
                    packer.tar.append_data(&mut header, path, entry)?;
                }
            }
        }
    }
    packer.tar.into_inner()?.flush()
}
