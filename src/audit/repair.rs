//! Repairs a log after its holder was killed or the machine lost power: an incomplete last line is moved to a file of
//! its own, and an entry records that.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::append::Appender;
use super::format::hash;
use super::read::{Entry, parse, torn_beside};

/// Repairs a log that no process writes. If that fails, the log stays as it is, and readers skip the line.
pub(super) fn repair(path: &Path) {
    let Ok(mut file) = OpenOptions::new().read(true).append(true).open(path) else { return };
    if file.try_lock().is_ok() && ends_within_a_line(&mut file).unwrap_or(false) {
        let _ = cut_off(file, path);
    }
}

fn ends_within_a_line(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

fn cut_off(mut file: File, path: &Path) -> io::Result<()> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut bytes)?;
    let chain = parse(&bytes);
    let length = bytes.len() - usize::try_from(chain.torn).unwrap_or_default();
    if chain.ended || chain.torn == 0 {
        // Nothing of ours follows the last entry: a person must look at that.
        return Ok(());
    }
    let torn = &bytes[length..];
    let aside = torn_beside(path);
    let mut kept = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&aside)?;
    kept.write_all(torn).and_then(|()| kept.sync_data()).inspect_err(|_| drop(std::fs::remove_file(&aside)))?;
    file.set_len(length as u64)?;
    let name = aside.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let line = Entry::Repaired { cut: chain.torn, sha256: hash(torn), kept: name };
    let mut appender = Appender::after(Box::new(file), chain.head, length as u64);
    if let Err(error) = appender.append(line) {
        // As it was, to be repaired another time.
        OpenOptions::new().append(true).open(path)?.write_all(torn)?;
        return Err(error);
    }
    appender.sync()
}
