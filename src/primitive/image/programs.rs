//! Programs of this machine with their libraries, for an image from scratch: git and OpenSSH's client, which the git
//! gate runs. No network and no build is needed, and the image holds nothing else that could be executed.
//!
//! The libraries are those that the program's own loader names (ld.so(8), `--list`), so they are the ones that it would
//! use here.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use object::Endianness;
use object::elf::{FileHeader64, PT_INTERP};
use object::read::elf::{FileHeader, ProgramHeader};
use sha2::{Digest, Sha256};

use crate::host::{Limits, output};
use crate::layout::git_gate;

/// Where programs are, if `PATH` does not say.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// The oldest git that serves what is needed: `GIT_NO_LAZY_FETCH` and the fixes of its server side.
const OLDEST: (u32, u32) = (2, 39);
/// Limits of `--version` and `--list`.
const LIMITS: Limits = Limits { time: Duration::from_secs(10), bytes: 1 << 20 };
/// The loader's list of libraries, which it also uses for folders that are not the usual ones.
const CACHE: &str = "/etc/ld.so.cache";

/// A file of the image.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ProgramFile {
    /// Where it is here.
    pub(super) from: PathBuf,
    /// Where it is in the image, without the slash at the beginning.
    pub(super) to: PathBuf,
}

/// Finds git and ssh with their libraries.
///
/// # Errors
/// One is not here, is too old, or lacks a library.
pub(super) fn git_and_ssh() -> anyhow::Result<Vec<ProgramFile>> {
    let git = find("git")?;
    let version = ask(Command::new(&git).arg("--version"))?;
    let number = read_version(&version).with_context(|| format!("{}: {version:?}", git.display()))?;
    ensure!(
        number >= OLDEST,
        "{} is {}.{}: {}.{} or newer is needed",
        git.display(),
        number.0,
        number.1,
        OLDEST.0,
        OLDEST.1
    );
    let mut files = BTreeSet::new();
    for (program, place) in [(git, git_gate::GIT), (find("ssh")?, git_gate::SSH)] {
        for library in libraries(&program)? {
            files.insert(ProgramFile { to: below(&library), from: library });
        }
        files.insert(ProgramFile { from: program, to: below(Path::new(place)) });
    }
    if Path::new(CACHE).is_file() {
        files.insert(ProgramFile { from: CACHE.into(), to: below(Path::new(CACHE)) });
    }
    Ok(files.into_iter().collect())
}

/// What changes when one of the files does.
///
/// # Errors
/// One is gone.
pub(super) fn stamp(files: &[ProgramFile]) -> std::io::Result<impl AsRef<[u8]>> {
    let mut digest = Sha256::new();
    for file in files {
        let seen = std::fs::metadata(&file.from)?;
        digest.update(file.to.as_os_str().as_encoded_bytes());
        for number in
            [seen.len(), seen.ino(), seen.dev(), seen.mtime().unsigned_abs(), seen.mtime_nsec().unsigned_abs()]
        {
            digest.update(number.to_le_bytes());
        }
    }
    Ok(digest.finalize())
}

fn below(path: &Path) -> PathBuf {
    path.strip_prefix("/").unwrap_or(path).to_owned()
}

fn find(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| PATH.into());
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file());
    found.with_context(|| format!("there is no {name} on this machine"))
}

fn ask(command: &mut Command) -> anyhow::Result<String> {
    let shown = format!("{command:?}");
    command.env_clear().env("LC_ALL", "C");
    let output = output(command, LIMITS).with_context(|| format!("run {shown}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{shown}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(said)
}

/// Reads `git version 2.39.5`.
fn read_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split_whitespace().nth(2)?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The loader of a program, and the libraries that it loads; none for a static one.
fn libraries(program: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let content = std::fs::read(program).with_context(|| format!("read {}", program.display()))?;
    let Some(loader) = loader(&content).with_context(|| format!("read {}", program.display()))? else {
        return Ok(Vec::new());
    };
    let list = ask(Command::new(&loader).arg("--list").arg(program))?;
    let mut found = read_list(&list)?;
    found.push(loader);
    // Before glibc 2.34, users are looked up by a library that no program names.
    let files =
        found.iter().filter(|path| path.ends_with("libc.so.6")).map(|libc| libc.with_file_name("libnss_files.so.2"));
    let more: Vec<PathBuf> = files.filter(|path| path.is_file()).collect();
    found.extend(more);
    Ok(found)
}

/// The loader that an executable names (System V ABI, `PT_INTERP`).
fn loader(elf: &[u8]) -> anyhow::Result<Option<PathBuf>> {
    let header = FileHeader64::<Endianness>::parse(elf)?;
    let endian = header.endian()?;
    let segments = header.program_headers(endian, elf)?;
    let Some(segment) = segments.iter().find(|segment| segment.p_type(endian) == PT_INTERP) else { return Ok(None) };
    let name = segment.data(endian, elf).ok().and_then(|name| name.strip_suffix(b"\0"));
    let name = name.and_then(|name| std::str::from_utf8(name).ok()).context("its loader's name is damaged")?;
    Ok(Some(name.into()))
}

/// Reads lines `NAME => /PATH (0x…)` and `/PATH (0x…)`; the kernel's own library has no path.
fn read_list(list: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for line in list.lines() {
        let named = line.split_once("=>").map_or(line, |(_, path)| path).trim();
        if named.starts_with("not found") {
            bail!("the loader does not find a library: {}", line.trim());
        }
        let path = named.split(" (").next().unwrap_or_default();
        if path.starts_with('/') {
            found.push(path.into());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_and_ssh_of_this_machine_are_found_with_their_libraries() {
        let files = git_and_ssh().unwrap();
        let has = |end: &str| files.iter().any(|file| file.to.to_string_lossy().contains(end));
        assert!(has("usr/bin/git") && has("usr/bin/ssh") && has("libc.so") && has("ld-"), "{files:?}");
        assert!(files.len() < 40, "{files:?}");
        let size: u64 = files.iter().map(|file| std::fs::metadata(&file.from).unwrap().len()).sum();
        assert!(size < 20 << 20, "{size}");
        // They are all that the programs need: they run where there is nothing else.
        let root = tempfile::tempdir().unwrap();
        for file in &files {
            let to = root.path().join(&file.to);
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::copy(&file.from, to).unwrap();
        }
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        // A device that every container has, and the users of the image.
        for (path, content) in [("dev/null", ""), ("etc/passwd", "root:x:0:0:root:/:/sbin/nologin\n")] {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        for command in [[git_gate::GIT, "--version"], [git_gate::SSH, "-V"]] {
            let done = Command::new("chroot").arg(root.path()).args(command).output().unwrap();
            assert!(done.status.success(), "{done:?}");
        }
    }

    #[test]
    fn what_a_loader_and_git_say_is_read() {
        let list = "\tlinux-vdso.so.1 (0x1)\n\tlibz.so.1 => /lib/libz.so.1 (0x2)\n\t/lib64/ld.so.2 (0x3)\n";
        assert_eq!(read_list(list).unwrap(), [Path::new("/lib/libz.so.1"), Path::new("/lib64/ld.so.2")]);
        assert!(read_list("\tlibz.so.1 => not found\n").is_err());
        assert_eq!(read_version("git version 2.39.5 (Apple Git-1)\n"), Some((2, 39)));
        assert_eq!(read_version("git"), None);
    }
}
