//! Writing: line by line, as it happens, so that a holder that is killed has written what it knew.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::read::{Line, files};
use super::{FOLDER, GENESIS, MAX_BYTES, MAX_FILES, hash};
use crate::sidecar::Event;

/// A launch's file.
pub struct Writer {
    file: File,
    head: String,
    written: u64,
    count: Closed,
    /// What came when the file was full, by decision and code.
    left_out: BTreeMap<String, u64>,
}

/// What a file came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// The hash of the last line.
    pub head: String,
    /// Decisions in all.
    pub decisions: u64,
    /// Of these, refusals.
    pub refused: u64,
    /// Decisions that are counted and not kept one by one.
    pub left_out: u64,
}

impl Writer {
    /// Begins the file of a launch, and removes the oldest where there are too many.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn begin(state: &Path, bottle: &str) -> io::Result<Self> {
        let folder = state.join(FOLDER);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let old = files(&folder)?;
        for (path, ..) in old.iter().take((old.len() + 1).saturating_sub(MAX_FILES)) {
            // Another launch may have removed it in this moment.
            let _ = std::fs::remove_file(path);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let path = folder.join(format!("{}.{bottle}.jsonl", now.as_millis()));
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path)?;
        let mut writer =
            Self { file, head: GENESIS.to_owned(), written: 0, count: Closed::default(), left_out: BTreeMap::new() };
        writer.line(Line::Began { bottle: bottle.to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() })?;
        Ok(writer)
    }

    /// Writes a decision.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn event(&mut self, event: &Event) -> io::Result<()> {
        self.count.decisions += event.count;
        if event.kind.decision == "refuse" {
            self.count.refused += event.count;
        }
        if self.written >= MAX_BYTES {
            self.count.left_out += event.count;
            *self.left_out.entry(format!("{} {}", event.kind.decision, event.kind.code)).or_default() += event.count;
            return Ok(());
        }
        self.line(Line::Event(Box::new(event.clone())))
    }

    /// Ends it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn close(mut self) -> io::Result<Closed> {
        let left_out = std::mem::take(&mut self.left_out);
        self.line(Line::Ended { decisions: self.count.decisions, left_out })?;
        self.file.sync_data()?;
        Ok(Closed { head: self.head, ..self.count })
    }

    fn line(&mut self, line: Line) -> io::Result<()> {
        let mut text = serde_json::to_vec(&super::Record { prev: self.head.clone(), line })?;
        self.head = hash(&text);
        text.push(b'\n');
        self.written += text.len() as u64;
        self.file.write_all(&text)
    }
}
