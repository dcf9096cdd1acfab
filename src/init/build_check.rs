//! `bottler build-check`, run by an exec in the container of a build when its steps have run, as root: refuses a file system of
//! which no image may be made.
//!
//! Attacks that this stops: a pipe or a device where the engine or the next launch reads a file, and waits for ever; a link on the
//! way to a place where the next launch mounts something, by which that lies where the agent can move it.

use std::path::{Component, Path, PathBuf};

use anyhow::{Context, ensure};

use crate::layout::agent::{
    BUNDLE_FILE, BUNDLES, GROUP_FILE, MAX_IMAGE_FILE, OWN_BUNDLE, PASSWD_FILE, RUN_DIR, SERVICES_DIR,
};
use crate::layout::supervise::POLICY_DIR;

/// The role's name on the command line.
pub const ROLE: &str = "build-check";
/// Files that are read of an image, besides its certificates in their usual places.
const FILES: [&str; 3] = [PASSWD_FILE, GROUP_FILE, OWN_BUNDLE];
/// Where nothing lasts, or no file is what it seems.
const OTHER: [&str; 4] = ["/proc", "/sys", "/dev", "/run"];

/// Checks what is read of an image and where a launch mounts something; `more` are further places of that kind.
///
/// # Errors
/// The first thing that is not as it must be.
pub fn run(more: &[&str]) -> anyhow::Result<()> {
    check(Path::new("/"), more)
}

fn check(root: &Path, more: &[&str]) -> anyhow::Result<()> {
    for file in FILES.into_iter().chain(BUNDLES) {
        is_readable(root, file)?;
    }
    for place in [RUN_DIR, SERVICES_DIR, POLICY_DIR].into_iter().chain(more.iter().copied()) {
        has_no_link(root, place)?;
    }
    Ok(())
}

fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// A regular file of bounded size, or none. Looking at a pipe does not wait, unlike opening it.
fn is_readable(root: &Path, file: &str) -> anyhow::Result<()> {
    let path = below(root, file);
    let Ok(seen) = std::fs::symlink_metadata(&path) else { return Ok(()) };
    let place = if seen.is_symlink() {
        // A link that leads nowhere is no file.
        let Ok(place) = path.canonicalize() else { return Ok(()) };
        place
    } else {
        path.clone()
    };
    let inside = Path::new("/").join(place.strip_prefix(root).unwrap_or(&place));
    if inside == Path::new(BUNDLE_FILE) {
        // Our own layer puts this link there. In an image it leads nowhere.
        return Ok(());
    }
    ensure!(!OTHER.iter().any(|other| inside.starts_with(other)), "{file} leads to {}", inside.display());
    let seen = std::fs::metadata(&place).with_context(|| format!("look at {file}"))?;
    ensure!(seen.is_file(), "{file} is not a regular file");
    ensure!(seen.len() <= MAX_IMAGE_FILE as u64, "{file} has more than {MAX_IMAGE_FILE} bytes");
    Ok(())
}

/// A folder, with nothing but folders on the way, as far as they exist.
fn has_no_link(root: &Path, place: &str) -> anyhow::Result<()> {
    let mut path = root.to_owned();
    for step in Path::new(place).components() {
        let Component::Normal(step) = step else { continue };
        path.push(step);
        let Ok(seen) = std::fs::symlink_metadata(&path) else { return Ok(()) };
        ensure!(seen.is_dir(), "{place}: {} is not a folder", path.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn an_image_has_files_where_files_are_read_and_folders_where_something_is_mounted() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let at = |path: &str| below(&root, path);
        let checked = || check(&root, &["/home/me"]).map_err(|error| format!("{error:#}")).err().unwrap_or_default();
        for place in ["/etc/ssl/certs", "/run/bottler-services/egress", "/home/me", "/proc/self"] {
            std::fs::create_dir_all(at(place)).unwrap();
        }
        std::fs::write(at("/etc/passwd"), "x").unwrap();
        std::fs::write(at("/etc/bundle"), "x").unwrap();
        symlink("../../bundle", at("/etc/ssl/certs/ca-certificates.crt")).unwrap();
        std::fs::create_dir_all(at("/etc/pki/tls/certs")).unwrap();
        std::fs::create_dir_all(at(RUN_DIR)).unwrap();
        std::fs::write(at(BUNDLE_FILE), "x").unwrap();
        symlink(at(BUNDLE_FILE), at("/etc/pki/tls/certs/ca-bundle.crt")).unwrap();
        symlink("nowhere", at("/etc/ssl/cert.pem")).unwrap();
        assert_eq!(checked(), "");
        let again = |path: &str| {
            let _ = std::fs::remove_file(at(path));
        };
        nix::unistd::mkfifo(&at("/etc/group"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(checked().contains("/etc/group is not a regular file"), "{}", checked());
        again("/etc/group");
        std::fs::write(at("/proc/self/environ"), "x").unwrap();
        symlink(at("/proc/self/environ"), at("/etc/group")).unwrap();
        assert!(checked().contains("/etc/group leads to /proc"), "{}", checked());
        again("/etc/group");
        std::fs::File::create(at("/etc/group")).unwrap().set_len(MAX_IMAGE_FILE as u64 + 1).unwrap();
        assert!(checked().contains("more than"), "{}", checked());
        again("/etc/group");
        symlink("/", at(OWN_BUNDLE)).unwrap();
        assert!(checked().contains("certificates.pem is not a regular file"), "{}", checked());
        again(OWN_BUNDLE);
        std::fs::rename(at("/run/bottler-services"), at("/run/other")).unwrap();
        symlink("other", at("/run/bottler-services")).unwrap();
        assert!(checked().contains("bottler-services is not a folder"), "{}", checked());
        again("/run/bottler-services");
        std::fs::remove_dir(at("/home/me")).unwrap();
        symlink("/etc", at("/home/me")).unwrap();
        assert!(checked().contains("/home/me is not a folder"), "{}", checked());
    }
}
