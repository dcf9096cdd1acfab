//! Reads and writes values without an async runtime.

use std::io::{Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{LineBuffer, WireError, line};

/// Reads values.
#[derive(Debug)]
pub struct BlockingReader<R> {
    from: R,
    lines: LineBuffer,
}

impl<R: Read> BlockingReader<R> {
    /// Reads lines of at most `max` bytes.
    pub fn new(from: R, max: usize) -> Self {
        Self { from, lines: LineBuffer::new(max) }
    }

    /// The next line without its end; `None` at the end of the stream.
    ///
    /// # Errors
    /// The stream breaks, or a line is too long or cut off.
    pub fn line(&mut self) -> Result<Option<Vec<u8>>, WireError> {
        let mut piece = [0; 4 << 10];
        loop {
            if let Some(line) = self.lines.take()? {
                return Ok(Some(line));
            }
            match self.from.read(&mut piece)? {
                0 => return self.lines.end().map(|()| None),
                count => self.lines.push(&piece[..count]),
            }
        }
    }

    /// The next value; `None` at the end of the stream.
    ///
    /// # Errors
    /// As for a line, or the line is not such a value.
    pub fn value<T: DeserializeOwned>(&mut self) -> Result<Option<T>, WireError> {
        let line = self.line()?;
        Ok(line.map(|line| serde_json::from_slice(&line)).transpose()?)
    }
}

/// Writes a value.
///
/// # Errors
/// It cannot be serialized, or the stream breaks.
pub fn send_blocking(to: &mut impl Write, value: &impl Serialize) -> std::io::Result<()> {
    to.write_all(&line(value)?)?;
    to.flush()
}
