//! The files of a workspace as recipes see them, and the limits that apply to a workspace.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Maximum size of a workspace's files in memory, in bytes. Further files are known by their digest only.
pub const MAX_BYTES: usize = 256 << 20;
/// Maximum size of a file in memory, in bytes.
pub(super) const MAX_FILE: u64 = 16 << 20;
/// Maximum number of a workspace's files, without `.git` and ignored files.
pub const MAX_FILES: usize = 200_000;
/// Maximum size of a workspace's archive, in bytes.
pub const MAX_ARCHIVE: u64 = 16 << 30;

/// Files, by their paths below the workspace.
pub type Files = BTreeMap<String, WorkspaceFile>;

/// A file of a workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkspaceFile {
    /// A regular file.
    Regular {
        /// Its content; base64 when serialised.
        #[serde(with = "base64")]
        content: Vec<u8>,
        /// Whether it may be executed.
        executable: bool,
    },
    /// A regular file that is too large to be loaded, known by its digest.
    Large {
        /// Bytes.
        size: u64,
        /// SHA-256, in hexadecimal.
        digest: String,
        /// Whether it may be executed.
        executable: bool,
    },
    /// A symbolic link, with its target.
    Link(String),
}

mod base64 {
    use data_encoding::BASE64;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&BASE64.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        BASE64.decode(String::deserialize(from)?.as_bytes()).map_err(serde::de::Error::custom)
    }
}

/// How a file was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It is new.
    Added,
    /// Its content or type changed.
    Changed,
    /// It was removed.
    Removed,
}
