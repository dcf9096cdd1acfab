//! One line more at a file's end: all of it, or nothing. The head is that of the last line that is there.

use std::fs::File;
use std::io::{self, Write};

use super::Record;
use super::format::{GENESIS, hash};
use super::read::Entry;

/// Where lines go: a file, or in tests one whose disk is full.
pub(super) trait Medium: Send {
    /// Writes at the end; where it fails, part of it may be there.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Cuts off what is beyond a length.
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

/// The end of a file.
pub(super) struct Appender {
    medium: Box<dyn Medium>,
    /// The hash of the last line.
    pub(super) head: String,
    /// The bytes of whole lines.
    pub(super) length: u64,
    /// Whether there may be more than that: part of a line that could not be cut off.
    torn: bool,
}

impl Appender {
    pub(super) fn new(medium: Box<dyn Medium>) -> Self {
        Self::after(medium, GENESIS.to_owned(), 0)
    }

    /// After lines that are there already.
    pub(super) fn after(medium: Box<dyn Medium>, head: String, length: u64) -> Self {
        Self { medium, head, length, torn: false }
    }

    /// Writes a line. What is left of one that failed is cut off.
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
