//! Atomic file operations: a reader, a crash or a power loss never sees a half-written file.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::linkat;

use super::process::process_identity;

/// Makes the names of temporary files of one process unique.
static NEXT: AtomicU32 = AtomicU32::new(0);
/// How the names of temporary files end.
const UNFINISHED: &str = ".new";

/// Creates a folder and its parents, accessible to this user only.
///
/// # Errors
/// It cannot be created; the error names the path.
pub fn make_private(path: &Path) -> io::Result<()> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            io::Error::new(error.kind(), format!("create the folder {}: something else has its name", path.display()))
        }
        kind => io::Error::new(kind, format!("create the folder {}: {error}", path.display())),
    })
}

/// Refuses a folder of another user's. Files that root makes in it would keep that user from what it has; an error of this user's
/// would not say whose it is. One that is not there is nobody's.
///
/// # Errors
/// It is; the error names both.
pub fn check_own(path: &Path) -> io::Result<()> {
    let (own, Ok(found)) = (nix::unistd::geteuid().as_raw(), std::fs::metadata(path)) else { return Ok(()) };
    if found.uid() == own {
        return Ok(());
    }
    let why = format!("{} belongs to user {}, and this is user {own}", path.display(), found.uid());
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
}

/// Replaces a file atomically, readable by this user only. A reader sees the old or the new content, even after a
/// power loss (rename(2) over a synchronised file).
///
/// # Errors
/// It cannot be written; the old file is unchanged then.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let beside = beside(path);
    let folder = path.parent().unwrap_or(Path::new("/"));
    let written = create(&beside, folder, 0o600, |out| out.write_all(content));
    let written = written.and_then(|()| std::fs::rename(&beside, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
        return written;
    }
    synchronise(folder);
    Ok(())
}

/// Replaces a file atomically for readers, readable by this user only, but not for a power loss, after which it may be empty: for what
/// means nothing after a restart of this machine. It waits for no disk.
///
/// # Errors
/// It cannot be written; the old file is unchanged then.
pub fn replace_in_memory(path: &Path, content: &[u8]) -> io::Result<()> {
    let beside = beside(path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    let written = file.write_all(content).and_then(|()| std::fs::rename(&beside, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written
}

/// Has the disk keep files of a folder that [`replace_in_memory`] wrote. Those that are not there are left out.
///
/// # Errors
/// The disk refuses one of them.
pub fn keep_on_disk(folder: &Path, names: &[&str]) -> io::Result<()> {
    for name in names {
        match File::open(folder.join(name)) {
            Ok(file) => file.sync_all()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    synchronise(folder);
    Ok(())
}

/// Removes from a folder what processes that have ended between the two steps of [`replace`] left there. `ending`: a process
/// that counts as ended, although the kernel may not have finished with it.
pub fn sweep_unfinished(folder: &Path, ending: Option<u32>) {
    let ending = ending.map(|number| number.to_string());
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let unfinished = name.to_str().and_then(|name| name.strip_prefix('.')?.strip_suffix(UNFINISHED));
        let maker = unfinished.and_then(|name| name.rsplit_once('.')?.1.split_once('-'));
        if maker.is_some_and(|(number, _)| ending.as_deref() == Some(number) || process_identity(number).is_none()) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Creates a file atomically: it gets its name only after its content is on the disk, so an interruption leaves
/// nothing. `folder` is its parent.
///
/// # Errors
/// A file of this name exists, or it cannot be written.
pub fn create_whole(
    path: &Path,
    folder: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    create(path, folder, 0o666, write)?;
    synchronise(folder);
    Ok(())
}

fn create(
    path: &Path,
    folder: &Path,
    mode: u32,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    let Ok(file) = OpenOptions::new().write(true).mode(mode).custom_flags(nix::libc::O_TMPFILE).open(folder) else {
        // The file system does not support unnamed files.
        let mut out = BufWriter::new(OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?);
        let written =
            write(&mut out).and_then(|()| out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all());
        if written.is_err() {
            let _ = std::fs::remove_file(path);
        }
        return written;
    };
    let mut out = BufWriter::with_capacity(1 << 20, file);
    write(&mut out)?;
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    let from = format!("/proc/self/fd/{}", file.as_raw_fd());
    linkat(AT_FDCWD, from.as_str(), AT_FDCWD, path, AtFlags::AT_SYMLINK_FOLLOW)?;
    Ok(())
}

/// Synchronises a folder. Not every file system supports this, and a file's content is safe either way.
fn synchronise(folder: &Path) {
    let _ = File::open(folder).map(|folder| folder.sync_all());
}

/// The temporary name of a file that will replace another: `.NAME.PROCESS-NUMBER.new`.
fn beside(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}-{}{UNFINISHED}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_a_failure_leaves_it_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        std::fs::create_dir(folder.path().join("taken")).unwrap();
        assert!(replace(&folder.path().join("taken"), b"x").is_err());
        replace_in_memory(&path, b"three").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"three");
        assert!(replace_in_memory(&folder.path().join("taken"), b"x").is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "no temporary file is left");
    }

    #[test]
    fn what_a_dead_process_was_writing_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let mut zombie = std::process::Command::new("true").spawn().unwrap();
        let dead = zombie.id().to_string();
        while process_identity(&dead).is_some() {
            std::thread::yield_now();
        }
        let own = std::process::id();
        let files = [format!(".a.{dead}-1.new"), format!(".a.{own}-1.new"), "a.new".into(), ".b".into(), ".new".into()];
        for name in &files {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let left = || files.each_ref().map(|name| folder.path().join(name).exists());
        sweep_unfinished(folder.path(), None);
        assert_eq!(left(), [false, true, true, true, true]);
        sweep_unfinished(folder.path(), Some(own));
        assert_eq!(left(), [false, false, true, true, true]);
        zombie.wait().unwrap();
    }
}
