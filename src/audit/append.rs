//! Appends lines to a file, each completely or not at all. The head is the hash of the last complete line.

use std::fs::File;
use std::io::{self, Write};

use super::Record;
use super::format::{GENESIS, hash};
use super::read::Entry;

/// The destination of lines: a file, or a full disk in tests.
pub(super) trait Medium: Send {
    /// Appends bytes; after an error, part of them may have been written.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Truncates to a length.
    fn cut(&mut self, length: u64) -> io::Result<()>;
    /// Returns when everything is on the disk.
    fn sync(&mut self) -> io::Result<()>;
}

impl Medium for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Appends to a file.
pub(super) struct Appender {
    medium: Box<dyn Medium>,
    /// The hash of the last line.
    pub(super) head: String,
    /// The length of the complete lines, in bytes.
    pub(super) length: u64,
    /// Whether part of a failed line could not be removed.
    torn: bool,
}

impl Appender {
    pub(super) fn new(medium: Box<dyn Medium>) -> Self {
        Self::after(medium, GENESIS.to_owned(), 0)
    }

    /// Continues after existing lines.
    pub(super) fn after(medium: Box<dyn Medium>, head: String, length: u64) -> Self {
        Self { medium, head, length, torn: false }
    }

    /// Appends a line. What was written of a failed one is removed.
    pub(super) fn append(&mut self, line: Entry) -> io::Result<()> {
        if self.torn {
            self.medium.cut(self.length)?;
            self.torn = false;
        }
        let mut text = serde_json::to_vec(&Record { prev: self.head.clone(), line })?;
        let head = hash(&text);
        text.push(b'\n');
        if let Err(error) = self.medium.write(&text) {
            self.torn = self.medium.cut(self.length).is_err();
            return Err(error);
        }
        self.length += text.len() as u64;
        self.head = head;
        Ok(())
    }

    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.medium.sync()
    }
}
