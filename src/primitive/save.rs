//! Writes results below the directory of the launch. Scripts can create no other files on the host.

use std::io::Write;
use std::path::{Component, Path};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::Mode;

use super::bottle::Bottle;
use crate::session::{Class, Failure};

/// How many names are tried when one is taken.
const TRIES: u32 = 99;

/// Writes a result below the directory of the launch, never over an existing file and never through a link. Returns
/// its path: `fix.patch`, or `fix-2.patch` if that exists.
///
/// # Errors
/// The path leads outside, its folder does not exist, or it cannot be written.
pub fn save(bottle: &Bottle, path: &str, content: &str) -> Result<String, Failure> {
    let wanted = Path::new(path);
    if path.is_empty() || !wanted.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(Failure::new(
            Class::Input,
            format!("save {path:?}: it is not a path below the directory of the launch"),
        )
        .hint("a relative path without `..`"));
    }
    let Some(directory) = &bottle.host.directory else { return Ok(path.to_owned()) };
    let failed = |error: std::io::Error| {
        Failure::new(Class::Operation, format!("save {path:?} in {}: {error}", directory.display()))
    };
    let root = std::fs::File::open(directory).map_err(failed)?;
    for number in 1..=TRIES {
        let name = numbered(wanted, number);
        let how = OpenHow::new()
            .flags(OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC)
            .mode(Mode::from_bits_truncate(0o644))
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
        match openat2(&root, Path::new(&name), how) {
            Err(nix::errno::Errno::EEXIST) => {}
            Err(error) => return Err(failed(error.into())),
            Ok(file) => {
                std::fs::File::from(file).write_all(content.as_bytes()).map_err(failed)?;
                return Ok(name);
            }
        }
    }
    Err(Failure::new(Class::Input, format!("save {path:?}: it and the {} names after it are taken", TRIES - 1)))
}

fn numbered(path: &Path, number: u32) -> String {
    let text = path.to_string_lossy().into_owned();
    match (number, path.extension()) {
        (1, _) => text,
        (_, Some(end)) => {
            let end = end.to_string_lossy();
            format!("{}-{number}.{end}", &text[..text.len() - end.len() - 1])
        }
        (_, None) => format!("{text}-{number}"),
    }
}
