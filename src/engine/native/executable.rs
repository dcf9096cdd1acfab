//! The executable that holders, shims and first processes start from: a copy in the store, which no user edits (CVE-2019-5736), and
//! which images have as well, so that its pages are in memory once.
//!
//! In an image nobody may read it, so that the kernel lets nobody trace who executes it. It is in the lower layer of an overlay:
//! nothing in a container can write it.

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

impl NativeEngine {
    /// A copy of this executable that no user edits, for holders, shims and first processes to start from.
    pub(super) fn executable(&self) -> std::io::Result<PathBuf> {
        if let Some(path) = self.running_copy().filter(|path| path.is_file()) {
            return Ok(path);
        }
        let folder = self.root.join("executables");
        let own = std::fs::metadata(&self.executable)?;
        let key = format!("{:x}-{:x}-{:x}-{:x}", own.dev(), own.ino(), own.len(), own.mtime_nsec() ^ own.mtime());
        let path = folder.join(&key).join("bottler");
        if path.is_file() {
            return Ok(path);
        }
        make_private(&folder)?;
        let old: Vec<PathBuf> = std::fs::read_dir(&folder)?.flatten().map(|entry| entry.path()).collect();
        let made = self.store.create(&folder.join(&key), |new| {
            let content = loadable(&self.executable).map_err(std::io::Error::other)?;
            let digest = HEXLOWER.encode(&Sha256::digest(&content));
            for (name, content, mode) in [("bottler", content, 0o500), (DIGEST, digest.into(), 0o400)] {
                let path = new.join(name);
                let mut file = std::fs::File::create(&path)?;
                file.write_all(&content)?;
                file.sync_all()?;
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
            }
            Ok(())
        });
        match made {
            Err(error) if error.kind() == Io::AlreadyExists => {}
            made => made?,
        }
        // Processes that run from an older copy keep it.
        old.iter().try_for_each(|old| remove_tree(old))?;
        Ok(path)
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
        let theirs = files.join(EXECUTABLE.trim_start_matches('/'));
        let Ok(digest) = std::fs::read_to_string(ours.with_file_name(DIGEST)) else { return Ok(()) };
        if image::digest_of(tar, EXECUTABLE)?.as_deref() != Some(&digest) {
            return Ok(());
        }
        let (own, found) = (std::fs::metadata(ours)?, std::fs::symlink_metadata(&theirs)?);
        let beside = theirs.with_extension("shared");
        if found.is_file() && own.uid() == found.uid() && std::fs::hard_link(ours, &beside).is_ok() {
            std::fs::set_permissions(&beside, found.permissions())?;
            std::fs::rename(&beside, &theirs)?;
        }
        Ok(())
    }
}
