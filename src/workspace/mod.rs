//! What an agent works at: a folder of the host, copied; what the agent made of it, read in this process and never unpacked
//! over the tree. Nothing here knows an engine.

mod archive;
pub mod context;
mod executed;
mod git;
mod ignored;
mod mountable;
mod patch;
mod places;
mod pull;
mod seed;
mod walk;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use archive::{Left, read, stream};
pub use executed::{Kind as MaskedKind, MASKED, MASKED_HEAD, is_executed, looks_secret};
pub use git::{Git, identity};
pub use mountable::{Closed, refusal};
pub use patch::patch;
pub use places::{Place as ExecutedPlace, Places, is_repository};
pub use pull::{Pulled, pull};
pub use seed::{Seed, copy, create_private, list};
pub use walk::read_files;

/// Most bytes of a workspace's text that are held at once; files beyond are known by their digest.
pub const MAX_BYTES: usize = 256 << 20;
/// Largest file that is held, in bytes.
const MAX_FILE: u64 = 16 << 20;
/// Most files that a workspace may hold, `.git` and what is ignored not counted.
pub const MAX_FILES: usize = 200_000;
/// Largest archive of a workspace that is read, in bytes.
pub const MAX_ARCHIVE: u64 = 16 << 30;

/// Files by their paths below the workspace.
pub type Files = BTreeMap<String, WorkspaceFile>;

/// A file of a workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkspaceFile {
    /// A regular file.
    Regular {
        /// What is in it, in base64 where it is written down.
        #[serde(with = "base64")]
        content: Vec<u8>,
        /// Whether it may be executed.
        executable: bool,
    },
    /// A regular file that is too large to be held: what names its content.
    Large {
        /// Bytes.
        size: u64,
        /// SHA-256, in hexadecimal.
        digest: String,
        /// Whether it may be executed.
        executable: bool,
    },
    /// A symbolic link to this.
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

/// What names the state of a workspace.
pub fn digest(left: &Left) -> String {
    let mut hash = Sha256::new();
    for (name, commit) in &left.references {
        hash.update(name);
        hash.update([0]);
        hash.update(commit);
        hash.update([0]);
    }
    for (path, file) in &left.files {
        let (kind, content) = match file {
            WorkspaceFile::Regular { content, .. } => (patch::mode(file), content.as_slice()),
            WorkspaceFile::Large { digest, .. } => (patch::mode(file), digest.as_bytes()),
            WorkspaceFile::Link(target) => (patch::mode(file), target.as_bytes()),
        };
        for part in [path.as_bytes(), kind.as_bytes(), content] {
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
    }
    data_encoding::HEXLOWER.encode(&hash.finalize())
}

/// How a file was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It was not there.
    Added,
    /// Its content, or what it is, is another.
    Changed,
    /// It is gone.
    Removed,
}

/// What was changed from one state to another, by path.
pub fn changes(before: &Files, after: &Files) -> BTreeMap<String, Change> {
    let removed = before.keys().filter(|path| !after.contains_key(*path)).map(|path| (path.clone(), Change::Removed));
    let others = after.iter().filter_map(|(path, file)| {
        let change = match before.get(path) {
            None => Change::Added,
            Some(known) if known != file => Change::Changed,
            Some(_) => return None,
        };
        Some((path.clone(), change))
    });
    removed.chain(others).collect()
}
