//! The end of a file whose holder was killed while it wrote, or whose machine lost power: what is no whole line is kept aside
//! and cut off, and a line says so, which belongs to the chain.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::append::Appender;
use super::format::hash;
use super::read::{Entry, parse, torn_beside};

/// Repairs a file that nobody writes. What cannot be repaired stays as it is: it is read past.
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
        // Nothing of ours comes after an end: that is for a person to look at.
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
        // As it was: it is repaired another time.
        OpenOptions::new().append(true).open(path)?.write_all(torn)?;
        return Err(error);
    }
    appender.sync()
}
