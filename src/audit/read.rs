//! Reading, and checking that nothing was changed.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{FOLDER, GENESIS, MAX_BYTES, hash};
use crate::sidecar::Event;

/// Longest line, in bytes.
const MAX_LINE: u64 = 1 << 20;

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The hash of the line before it: SHA-256 of its bytes, in hexadecimal.
    pub prev: String,
    /// What it says.
    #[serde(flatten)]
    pub line: Line,
}

/// What a line says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// The first one.
    Began {
        /// The launch's bottle.
        bottle: String,
        /// Of which version.
        version: String,
    },
    /// A decision.
    Event(Box<Event>),
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
    /// The number of the first line that does not fit the one before it, from 1.
    pub broken_at: Option<usize>,
}

impl Chain {
    /// The decisions, in their order.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.records.iter().filter_map(|record| match &record.line {
            Line::Event(event) => Some(event.as_ref()),
            _ => None,
        })
    }
}

/// The files, the oldest first: path, bottle.
pub(super) fn files(folder: &Path) -> io::Result<Vec<(PathBuf, String)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let parts = name.strip_suffix(".jsonl").and_then(|name| name.split_once('.'));
        if let Some((when, bottle)) = parts.and_then(|(when, bottle)| Some((when.parse::<u128>().ok()?, bottle))) {
            found.push((when, path.clone(), bottle.to_owned()));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path, bottle)| (path, bottle)).collect())
}

/// The newest file of a bottle's name, if there is one.
///
/// # Errors
/// The folder cannot be read.
pub fn find(state: &Path, bottle: &str) -> io::Result<Option<PathBuf>> {
    match files(&state.join(FOLDER)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        files => Ok(files?.into_iter().rev().find(|(_, of)| of == bottle).map(|(path, _)| path)),
    }
}

/// Reads a file, and follows its hashes.
///
/// # Errors
/// It cannot be read, or is no such file.
pub fn read(path: &Path) -> io::Result<Chain> {
    let file = std::fs::File::open(path)?;
    let mut reader = BufReader::new(file.take(MAX_BYTES + 2 * MAX_LINE));
    let mut chain = Chain { records: Vec::new(), head: GENESIS.to_owned(), ended: false, broken_at: None };
    loop {
        let mut line = Vec::new();
        (&mut reader).take(MAX_LINE).read_until(b'\n', &mut line)?;
        let Some(text) = line.strip_suffix(b"\n") else {
            // Cut off in the middle of a line: the holder was killed there.
            return Ok(chain);
        };
        let number = chain.records.len() + 1;
        let record: Record = serde_json::from_slice(text)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("line {number}: {error}")))?;
        if record.prev != chain.head || chain.ended || (number == 1) != matches!(record.line, Line::Began { .. }) {
            chain.broken_at.get_or_insert(number);
        }
        chain.head = hash(text);
        chain.ended = matches!(record.line, Line::Ended { .. });
        chain.records.push(record);
    }
}
