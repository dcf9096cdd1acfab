//! Executables as containers get them.

use std::fs::Permissions;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Context;
use object::Endianness;
use object::elf::{FileHeader64, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};

/// Others may make a file unreadable meanwhile that this process has made readable.
const TRIES: usize = 5;

/// What a loader reads of an executable, without what comes after it, such as the names of functions.
///
/// # Errors
/// It cannot be read, or is no executable.
pub fn loadable(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut executable = read(path).with_context(|| format!("read {}", path.display()))?;
    strip(&mut executable).with_context(|| format!("strip {}", path.display()))?;
    Ok(executable)
}

/// Reads a file. One that its owner may only execute, because containers share it, is readable for a moment.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut found = std::fs::read(path);
    for _ in 0..TRIES {
        match &found {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
            _ => break,
        }
        let mode = std::fs::metadata(path)?.permissions().mode() & 0o7777;
        std::fs::set_permissions(path, Permissions::from_mode(mode | 0o400))?;
        let opened = std::fs::File::open(path);
        std::fs::set_permissions(path, Permissions::from_mode(mode & !0o400))?;
        found = opened.and_then(|mut file| {
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut file, &mut content)?;
            Ok(content)
        });
    }
    found
}

/// Removes what no loader reads: everything after the last loadable segment, including the section table.
fn strip(elf: &mut Vec<u8>) -> anyhow::Result<()> {
    let header = FileHeader64::<Endianness>::parse(elf.as_slice())?;
    let endian = header.endian()?;
    let segments = header.program_headers(endian, elf.as_slice())?;
    let loadable = segments.iter().filter(|segment| segment.p_type(endian) == PT_LOAD);
    let end = loadable.map(|segment| segment.p_offset(endian) + segment.p_filesz(endian)).max();
    let end = usize::try_from(end.context("nothing in it is loadable")?)?;
    anyhow::ensure!(end <= elf.len(), "a segment ends behind the file");
    elf.truncate(end);
    // e_shoff, and e_shnum with e_shstrndx, at their offsets in ELF-64's header (System V ABI, chapter 4).
    elf[40..48].fill(0);
    elf[60..64].fill(0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stripped_executable_still_runs_and_is_smaller() {
        let whole = std::fs::read("/proc/self/exe").unwrap();
        let mut stripped = whole.clone();
        strip(&mut stripped).unwrap();
        assert!(stripped.len() < whole.len());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stripped");
        std::fs::write(&path, &stripped).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        // Another test may be starting a process at this moment, which has the file open until its exec.
        let listed = loop {
            match std::process::Command::new(&path).arg("--list").output() {
                Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => std::thread::yield_now(),
                done => break done.unwrap(),
            }
        };
        assert!(listed.status.success() && !listed.stdout.is_empty());
    }

    #[test]
    fn what_is_no_executable_is_refused() {
        assert!(strip(&mut b"#!/bin/sh".to_vec()).is_err());
    }
}
