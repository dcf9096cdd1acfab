//! Writes the files that the agent receives into its container, with its permissions.
//!
//! Attacks: a home that an earlier agent has left may have a link, a pipe or a folder in the place of a file or of a
//! folder on the way to it. There, no link is followed on the way, and whatever is in the place of the file is replaced
//! by it, unless that is a folder. Links of the image, elsewhere, are followed.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, readlinkat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, mkdirat, stat};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// How many links are followed, as by the kernel (`path_resolution(7)`).
const MAX_LINKS: usize = 40;
/// How many names are tried for a new file.
const MAX_NAMES: usize = 100;
const FOLDER: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Writes a file and the folders on the way to it. `left` is the home, if an earlier agent has left it.
pub(super) fn write(path: &str, content: &[u8], mode: u32, left: Option<&str>) -> anyhow::Result<()> {
    let attempt = || match left {
        Some(home) => write_beside(Path::new(path), content, mode, Path::new(home)),
        None => Ok(write_through(Path::new(path), content, mode)?),
    };
    attempt().with_context(|| format!("write {path} in the bottle"))
}

/// Writes where the image, or whoever the command is not, has made everything.
fn write_through(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut file = open(path, mode)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("there is something else than a file in its place"));
    }
    file.write_all(content)?;
    // The umask may have cleared bits.
    file.set_permissions(PermissionsExt::from_mode(mode))
}

/// Opens a file to be written, and makes the folders on the way to it. A pipe in its place is an error, and never waited for.
pub(super) fn open(path: &Path, mode: u32) -> io::Result<std::fs::File> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(mode).custom_flags(OFlag::O_NONBLOCK.bits());
    options.open(path)
}

/// Writes where an earlier agent may have been.
fn write_beside(path: &Path, content: &[u8], mode: u32, home: &Path) -> anyhow::Result<()> {
    let Found { folder, name, is_left } = find(path, home)?;
    if !is_left {
        // What is in the place is no link.
        return Ok(write_through(path, content, mode)?);
    }
    match look(&folder, &name)? {
        Some(found) if is_kind(&found, SFlag::S_IFDIR) => {
            bail!("an earlier agent has left a folder there: remove it, or start with a fresh home")
        }
        Some(_) | None => {}
    }
    let (new, file) = create(&folder, mode).context("make a file in its folder, which an earlier agent has left")?;
    let mut file = std::fs::File::from(file);
    let written = file
        .write_all(content)
        .and_then(|()| file.set_permissions(PermissionsExt::from_mode(mode)))
        .and_then(|()| Ok(renameat(&folder, new.as_str(), &folder, name.as_os_str())?));
    if written.is_err() {
        let _ = unlinkat(&folder, new.as_str(), UnlinkatFlags::NoRemoveDir);
    }
    Ok(written?)
}

/// Creates a file under a name of its own.
fn create(folder: &OwnedFd, mode: u32) -> io::Result<(String, OwnedFd)> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    for number in 0..MAX_NAMES {
        let name = format!(".bottler-new-{}-{number}", std::process::id());
        match openat(folder, name.as_str(), flags, Mode::from_bits_truncate(mode)) {
            Err(Errno::EEXIST) => {}
            opened => return Ok((name, opened?)),
        }
    }
    Err(Errno::EEXIST.into())
}

/// Where a file goes.
struct Found {
    folder: OwnedFd,
    name: OsString,
    /// Whether that is in the home.
    is_left: bool,
}

/// Resolves a path step by step, and makes the folders that are missing. A link in the home is an error, but for the
/// last step.
fn find(path: &Path, home: &Path) -> anyhow::Result<Found> {
    let root = openat(AT_FDCWD, "/", FOLDER, Mode::empty())?;
    let home = stat(home).with_context(|| format!("look at {}", home.display()))?;
    let is_home = |folder: &OwnedFd| -> io::Result<bool> {
        let seen = fstat(folder)?;
        Ok((seen.st_dev, seen.st_ino) == (home.st_dev, home.st_ino))
    };
    let mut steps = steps(path);
    let mut folder = root.try_clone()?;
    let (mut shown, mut links, mut is_left) = (PathBuf::from("/"), 0, false);
    while let Some(step) = steps.pop_front() {
        let place = shown.join(&step);
        let seen = look(&folder, &step).with_context(|| format!("look at {}", place.display()))?;
        let is_link = seen.as_ref().is_some_and(|seen| is_kind(seen, SFlag::S_IFLNK));
        if is_link && !is_left {
            links += 1;
            ensure!(links <= MAX_LINKS, "{}: there are too many links", place.display());
            let target = PathBuf::from(readlinkat(&folder, step.as_os_str())?);
            if target.is_absolute() {
                (folder, shown) = (root.try_clone()?, PathBuf::from("/"));
            }
            for step in self::steps(&target).into_iter().rev() {
                steps.push_front(step);
            }
            continue;
        }
        if steps.is_empty() && step != OsStr::new("..") {
            return Ok(Found { folder, name: step, is_left });
        }
        match seen {
            Some(seen) if is_kind(&seen, SFlag::S_IFDIR) => {}
            Some(_) => bail!("{} is not a folder: an earlier agent has left something else there", place.display()),
            None => mkdirat(&folder, step.as_os_str(), Mode::from_bits_truncate(0o777))
                .with_context(|| format!("make {}", place.display()))?,
        }
        folder = openat(&folder, step.as_os_str(), FOLDER, Mode::empty())
            .with_context(|| format!("open {}", place.display()))?;
        is_left |= is_home(&folder)?;
        shown = place;
    }
    bail!("{} is a folder", path.display())
}

