//! What sidecars decided, as evidence: a file for every launch, in which each line names the one before it by its hash, so
//! that nothing can be taken out or changed without the last hash being another (promise 18).

mod append;
mod bucket;
mod coalesce;
mod event;
mod held;
mod learn;
mod read;
mod repair;
mod retain;
mod room;
mod sieve;
mod write;

pub use coalesce::{Coalescer, Limits};
pub use event::{Event, Kind, Subject, now};
pub use learn::learn;
pub use read::{Chain, Line, Record, find, read};
pub use write::{Closed, Writer};

use sha2::{Digest, Sha256};

/// The hash before the first line.
const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// Largest file, in bytes, but for its last line; what comes after is counted.
const MAX_BYTES: u64 = room::ALL;
/// Files of launches that have ended, the newest; those of others are kept besides.
const MAX_FILES: usize = 200;
/// The folder in the state directory.
const FOLDER: &str = "audit";

fn hash(line: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(line))
}

#[cfg(test)]
mod tests;
