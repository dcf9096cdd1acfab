//! `bottler files`, run by an exec: copies one file into or out of its container, with the container's permissions.

use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::Context;
use nix::libc;

/// The role's name on the command line.
pub const ROLE: &str = "files";
/// Maximum size of a file, in bytes.
pub const MAX_FILE: usize = 16 << 20;

/// `put PATH MODE` writes standard input to a file; `get PATH` writes a file to standard output.
///
/// # Errors
/// The arguments are invalid, or the file cannot be written or read.
pub fn run(words: &[&str]) -> anyhow::Result<()> {
    match words {
        ["put", path, mode] => {
            let mode = self::mode(mode).context("the mode is not octal")?;
            put(Path::new(path), mode, std::io::stdin().lock())
        }
        ["get", path] => get(Path::new(path), std::io::stdout().lock()),
        _ => anyhow::bail!("files: takes put PATH MODE, or get PATH"),
    }
}

/// Parses permission bits in octal.
pub fn mode(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777)
}

fn put(path: &Path, mode: u32, from: impl Read) -> anyhow::Result<()> {
    let mut from = from.take(MAX_FILE as u64);
    let mut write = || -> std::io::Result<()> {
        let mut file = super::place::open(path, mode)?;
        std::io::copy(&mut from, &mut file)?;
        file.set_permissions(PermissionsExt::from_mode(mode))
    };
    write().with_context(|| format!("write {}", path.display()))
}

fn get(path: &Path, mut to: impl Write) -> anyhow::Result<()> {
    let opened = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = opened.with_context(|| format!("read {}", path.display()))?;
    let seen = file.metadata()?;
    anyhow::ensure!(seen.is_file(), "read {}: it is not a regular file", path.display());
    anyhow::ensure!(
        seen.len() <= MAX_FILE as u64,
        "read {}: {} bytes are more than {MAX_FILE}",
        path.display(),
        seen.len()
    );
    std::io::copy(&mut file.take(MAX_FILE as u64), &mut to)?;
    Ok(to.flush()?)
}
