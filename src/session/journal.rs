//! The journal: an append-only file of JSON lines, an intent before each effect.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::UndoRow;
use crate::engine::labels::Kind;

/// The journal's file in the session's directory.
const FILE: &str = "journal.jsonl";

#[derive(Serialize)]
#[serde(rename_all = "snake_case", tag = "entry")]
pub(super) enum Entry<'a> {
    /// A thing is about to be made, asked for by a script line.
    Intent { seq: u64, kind: Kind, name: &'a str, at: Option<String> },
    /// A thing was removed, was gone, or could not be removed.
    Undo { row: &'a UndoRow },
}

pub(super) struct Journal {
    file: File,
    path: PathBuf,
}

impl Journal {
    pub(super) fn create(dir: &Path) -> std::io::Result<Self> {
        let path = dir.join(FILE);
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        Ok(Self { file, path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// One line, in one write: a reader never sees half of it while the writer lives.
    pub(super) fn append(&mut self, entry: &Entry<'_>) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        self.file.write_all(&line)
    }
}
