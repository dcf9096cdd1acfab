//! Splits bytes into lines, and serializes values as lines.

use bytes::{Buf, BytesMut};

/// Why the next value cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The stream broke.
    #[error("read a line: {0}")]
    Read(#[from] std::io::Error),
    /// A line beyond the limit.
    #[error("read a line: it is longer than {0} bytes")]
    TooLong(usize),
    /// The stream ended within a line.
    #[error("read a line: it is cut off")]
    Cut,
    /// A line that is not such a value.
    #[error("read a line: {0}")]
    Json(#[from] serde_json::Error),
}

/// Buffers bytes and returns them line by line.
#[derive(Debug)]
pub struct LineBuffer {
    buffer: BytesMut,
    /// How much of the buffer was searched for a line end.
    searched: usize,
    max: usize,
}

/// How much is read at once, in bytes.
const ROOM: usize = 8 << 10;

impl LineBuffer {
    /// Lines of at most `max` bytes, without their end.
    pub fn new(max: usize) -> Self {
        Self { buffer: BytesMut::new(), searched: 0, max }
    }

    /// Adds bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The buffer to read into.
    pub(super) fn room(&mut self) -> &mut BytesMut {
        self.buffer.reserve(ROOM);
        &mut self.buffer
    }

    /// The next complete line without its end.
    ///
    /// # Errors
    /// It is too long; every later call fails, too.
    pub fn take(&mut self) -> Result<Option<Vec<u8>>, WireError> {
        let end = memchr::memchr(b'\n', &self.buffer[self.searched..]).map(|end| self.searched + end);
        if end.unwrap_or(self.buffer.len()) > self.max {
            return Err(WireError::TooLong(self.max));
        }
        let Some(end) = end else {
            self.searched = self.buffer.len();
            return Ok(None);
        };
        let line = self.buffer.split_to(end).to_vec();
        self.buffer.advance(1);
        self.searched = 0;
        Ok(Some(line))
    }

    /// Called at the end of the stream: an error within a line.
    pub(super) fn end(&self) -> Result<(), WireError> {
        if self.buffer.is_empty() { Ok(()) } else { Err(WireError::Cut) }
    }
}

/// Serializes a value as a line.
///
/// # Errors
/// It cannot be serialized: a path that is not UTF-8.
pub fn line(value: &impl serde::Serialize) -> serde_json::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The lines do not depend on how the bytes are split.
        #[test]
        fn lines_do_not_depend_on_how_they_arrive(
            lines in prop::collection::vec("[^\n]{0,20}", 0..6),
            pieces in prop::collection::vec(1_usize..9, 1..40),
        ) {
            let text: String = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
            let (mut rest, mut found, mut collected) = (text.as_bytes(), Vec::new(), LineBuffer::new(200));
            for piece in pieces.into_iter().chain([usize::MAX]) {
                let (now, later) = rest.split_at(piece.min(rest.len()));
                rest = later;
                collected.push(now);
                while let Some(line) = collected.take().unwrap() {
                    found.push(String::from_utf8(line).unwrap());
                }
            }
            prop_assert!(collected.end().is_ok());
            prop_assert_eq!(found, lines);
        }
    }

    #[test]
    fn a_line_has_a_bound_and_an_end() {
        let mut lines = LineBuffer::new(3);
        lines.push(b"abc\nab");
        assert_eq!(lines.take().unwrap().unwrap(), b"abc");
        assert!(lines.take().unwrap().is_none());
        assert!(matches!(lines.end(), Err(WireError::Cut)));
        lines.push(b"cd");
        assert!(matches!(lines.take(), Err(WireError::TooLong(3))), "before its end has come");
        lines.push(b"\nx\n");
        assert!(matches!(lines.take(), Err(WireError::TooLong(3))), "and for ever");
    }
}
