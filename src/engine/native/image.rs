//! Images as folders: the files of an archive, and what the engine must know of them.
//!
//! Attacks: an archive is not trusted. A path that leaves the folder, through `..` or a link, is refused by the unpacker;
//! device nodes and extended attributes are left out, so that an `overlay` attribute in an image means nothing (CVE-2023-0386).

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::engine::ImageLayer;

/// Numbers of a user and a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Account {
    pub(super) user: u32,
    pub(super) group: u32,
}

/// What the engine keeps of an image beside its files.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Config {
    pub(super) labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) env: BTreeMap<String, String>,
    /// Folders with their owners and modes, as the archive has them: with one user, the file system cannot say.
    pub(super) folders: Vec<Folder>,
    /// Bytes of all files.
    pub(super) size: i64,
}

/// A folder of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Folder {
    /// Absolute.
    pub(super) path: String,
    pub(super) account: Account,
    pub(super) mode: u32,
}

impl Config {
    /// The folders that a user may write: its own, and everybody's.
    pub(super) fn writable_by(&self, account: Account) -> Vec<String> {
        let may = |folder: &&Folder| folder.account.user == account.user || folder.mode & 0o002 != 0;
        let own: Vec<&Folder> = self.folders.iter().filter(may).collect();
        let outermost = |folder: &&&Folder| {
            !own.iter()
                .any(|other| Path::new(&folder.path).strip_prefix(&other.path).is_ok_and(|rest| rest != Path::new("")))
        };
        own.iter().filter(outermost).map(|folder| folder.path.clone()).collect()
    }

    /// Adds what an entry of the image's archive says.
    fn note<R: Read>(&mut self, entry: &tar::Entry<'_, R>) -> io::Result<()> {
        let header = entry.header();
        match header.entry_type() {
            tar::EntryType::Directory => {
                let number = |value: u64| u32::try_from(value).map_err(io::Error::other);
                let account = Account { user: number(header.uid()?)?, group: number(header.gid()?)? };
                let path = PathBuf::from("/").join(entry.path()?);
                let path = path.to_string_lossy().trim_end_matches('/').to_owned();
                self.folders.push(Folder { path, account, mode: header.mode()? });
            }
            tar::EntryType::Regular => self.size += i64::try_from(entry.size()).unwrap_or(i64::MAX),
            _ => {}
        }
        Ok(())
    }

    /// The folders that are not root's.
    pub(super) fn owned(&self) -> Vec<Folder> {
        let owned = |folder: &&Folder| folder.account != Account { user: 0, group: 0 };
        self.folders.iter().filter(owned).cloned().collect()
    }

    /// The owner and mode of a folder.
    pub(super) fn folder(&self, path: &str) -> Option<&Folder> {
        self.folders.iter().find(|folder| folder.path == path)
    }
}

/// What an archive says of its image, read without unpacking it.
///
/// # Errors
/// It is not a tar archive.
pub(super) fn config(tar: impl Read) -> io::Result<Config> {
    let mut config = Config::default();
    for entry in tar::Archive::new(tar).entries()? {
        config.note(&entry?)?;
    }
    Ok(config)
}

/// The SHA-256 of a file of an archive, in hexadecimal, where it has one at this absolute path.
///
/// # Errors
/// It is not a tar archive.
pub(super) fn digest_of(tar: impl Read, path: &str) -> io::Result<Option<String>> {
    for entry in tar::Archive::new(tar).entries()? {
        let mut entry = entry?;
        if Path::new("/").join(entry.path()?) == Path::new(path) && entry.header().entry_type().is_file() {
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            return Ok(Some(HEXLOWER.encode(&Sha256::digest(&content))));
        }
    }
    Ok(None)
}

/// Unpacks an archive into an empty folder. `owners` is whether files get the owners that the archive names.
///
/// # Errors
/// It is not a tar archive, or a file cannot be written.
pub(super) fn unpack(tar: impl Read, into: &Path, owners: bool) -> io::Result<Config> {
    let mut archive = tar::Archive::new(tar);
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(owners);
    archive.set_unpack_xattrs(false);
    let mut config = Config::default();
    let mut folders = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        config.note(&entry)?;
        match entry.header().entry_type() {
            tar::EntryType::Directory => {
                folders.push(entry);
                continue;
            }
            tar::EntryType::Block | tar::EntryType::Char | tar::EntryType::Fifo => continue,
            _ => {}
        }
        let path = PathBuf::from("/").join(entry.path()?);
        if !entry.unpack_in(into)? {
            return Err(io::Error::other(format!("{}: the path leads out of the image", path.display())));
        }
    }
    // Last, so that a folder's own mode does not keep its files out; the deepest first.
    for mut folder in folders.into_iter().rev() {
        if !folder.unpack_in(into)? {
            return Err(io::Error::other("a folder's path leads out of the image"));
        }
    }
    Ok(config)
}

/// Packs a file or folder as an archive whose entries begin with its last step, as `docker cp` does. A link is followed where
/// `path` itself is one, and kept elsewhere.
///
/// # Errors
/// It is not there, or cannot be read.
pub(super) fn pack(path: &Path, to: impl io::Write) -> io::Result<()> {
    let name = path.file_name().map_or_else(|| Path::new("."), Path::new).to_owned();
    let path = path.canonicalize()?;
    let mut archive = tar::Builder::new(to);
    archive.follow_symlinks(false);
    append(&mut archive, &name, &path)?;
    archive.into_inner()?.flush()
}

/// Adds a file, or a folder with all that is in it. A socket is left out: an archive has none.
fn append(archive: &mut tar::Builder<impl io::Write>, name: &Path, path: &Path) -> io::Result<()> {
    let at = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let kind = std::fs::symlink_metadata(path).map_err(at)?.file_type();
    if kind.is_socket() {
        return Ok(());
    }
    if kind.is_fifo() {
        let mut header = tar::Header::new_gnu();
        header.set_metadata(&std::fs::symlink_metadata(path).map_err(at)?);
        header.set_entry_type(tar::EntryType::Fifo);
        header.set_size(0);
        return archive.append_data(&mut header, name, io::empty()).map_err(at);
    }
    if !kind.is_dir() {
        return archive.append_path_with_name(path, name).map_err(at);
    }
    archive.append_dir(name, path).map_err(at)?;
    let mut entries = std::fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(at)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    entries.iter().try_for_each(|entry| append(archive, &name.join(entry.file_name()), &entry.path()))
}

/// The id of an image: its content's.
pub(super) fn id(layer: &ImageLayer) -> String {
    let mut digest = Sha256::new_with_prefix(&layer.tar);
    for (name, value) in &layer.labels {
        digest.update(name);
        digest.update([0]);
        digest.update(value);
        digest.update([0]);
    }
    HEXLOWER.encode(&digest.finalize())[..32].to_owned()
}
