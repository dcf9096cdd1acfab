//! The executable that holders, shims and first processes start from: a copy in the store, which no user edits (CVE-2019-5736), and
//! which images have as well, so that its pages are in memory once.
//!
//! In an image nobody may read it, so that the kernel lets nobody trace who executes it. It is in the lower layer of an overlay:
//! nothing in a container can write it.
//!
//! On the host a disk or a hand can damage it. A launch starts from no copy whose size, time of change or mode is not what it was:
//! it makes another one, and gives that to the images that share the damaged one.

use std::fs::Permissions;
use std::io::{ErrorKind as Io, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::store::remove_tree;
use super::{NativeEngine, image};
use crate::host::{loadable, make_private};
use crate::layout::EXECUTABLE;

/// The file beside the copy that has its digest.
const DIGEST: &str = "digest";
/// The file beside the copy that has its [`stamp`].
const STAMP: &str = "stamp";

impl NativeEngine {
    /// A copy of this executable that no user edits, for holders, shims and first processes to start from.
    pub(super) fn executable(&self) -> std::io::Result<PathBuf> {
        if let Some(path) = self.running_copy().filter(|path| path.is_file()) {
            return Ok(path);
        }
        let folder = self.root.join("executables");
        let named = |path: &Path, error: std::io::Error| {
            std::io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        };
        let own = std::fs::metadata(&self.executable).map_err(|error| named(&self.executable, error))?;
        let key = format!("{:x}-{:x}-{:x}-{:x}", own.dev(), own.ino(), own.len(), own.mtime_nsec() ^ own.mtime());
        let path = folder.join(&key).join("bottler");
        if is_intact(&path) {
            return Ok(path);
        }
        self.copy_executable(&folder, &key).map_err(|error| named(&path, error))?;
        Ok(path)
    }

    /// Makes the copy, in place of all others.
    fn copy_executable(&self, folder: &Path, key: &str) -> std::io::Result<()> {
        make_private(folder)?;
        let path = folder.join(key).join("bottler");
        let damaged = std::fs::metadata(&path).ok();
        remove_tree(&folder.join(key))?;
        let old: Vec<PathBuf> = std::fs::read_dir(folder)?.flatten().map(|entry| entry.path()).collect();
        let made = self.store.create(&folder.join(key), |new| {
            let content = loadable(&self.executable).map_err(|error| std::io::Error::other(format!("{error:#}")))?;
            let digest = HEXLOWER.encode(&Sha256::digest(&content));
            for (name, content, mode) in [("bottler", content, 0o500), (DIGEST, digest.into(), 0o400)] {
                let path = new.join(name);
                let mut file = std::fs::File::create(&path)?;
                file.write_all(&content)?;
                file.sync_all()?;
                std::fs::set_permissions(&path, Permissions::from_mode(mode))?;
            }
            std::fs::write(new.join(STAMP), stamp(&std::fs::metadata(new.join("bottler"))?))
        });
        match made {
            Err(error) if error.kind() == Io::AlreadyExists => {}
            made => made?,
        }
        if let Some(damaged) = damaged {
            for image in self.store.images() {
                let theirs = in_image(&image.join("files"));
                let Ok(found) = std::fs::symlink_metadata(&theirs) else { continue };
                if (found.dev(), found.ino()) == (damaged.dev(), damaged.ino()) {
                    replace(&theirs, &path, Permissions::from_mode(found.mode() & 0o777 | 0o111))?;
                }
            }
        }
        // Processes that run from an older copy keep it.
        old.iter().try_for_each(|old| remove_tree(old))
    }

    /// The digest of the running executable, if it is the copy.
    pub(super) fn own_digest(&self) -> Option<String> {
        std::fs::read_to_string(self.running_copy()?.with_file_name(DIGEST)).ok()
    }

    /// What runs, if it is a copy of this store.
    fn running_copy(&self) -> Option<PathBuf> {
        let own = std::fs::read_link(&self.executable).ok()?;
        own.starts_with(self.root.join("executables").canonicalize().ok()?).then_some(own)
    }

    /// Gives an image the copy in place of its own executable, where that is the same. It gets the image's mode.
    pub(super) fn share(tar: &[u8], files: &Path, ours: &Path) -> std::io::Result<()> {
        let theirs = in_image(files);
        let Ok(digest) = std::fs::read_to_string(ours.with_file_name(DIGEST)) else { return Ok(()) };
        if image::digest_of(tar, EXECUTABLE)?.as_deref() != Some(&digest) {
            return Ok(());
        }
        let (own, found) = (std::fs::metadata(ours)?, std::fs::symlink_metadata(&theirs)?);
        if found.is_file() && own.uid() == found.uid() {
            replace(&theirs, ours, found.permissions())?;
        }
        Ok(())
    }
}

/// Puts a file in the place of another one, if they can be one file.
fn replace(theirs: &Path, ours: &Path, permissions: Permissions) -> std::io::Result<()> {
    let beside = theirs.with_extension("shared");
    if std::fs::hard_link(ours, &beside).is_err() {
        return Ok(());
    }
    std::fs::set_permissions(&beside, permissions)?;
    std::fs::rename(&beside, theirs)
}

/// An image's executable, by the folder of its files.
fn in_image(files: &Path) -> PathBuf {
    files.join(EXECUTABLE.trim_start_matches('/'))
}

/// What changes when a file's content does.
fn stamp(found: &std::fs::Metadata) -> String {
    format!("{} {}.{:09}", found.len(), found.mtime(), found.mtime_nsec())
}

/// Whether a copy is as it was made, and may be executed.
fn is_intact(path: &Path) -> bool {
    let made = std::fs::read_to_string(path.with_file_name(STAMP)).ok();
    let found = std::fs::metadata(path).ok().filter(|found| found.mode() & 0o111 != 0);
    made.is_some() && made == found.as_ref().map(stamp)
}
