//! Installs checked objects and references in the user's repository, all or nothing.
//!
//! A pack is two files, which cannot be created in one step. Before, the pack's path is written to a journal in the
//! pull's folder; if the process dies in between, [`sweep`] removes the incomplete pack.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::linkat;

use super::options::refused;
use super::ref_names::Changes;
use super::staging::borrow;
use crate::workspace::clone::is_partial;
use crate::workspace::git::Git;

/// Packs the objects that tips need and that the user does not have. git checks each of them, and that everything
/// they refer to exists. `None` if there are none.
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
    // Files of an earlier attempt.
    for place in [&packed, &checked] {
        if place.exists() {
            std::fs::remove_dir_all(place)?;
        }
    }
    std::fs::create_dir(&packed)?;
    let base = packed.join("new");
    let base = base.to_str().ok_or_else(|| io::Error::other("the path of the state directory is not UTF-8"))?;
    git.feed(&["pack-objects", "--quiet", base], |input| input.write_all(&objects))?;
    let mut files = File::open(the_pack(&packed)?)?;
    borrow(here, repository, &checked)?;
    let strict = if partial { "--fsck-objects" } else { "--strict" };
    Git::alone(&checked)
        .feed(&["index-pack", "--stdin", strict], |input| io::copy(&mut files, input).map(drop))
        .map_err(|error| refused(&error))?;
    the_pack(&checked.join("objects/pack")).map(Some)
}

/// The only pack in a folder.
fn the_pack(folder: &Path) -> io::Result<PathBuf> {
    let mut paths = std::fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path()));
    let found = paths.find(|path| path.extension().is_some_and(|extension| extension == "pack"));
    found.ok_or_else(|| io::Error::other("git does not report the path of its pack"))
}

/// The file in a pull's folder with the path of the pack that is being installed; locked during the installation.
const JOURNAL: &str = "installing";

/// A pack that was added to the user's repository.
pub(super) struct InstalledPack {
    /// The files that did not exist before.
    files: Vec<PathBuf>,
    /// Its locked journal.
    journal: Option<File>,
}

impl InstalledPack {
    /// Removes the pack, the index first.
    pub(super) fn remove(self) {
        let Self { files, journal } = self;
        for path in files.iter().rev() {
            let _ = std::fs::remove_file(path);
        }
        // The journal is locked until here, so that no sweep interferes.
        drop(journal);
    }
}

/// Removes the incomplete pack of a pull that died. The pack of a running pull stays. `staging` is the pull's folder.
pub fn sweep(staging: &Path) {
    let Ok(mut journal) = File::open(staging.join(JOURNAL)) else { return };
    let mut path = Vec::new();
    if journal.try_lock().is_err() || journal.read_to_end(&mut path).is_err() {
        return;
    }
    // A complete journal ends with a zero byte.
    let Some(pack) = path.strip_suffix(b"\0").map(|path| Path::new(OsStr::from_bytes(path))) else { return };
    if !pack.with_extension("idx").exists() {
        let _ = std::fs::remove_file(pack);
    }
}

/// Adds a pack to the user's object store, the index last: git looks for indexes. `staging` is the pull's folder.
pub(super) fn install(here: &Git<'_>, repository: &Path, staging: &Path, pack: &Path) -> io::Result<InstalledPack> {
    let folder = here.line(&["rev-parse", "--git-path", "objects/pack"]).map(|path| repository.join(path));
    let folder = folder.ok_or_else(|| io::Error::other("git does not report the path of its packs"))?;
    std::fs::create_dir_all(&folder)?;
    let mut ready = Vec::new();
    for from in [pack.to_owned(), pack.with_extension("idx")] {
        let to = folder.join(from.file_name().unwrap_or_default());
        if !to.exists() {
            ready.push((unnamed(&folder, &from)?, to));
        }
    }
    let mut installed = InstalledPack { files: Vec::new(), journal: None };
    if let [(_, pack), _] = &ready[..] {
        let mut journal = File::create(staging.join(JOURNAL))?;
        journal.lock()?;
        journal.write_all(&[pack.as_os_str().as_bytes(), b"\0"].concat())?;
        journal.sync_all()?;
        File::open(staging)?.sync_all()?;
        installed.journal = Some(journal);
    }
    for (file, to) in ready {
        if let Err(error) = name(&file, &to) {
            installed.remove();
            return Err(error);
        }
        installed.files.push(to);
    }
    Ok(installed)
}

/// A file without a name; or, if the file system does not support that, with a name that git cleans up if we cannot.
enum PendingFile {
    Open(File),
    Named(PathBuf),
}

impl Drop for PendingFile {
    fn drop(&mut self) {
        if let Self::Named(path) = self {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn unnamed(folder: &Path, from: &Path) -> io::Result<PendingFile> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).mode(0o444);
    let without = options.clone().custom_flags(nix::libc::O_TMPFILE).open(folder);
    let (mut file, files) = if let Ok(file) = without {
        (file.try_clone()?, PendingFile::Open(file))
    } else {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let path = folder.join(format!("tmp_pack_{}", data_encoding::HEXLOWER.encode(&random)));
        (options.create_new(true).open(&path)?, PendingFile::Named(path))
    };
    io::copy(&mut File::open(from)?, &mut file)?;
    file.set_permissions(PermissionsExt::from_mode(0o444))?;
    file.sync_all()?;
    Ok(files)
}

fn name(file: &PendingFile, to: &Path) -> io::Result<()> {
    match file {
        PendingFile::Open(file) => {
            let from = format!("/proc/self/fd/{}", file.as_raw_fd());
            linkat(AT_FDCWD, from.as_str(), AT_FDCWD, to, AtFlags::AT_SYMLINK_FOLLOW).map_err(io::Error::from)
        }
        PendingFile::Named(path) => std::fs::hard_link(path, to),
    }
}

/// Changes references in one transaction, each from its known value; `None` if it must not exist.
pub(super) fn update_refs(here: &Git<'_>, bottle: &str, changes: &Changes) -> io::Result<()> {
    let reason = format!("bottler: pull {bottle}");
    here.feed(&["update-ref", "-m", &reason, "--create-reflog", "-z", "--stdin"], |input| {
        input.write_all(b"start\0")?;
        for (name, (new, old)) in changes {
            let (verb, old) = old.as_ref().map_or(("create", String::new()), |old| ("update", format!("{old}\0")));
            input.write_all(&[verb.as_bytes(), b" ", name, b"\0", new.as_bytes(), b"\0", old.as_bytes()].concat())?;
        }
        input.write_all(b"prepare\0commit\0")
    })?;
    Ok(())
}
