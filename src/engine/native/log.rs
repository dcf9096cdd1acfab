//! What a container wrote: frames in files of a bounded size, of which the oldest is dropped.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::{Buf, Bytes, BytesMut};

use super::protocol::Frame;
use crate::engine::Output;

/// Bytes of a file, and files that are kept: as on other engines.
const FILE_SIZE: u64 = 5 << 20;
const FILES: usize = 3;

/// A log that is written.
pub(super) struct Log {
    folder: PathBuf,
    file: File,
    size: u64,
}

impl Log {
    /// # Errors
    /// It cannot be made.
    pub(super) fn create(folder: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path(folder, 0))?;
        Ok(Self { folder: folder.to_owned(), size: file.metadata()?.len(), file })
    }

    /// # Errors
    /// It cannot be written: the disk is full.
    pub(super) fn append(&mut self, frame: &Frame) -> io::Result<()> {
        if self.size >= FILE_SIZE {
            for number in (1..FILES).rev() {
                let _ = std::fs::rename(path(&self.folder, number - 1), path(&self.folder, number));
            }
            *self = Self::create(&self.folder)?;
        }
        let mut bytes = BytesMut::new();
        frame.encode(&mut bytes);
        self.size += bytes.len() as u64;
        self.file.write_all(&bytes)
    }
}

fn path(folder: &Path, number: usize) -> PathBuf {
    folder.join(if number == 0 { "log".to_owned() } else { format!("log.{number}") })
}

/// What a log has: the last lines, or everything, oldest first.
pub(super) fn read(folder: &Path, lines: Option<usize>) -> Vec<Output> {
    let mut pieces = Vec::new();
    for number in (0..FILES).rev() {
        let mut bytes = Bytes::from(std::fs::read(path(folder, number)).unwrap_or_default());
        while bytes.len() >= 5 {
            let (kind, length) = (bytes.get_u8(), bytes.get_u32() as usize);
            // The last frame may be cut off.
            let content = bytes.split_to(length.min(bytes.len()));
            pieces.push(if kind == 2 { Output::Stderr(content) } else { Output::Stdout(content) });
        }
    }
    match lines {
        Some(lines) => last(pieces, lines),
        None => pieces,
    }
}

/// The last lines of all pieces together.
fn last(mut pieces: Vec<Output>, lines: usize) -> Vec<Output> {
    let mut left = lines;
    for index in (0..pieces.len()).rev() {
        let is_last = index + 1 == pieces.len();
        let (Output::Stdout(bytes) | Output::Stderr(bytes)) = &mut pieces[index];
        // The very last line end ends the last line, and begins none.
        let end = bytes.len() - usize::from(is_last && bytes.ends_with(b"\n"));
        for at in memchr::memrchr_iter(b'\n', &bytes[..end]) {
            left = left.saturating_sub(1);
            if left == 0 {
                bytes.advance(at + 1);
                return pieces.split_off(index);
            }
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_those_of_all_pieces_together() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::create(folder.path()).unwrap();
        for (number, text) in ["one\ntwo\nth", "ree\n", "four\n"].into_iter().enumerate() {
            let bytes = Bytes::from_static(text.as_bytes());
            log.append(&if number == 1 { Frame::Stderr(bytes) } else { Frame::Stdout(bytes) }).unwrap();
        }
        let text = |lines: Option<usize>| -> String {
            let pieces = read(folder.path(), lines);
            pieces
                .iter()
                .map(|(Output::Stdout(it) | Output::Stderr(it))| String::from_utf8_lossy(it).into_owned())
                .collect()
        };
        assert_eq!(text(None), "one\ntwo\nthree\nfour\n");
        assert_eq!(text(Some(1)), "four\n");
        assert_eq!(text(Some(2)), "three\nfour\n");
        assert_eq!(text(Some(3)), "two\nthree\nfour\n");
        assert_eq!(text(Some(9)), "one\ntwo\nthree\nfour\n");
    }

    #[test]
    fn a_log_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::create(folder.path()).unwrap();
        for _ in 0..400 {
            log.append(&Frame::Stdout(Bytes::from(vec![b'x'; 64 << 10]))).unwrap();
        }
        let kept: usize =
            read(folder.path(), None).iter().map(|(Output::Stdout(it) | Output::Stderr(it))| it.len()).sum();
        assert!(kept > 10 << 20 && kept < 16 << 20, "{kept}");
    }
}
