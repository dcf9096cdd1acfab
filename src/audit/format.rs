//! Constants that the reader and the writer of audit logs share.

use sha2::{Digest, Sha256};

/// The hash before the first line.
pub(super) const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// Maximum size of a log without its last line, in bytes; further events are counted.
pub(super) const MAX_BYTES: u64 = super::quota::ALL;
/// How many logs of ended launches are kept. Others are kept in addition.
pub(super) const MAX_FILES: usize = 200;
/// The folder in the state directory.
pub(super) const FOLDER: &str = "audit";

pub(super) fn hash(line: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(line))
}
