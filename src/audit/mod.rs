//! What sidecars decided, as evidence: a file for every launch, in which each line names the one before it by its hash, so
//! that nothing can be taken out or changed without the last hash being another (promise 18).

mod learn;
mod read;
mod write;

pub use learn::learn;
pub use read::{Chain, Record, find, read};
pub use write::{Closed, Writer};

use sha2::{Digest, Sha256};

/// The hash before the first line.
const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// Largest file, in bytes; what comes after is counted.
const MAX_BYTES: u64 = 32 << 20;
/// Files that are kept, the newest.
const MAX_FILES: usize = 200;
/// The folder in the state directory.
const FOLDER: &str = "audit";

fn hash(line: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(line))
}

#[cfg(test)]
mod tests;
