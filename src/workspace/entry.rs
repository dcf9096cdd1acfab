//! A file or link of a workspace at one moment: its mode, its digest, and the location of its content.

use std::sync::Arc;

use sha2::{Digest, Sha256};

/// The location of a file's content.
#[derive(Debug, Clone)]
pub(super) enum ContentLocation {
    /// In the snapshot's archive, at this offset in bytes.
    Archive(u64),
    /// In memory.
    Memory(Arc<Vec<u8>>),
}

/// A file or link of a workspace.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A regular file.
    File(Regular),
    /// A symbolic link, with its target.
    Link(Vec<u8>),
}

/// A regular file: its digest, and the location of its content.
#[derive(Debug, Clone)]
pub struct Regular {
    /// Its size in bytes.
    pub size: u64,
    /// Whether it is executable.
    pub executable: bool,
    /// SHA-256 of its content.
    pub digest: [u8; 32],
    pub(super) at: ContentLocation,
}

impl PartialEq for Regular {
    fn eq(&self, other: &Self) -> bool {
        (self.size, self.executable, self.digest) == (other.size, other.executable, other.digest)
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File(one), Self::File(two)) => one == two,
            (Self::Link(one), Self::Link(two)) => one == two,
            _ => false,
        }
    }
}

impl Entry {
    /// Its mode in git.
    pub(super) fn mode(&self) -> &'static str {
        match self {
            Self::File(Regular { executable: false, .. }) => "100644",
            Self::File(Regular { executable: true, .. }) => "100755",
            Self::Link(_) => "120000",
        }
    }

    /// Its fingerprint: mode and SHA-256 of its content.
    pub(super) fn fingerprint(&self) -> String {
        let digest = match self {
            Self::File(file) => data_encoding::HEXLOWER.encode(&file.digest),
            Self::Link(target) => data_encoding::HEXLOWER.encode(&Sha256::digest(target)),
        };
        format!("{} {digest}", self.mode())
    }
}
