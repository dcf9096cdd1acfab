//! An unnamed temporary file for an engine's response: it disappears with the process, and zeros take no space.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Blocks of this size that are zero are left out, in bytes; it is the block size of most file systems.
const HOLE: usize = 4096;

/// A file that is being written.
pub struct Spool {
    file: File,
    size: u64,
}

impl Spool {
    /// Creates a file on the file system of a folder.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn in_folder(folder: &Path) -> io::Result<Self> {
        let mut options = std::fs::OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        let file = options.clone().custom_flags(nix::libc::O_TMPFILE).open(folder).or_else(|_| {
            // The file system does not support unnamed files, so the file is unlinked at once.
            let mut random = [0; 8];
            getrandom::fill(&mut random).map_err(io::Error::other)?;
            let path = folder.join(format!("spool-{}", data_encoding::HEXLOWER.encode(&random)));
            let file = options.create_new(true).open(&path)?;
            std::fs::remove_file(&path)?;
            Ok::<_, io::Error>(file)
        })?;
        Ok(Self { file, size: 0 })
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// It cannot be written, or there are more than `most` bytes.
    pub fn write(&mut self, bytes: &[u8], most: u64) -> io::Result<()> {
        self.size += bytes.len() as u64;
        if self.size > most {
            return Err(io::Error::other(format!("it is larger than {most} bytes")));
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let empty =
                rest.chunks(HOLE).take_while(|block| block.iter().all(|byte| *byte == 0)).map(<[u8]>::len).sum();
            let (zeros, others) = rest.split_at(empty);
            self.file.seek(SeekFrom::Current(i64::try_from(zeros.len()).map_err(io::Error::other)?))?;
            let full =
                others.chunks(HOLE).take_while(|block| block.iter().any(|byte| *byte != 0)).map(<[u8]>::len).sum();
            self.file.write_all(&others[..full])?;
            rest = &others[full..];
        }
        Ok(())
    }

    /// Returns the complete file.
    ///
    /// # Errors
    /// It cannot be extended to its length.
    pub fn end(self) -> io::Result<File> {
        self.file.set_len(self.size)?;
        Ok(self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::MAX_ARCHIVE;
    use std::io::Read;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn promise_15_an_archive_of_the_largest_size_is_taken_and_a_larger_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::in_folder(folder.path()).unwrap();
        spool.size = MAX_ARCHIVE - 2;
        spool.write(b"ab", MAX_ARCHIVE).unwrap();
        let why = spool.write(b"c", MAX_ARCHIVE).unwrap_err().to_string();
        assert_eq!(why, format!("it is larger than {MAX_ARCHIVE} bytes"));
    }

    #[test]
    fn zeros_take_no_space_and_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::in_folder(folder.path()).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let mut expected = Vec::new();
        for piece in [&b"start"[..], &vec![0; 1 << 20], &[1, 0, 0, 2], &vec![0; 3 << 20]] {
            spool.write(piece, 8 << 20).unwrap();
            expected.extend_from_slice(piece);
        }
        assert!(spool.write(&vec![0; 8 << 20], 8 << 20).is_err());
        spool.size = expected.len() as u64;
        let mut file = spool.end().unwrap();
        assert!(file.metadata().unwrap().blocks() * 512 < 100 << 10);
        let mut read = Vec::new();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.read_to_end(&mut read).unwrap();
        assert!(read == expected);
    }
}