fn steps(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|step| match step {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

fn look(folder: &OwnedFd, name: &OsStr) -> io::Result<Option<FileStat>> {
    match fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Err(Errno::ENOENT) => Ok(None),
        seen => Ok(Some(seen?)),
    }
}

fn is_kind(seen: &FileStat, kind: SFlag) -> bool {
    SFlag::from_bits_truncate(seen.st_mode & SFlag::S_IFMT.bits()) == kind
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn text(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn nothing_that_an_agent_left_in_its_home_leads_a_file_elsewhere() {
        let root = tempfile::tempdir().unwrap();
        let (home, other) = (root.path().join("home"), root.path().join("other"));
        std::fs::create_dir_all(home.join("real")).unwrap();
        std::fs::create_dir(&other).unwrap();
        std::fs::write(other.join("file"), "theirs").unwrap();
        symlink(&other, home.join("out")).unwrap();
        symlink("real", home.join("in")).unwrap();
        symlink(other.join("file"), home.join("link")).unwrap();
        symlink(other.join("missing"), home.join("dangling")).unwrap();
        nix::unistd::mkfifo(&home.join("pipe"), Mode::S_IRWXU).unwrap();
        std::fs::create_dir(home.join("folder")).unwrap();
        std::fs::write(home.join("read-only"), "old").unwrap();
        std::fs::set_permissions(home.join("read-only"), PermissionsExt::from_mode(0o400)).unwrap();
        let left = home.to_str().unwrap();
        let put = |path: &str| write(home.join(path).to_str().unwrap(), b"ours", 0o640, Some(left));
        for name in ["link", "dangling", "pipe", "read-only", "new", "real/x", "made/deep/x"] {
            put(name).unwrap_or_else(|error| panic!("{name}: {error:#}"));
            let path = home.join(name);
            assert_eq!(text(&path), "ours", "{name}");
            let seen = std::fs::symlink_metadata(&path).unwrap();
            assert!(seen.is_file() && seen.permissions().mode() & 0o777 == 0o640, "{name}");
        }
        for (name, why) in [
            ("out/file", "is not a folder"),
            ("out/deep/x", "is not a folder"),
            ("in/x", "is not a folder"),
            ("new/x", "is not a folder"),
            ("folder", "a folder"),
        ] {
            let error = format!("{:#}", put(name).unwrap_err());
            assert!(error.contains(why) && error.contains("in the bottle"), "{name}: {error}");
        }
        assert_eq!(text(&other.join("file")), "theirs");
        let mut names: Vec<_> = std::fs::read_dir(&other).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["file"]);
        let strays = std::fs::read_dir(&home).unwrap().map(|entry| entry.unwrap().file_name());
        assert!(strays.into_iter().all(|name| !name.to_string_lossy().starts_with(".bottler-new")));
    }

    #[test]
    fn links_of_the_image_are_followed_to_the_home_and_elsewhere_and_never_back_out() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        for folder in ["home/dev", "opt"] {
            std::fs::create_dir_all(at(folder)).unwrap();
        }
        symlink(at("home/dev"), at("home/agent")).unwrap();
        symlink("../home/dev/.config", at("opt/config")).unwrap();
        symlink("real", at("opt/link")).unwrap();
        symlink(at("opt"), at("home/dev/.config")).unwrap();
        let left = at("home/dev").to_str().unwrap().to_owned();
        let put = |path: &str| write(at(path).to_str().unwrap(), b"ours", 0o600, Some(&left));
        put("home/agent/.x/file").unwrap();
        assert_eq!(text(&at("home/dev/.x/file")), "ours");
        put("opt/link").unwrap();
        assert_eq!(text(&at("opt/real")), "ours");
        assert!(put("opt/config/file").is_err(), "by a link of the image to a link of the agent");
        assert!(!at("opt/file").exists());
        nix::unistd::mkfifo(&at("opt/pipe"), Mode::S_IRWXU).unwrap();
        assert!(write(at("opt/pipe").to_str().unwrap(), b"ours", 0o600, None).is_err(), "a pipe of the image");
        // Without an earlier agent, all links are the image's.
        let path = at("home/dev/.config/file");
        write(path.to_str().unwrap(), b"ours", 0o600, None).unwrap();
        assert_eq!(text(&at("opt/file")), "ours");
    }
}
