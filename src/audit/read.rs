//! Reads a log and verifies its hash chain.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Event;
use super::format::{FOLDER, GENESIS, MAX_BYTES, hash};

/// By how much the last lines may exceed [`MAX_BYTES`].
const MARGIN: u64 = 2 << 20;

/// A line of a log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The SHA-256 of the previous line's bytes, in hexadecimal.
    pub prev: String,
    /// The entry.
    #[serde(flatten)]
    pub line: Entry,
}

/// An entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// The first one.
    Began {
        /// The bottle.
        bottle: String,
        /// The version of bottler.
        version: String,
    },
    /// A decision.
    Event(Box<Event>),
    /// Events could not be written for a while; the entries that follow were kept meanwhile.
    Missed {
        /// Since when, in milliseconds since 1970.
        since: u64,
        /// Until when.
        until: u64,
        /// The number of decisions.
        events: u64,
        /// The reason.
        why: String,
    },
    /// The last line was incomplete because the holder was killed or the machine lost power; it was removed.
    Repaired {
        /// The removed bytes.
        cut: u64,
        /// Their SHA-256.
        sha256: String,
        /// The name of the file beside the log that contains them.
        kept: String,
    },
    /// The last one.
    Ended {
        /// All decisions.
        decisions: u64,
        /// Decisions that were only counted, by decision and code.
        left_out: BTreeMap<String, u64>,
    },
}

/// A complete log.
#[derive(Debug, Clone, PartialEq)]
pub struct Chain {
    /// Its lines.
    pub records: Vec<Record>,
    /// The hash of the last line.
    pub head: String,
    /// Whether the last entry is there. It is missing if the holder was killed, or the bottle is alive.
    pub ended: bool,
    /// The number of the first line that is malformed or does not match the line before it, from 1.
    pub broken_at: Option<usize>,
    /// Bytes after the last complete line.
    pub torn: u64,
    /// Whether a process writes the log.
    pub written: bool,
}

impl Chain {
    /// The decisions, in order.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.records.iter().filter_map(|record| match &record.line {
            Entry::Event(event) => Some(event.as_ref()),
            _ => None,
        })
    }
}

/// The log of a launch.
pub(super) struct AuditFile {
    /// When it was started, in milliseconds since 1970, or a larger number than the previous log's.
    pub(super) when: u128,
    pub(super) bottle: String,
    pub(super) path: PathBuf,
}

/// The logs, the oldest first.
pub(super) fn files(folder: &Path) -> io::Result<Vec<AuditFile>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let parts = name.strip_suffix(".jsonl").and_then(|name| name.split_once('.'));
        if let Some((when, bottle)) = parts.and_then(|(when, bottle)| Some((when.parse::<u128>().ok()?, bottle))) {
            found.push(AuditFile { when, bottle: bottle.to_owned(), path });
        }
    }
    found.sort_by(|one, other| (one.when, &one.bottle).cmp(&(other.when, &other.bottle)));
    Ok(found)
}

/// Where an incomplete last line is moved.
pub(super) fn torn_beside(path: &Path) -> PathBuf {
    path.with_extension("jsonl.torn")
}

/// The logs of a bottle's launches, the newest first.
///
/// # Errors
/// The folder cannot be read.
pub fn logs(state: &Path, bottle: &str) -> io::Result<Vec<PathBuf>> {
    match files(&state.join(FOLDER)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        files => {
            let own = files?.into_iter().rev().filter(|file| file.bottle == bottle);
            Ok(own.map(|file| file.path).collect())
        }
    }
}

/// Reads a log and verifies its hashes.
///
/// # Errors
/// It cannot be read, or no line of it is an audit entry.
pub fn read(path: &Path) -> io::Result<Chain> {
    let file = std::fs::File::open(path)?;
    // Checked before reading: a writer that has ended since has written complete lines.
    let written = matches!(file.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock));
    let _ = file.unlock();
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + MARGIN).read_to_end(&mut bytes)?;
    let mut chain = parse(&bytes);
    if bytes.len() as u64 == MAX_BYTES + MARGIN {
        // No log is so large.
        chain.broken_at.get_or_insert(chain.records.len() + 1);
    }
    if chain.records.is_empty() && chain.broken_at.is_some() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it holds no line of an audit"));
    }
    // A line that is being written is not torn.
    Ok(Chain { torn: if written { 0 } else { chain.torn }, written, ..chain })
}

/// Verifies the hashes. A malformed line breaks the chain and is skipped.
pub(super) fn parse(bytes: &[u8]) -> Chain {
    let (head, records) = (GENESIS.to_owned(), Vec::new());
    let mut chain = Chain { records, head, ended: false, broken_at: None, torn: 0, written: false };
    for (number, line) in (1..).zip(bytes.split_inclusive(|&byte| byte == b'\n')) {
        let Some(text) = line.strip_suffix(b"\n") else {
            chain.torn = line.len() as u64;
            break;
        };
        let record = serde_json::from_slice::<Record>(text);
        let fits = record.as_ref().is_ok_and(|record| {
            record.prev == chain.head && !chain.ended && (number == 1) == matches!(record.line, Entry::Began { .. })
        });
        if !fits {
            chain.broken_at.get_or_insert(number);
        }
        chain.head = hash(text);
        if let Ok(record) = record {
            chain.ended = matches!(record.line, Entry::Ended { .. });
            chain.records.push(record);
        }
    }
    chain
}
