//! What all who read or write the evidence must agree on.

use sha2::{Digest, Sha256};

/// The hash before the first line.
pub(super) const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// Largest file, in bytes, but for its last line; what comes after is counted.
pub(super) const MAX_BYTES: u64 = super::quota::ALL;
/// Files of launches that have ended, the newest; those of others are kept besides.
pub(super) const MAX_FILES: usize = 200;
/// The folder in the state directory.
pub(super) const FOLDER: &str = "audit";

pub(super) fn hash(line: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(line))
}
