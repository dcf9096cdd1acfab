//! Bytes into lines, and values into lines.

use bytes::{Buf, BytesMut};

/// Why there is no next value.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The stream broke.
    #[error("read a line: {0}")]
    Read(#[from] std::io::Error),
    /// A line beyond its bound.
    #[error("read a line: it is longer than {0} bytes")]
    TooLong(usize),
    /// The stream ended within a line.
    #[error("read a line: it is cut off")]
    Cut,
    /// A line that is no such value.
    #[error("read a line: {0}")]
    Json(#[from] serde_json::Error),
}

/// Collects bytes, and gives them by lines.
#[derive(Debug)]
pub struct LineBuffer {
    buffer: BytesMut,
    /// How much of it is known to have no end of a line.
    searched: usize,
    max: usize,
}

/// How much is read at a time, in bytes.
const ROOM: usize = 8 << 10;

impl LineBuffer {
    /// Lines of so many bytes at most, their end not counted.
    pub fn new(max: usize) -> Self {
        Self { buffer: BytesMut::new(), searched: 0, max }
    }

    /// Takes bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Where more is read into.
    pub(super) fn room(&mut self) -> &mut BytesMut {
        self.buffer.reserve(ROOM);
        &mut self.buffer
    }

    /// The next whole line without its end, if it is there.
    ///
    /// # Errors
    /// It is too long; then there is never another.
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

    /// What it means that no more bytes come: an error within a line.
    pub(super) fn end(&self) -> Result<(), WireError> {
        if self.buffer.is_empty() { Ok(()) } else { Err(WireError::Cut) }
    }
}

/// A value as a line, with its end.
///
/// # Errors
/// It cannot be written as JSON: a path that is no UTF-8.
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
        /// However the bytes are cut into pieces, the lines are the same.
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
