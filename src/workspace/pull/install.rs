//! New objects and references, brought into the user's repository: checked before, all at once or not at all.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::linkat;

use super::staging::borrow;
use crate::workspace::clone::is_partial;
use crate::workspace::git::Git;

/// Packs the objects that lead to some tips and that the user does not have, and has git check every one of them, and that
/// whatever they name is there. `None` where there are none.
pub(super) fn pack(
    here: &Git<'_>,
    repository: &Path,
    staging: &Path,
    tips: &[String],
    known: &[String],
) -> io::Result<Option<PathBuf>> {
    let [import, packed, checked] = ["import", "packed", "checked"].map(|name| staging.join(name));
    let git = Git::alone(&import);
    let partial = is_partial(here);
    let mut arguments = vec!["rev-list", "--objects", "--stdin"];
    if partial {
        arguments.push("--missing=allow-any");
    }
    let objects = git.feed(&arguments, |input| {
        let mut input = io::BufWriter::new(input);
        tips.iter().try_for_each(|tip| writeln!(input, "{tip}"))?;
        known.iter().try_for_each(|commit| writeln!(input, "^{commit}"))?;
        input.flush()
    })?;
    if objects.is_empty() {
        return Ok(None);
    }
    // What an earlier try has left is not this one's.
    for place in [&packed, &checked] {
        if place.exists() {
            std::fs::remove_dir_all(place)?;
        }
    }
    std::fs::create_dir(&packed)?;
    let base = packed.join("new");
    let base = base.to_str().ok_or_else(|| io::Error::other("the state directory has a name that is no UTF-8"))?;
    git.feed(&["pack-objects", "--quiet", base], |input| input.write_all(&objects))?;
    let mut made = File::open(the_pack(&packed)?)?;
    borrow(here, repository, &checked)?;
    let strict = if partial { "--fsck-objects" } else { "--strict" };
    Git::alone(&checked)
        .feed(&["index-pack", "--stdin", strict], |input| io::copy(&mut made, input).map(drop))
        .map_err(|error| super::refused(&error))?;
    the_pack(&checked.join("objects/pack")).map(Some)
}

/// The one pack in a folder.
fn the_pack(folder: &Path) -> io::Result<PathBuf> {
    let mut paths = std::fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path()));
    let found = paths.find(|path| path.extension().is_some_and(|extension| extension == "pack"));
    found.ok_or_else(|| io::Error::other("git does not say where its pack is"))
}

/// Puts a pack into the user's store, its index last: git looks for that. The paths of what was not there.
pub(super) fn install(here: &Git<'_>, repository: &Path, pack: &Path) -> io::Result<Vec<PathBuf>> {
    let folder = here.line(&["rev-parse", "--git-path", "objects/pack"]).map(|path| repository.join(path));
    let folder = folder.ok_or_else(|| io::Error::other("git does not say where its packs are"))?;
    std::fs::create_dir_all(&folder)?;
    let mut ready = Vec::new();
    for from in [pack.to_owned(), pack.with_extension("idx")] {
        let to = folder.join(from.file_name().unwrap_or_default());
        if !to.exists() {
            ready.push((unnamed(&folder, &from)?, to));
        }
    }
    let mut made = Vec::new();
    for (file, to) in ready {
        if let Err(error) = name(&file, &to) {
            remove(&made);
            return Err(error);
        }
        made.push(to);
    }
    Ok(made)
}

/// Removes what [`install`] has made, the index first.
pub(super) fn remove(made: &[PathBuf]) {
    for path in made.iter().rev() {
        let _ = std::fs::remove_file(path);
    }
}

/// A file without a name yet, or, where the file system has none such, with one that git removes if we cannot.
enum Unnamed {
    Open(File),
    Named(PathBuf),
}

impl Drop for Unnamed {
    fn drop(&mut self) {
        if let Self::Named(path) = self {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn unnamed(folder: &Path, from: &Path) -> io::Result<Unnamed> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).mode(0o444);
    let without = options.clone().custom_flags(nix::libc::O_TMPFILE).open(folder);
    let (mut file, made) = if let Ok(file) = without {
        (file.try_clone()?, Unnamed::Open(file))
    } else {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let path = folder.join(format!("tmp_pack_{}", data_encoding::HEXLOWER.encode(&random)));
        (options.create_new(true).open(&path)?, Unnamed::Named(path))
    };
    io::copy(&mut File::open(from)?, &mut file)?;
    file.set_permissions(PermissionsExt::from_mode(0o444))?;
    file.sync_all()?;
    Ok(made)
}

fn name(file: &Unnamed, to: &Path) -> io::Result<()> {
    match file {
        Unnamed::Open(file) => {
            let from = format!("/proc/self/fd/{}", file.as_raw_fd());
            linkat(AT_FDCWD, from.as_str(), AT_FDCWD, to, AtFlags::AT_SYMLINK_FOLLOW).map_err(io::Error::from)
        }
        Unnamed::Named(path) => std::fs::hard_link(path, to),
    }
}

/// Changes references in one transaction: each from what it was seen at, `None` for one that was not there.
pub(super) fn refer(
    here: &Git<'_>,
    bottle: &str,
    changes: &BTreeMap<String, (String, Option<String>)>,
) -> io::Result<()> {
    let reason = format!("bottler: pull {bottle}");
    here.feed(&["update-ref", "-m", &reason, "--create-reflog", "-z", "--stdin"], |input| {
        input.write_all(b"start\0")?;
        for (name, (new, old)) in changes {
            match old {
                Some(old) => write!(input, "update {name}\0{new}\0{old}\0")?,
                None => write!(input, "create {name}\0{new}\0")?,
            }
        }
        input.write_all(b"prepare\0commit\0")
    })?;
    Ok(())
}
