//! Reading, and checking that nothing was changed.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Event;
use super::format::{FOLDER, GENESIS, MAX_BYTES, hash};

/// What a file may be larger than [`MAX_BYTES`] by its last lines.
const MARGIN: u64 = 2 << 20;

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The hash of the line before it: SHA-256 of its bytes, in hexadecimal.
    pub prev: String,
    /// What it says.
    #[serde(flatten)]
    pub line: Entry,
}

/// What a line says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// The first one.
    Began {
        /// The launch's bottle.
        bottle: String,
        /// Of which version.
        version: String,
    },
    /// A decision.
    Event(Box<Event>),
    /// What happened could not be written for a while; what follows is what was held of it.
    Missed {
        /// Since when, in milliseconds since 1970.
        since: u64,
        /// Until when.
        until: u64,
        /// How many decisions.
        events: u64,
        /// Why.
        why: String,
    },
    /// The end was no whole line, because the holder was killed or the machine lost power there: it was cut off.
    Repaired {
        /// How many bytes.
        cut: u64,
        /// Their hash.
        sha256: String,
        /// The file beside this one that has them.
        kept: String,
    },
    /// The last one.
    Ended {
        /// Decisions in all.
        decisions: u64,
        /// Those that are not kept one by one, by decision and code.
        left_out: BTreeMap<String, u64>,
    },
}

/// A whole file.
#[derive(Debug, Clone, PartialEq)]
pub struct Chain {
    /// Its lines.
    pub records: Vec<Record>,
    /// The hash of the last one.
    pub head: String,
    /// Whether its end is there; not where the holder was killed, or the bottle lives.
    pub ended: bool,
    /// The number of the first line that does not match the line before it, or cannot be read, from 1.
    pub broken_at: Option<usize>,
    /// Bytes after the last whole line.
    pub torn: u64,
    /// Whether somebody writes it.
    pub written: bool,
}

impl Chain {
    /// The decisions, in their order.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.records.iter().filter_map(|record| match &record.line {
            Entry::Event(event) => Some(event.as_ref()),
            _ => None,
        })
    }
}

/// A launch's file.
pub(super) struct AuditFile {
    /// When it was begun, in milliseconds since 1970, or after the one before it.
    pub(super) when: u128,
    pub(super) bottle: String,
    pub(super) path: PathBuf,
}

/// The files, the oldest first.
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

/// Where the end of a file is kept that was no whole line.
pub(super) fn torn_beside(path: &Path) -> PathBuf {
    path.with_extension("jsonl.torn")
}

/// The newest file of a bottle's name, if there is one.
///
/// # Errors
/// The folder cannot be read.
pub fn find(state: &Path, bottle: &str) -> io::Result<Option<PathBuf>> {
    match files(&state.join(FOLDER)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        files => Ok(files?.into_iter().rev().find(|file| file.bottle == bottle).map(|file| file.path)),
    }
}

/// Reads a file, and follows its hashes.
///
/// # Errors
/// It cannot be read, or no line of it is one of such a file.
pub fn read(path: &Path) -> io::Result<Chain> {
    let file = std::fs::File::open(path)?;
    // Asked for before anything is read: who has ended since then has written whole lines.
    let written = matches!(file.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock));
    let _ = file.unlock();
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + MARGIN).read_to_end(&mut bytes)?;
    let mut chain = parse(&bytes);
    if bytes.len() as u64 == MAX_BYTES + MARGIN {
        // None is written that is so large.
        chain.broken_at.get_or_insert(chain.records.len() + 1);
    }
    if chain.records.is_empty() && chain.broken_at.is_some() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it holds no line of an audit"));
    }
    // A line that is being written is not torn.
    Ok(Chain { torn: if written { 0 } else { chain.torn }, written, ..chain })
}

/// Follows the hashes of lines. What cannot be read breaks the chain, and is read past.
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
