//! Hands one agent's workspace to another agent: its files, and a repository with the history. Of the first agent's
//! repository only objects, branches, tags and HEAD are taken; settings and hooks are those of the seed.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::clone::zeroed;
use super::entry::Entry;
use super::file::MAX_ARCHIVE;
use super::git::Git;
use super::name::Name;
use super::pull::staging::{import, present};
use super::reftable::Value;
use super::seed::{TemporaryFile, append, create_private, folder};
use super::snapshot::Snapshot;
use super::walk::{RootDir, walk};

/// The reference to the commit that the first agent started from.
const START: &str = "refs/bottler/start";

/// Writes the archive. `seed` is the workspace's seed, and `before` its snapshot. `staging` is a temporary folder,
/// which is left empty.
///
/// # Errors
/// Something cannot be read or written, or git rejects the agent's objects.
pub fn hand_off(
    seed: &Path,
    before: &Snapshot,
    after: &Snapshot,
    staging: &Path,
    archive: TemporaryFile,
) -> io::Result<TemporaryFile> {
    let mut tar = tar::Builder::new(create_private(archive.path())?);
    for (name, entry) in &after.files {
        let (mut header, path) = (tar::Header::new_gnu(), OsStr::from_bytes(name));
        header.set_mtime(0);
        match entry {
            Entry::File(file) => {
                header.set_size(file.size);
                header.set_mode(if file.executable { 0o755 } else { 0o644 });
                tar.append_data(&mut header, path, after.reader(file)?)?;
            }
            Entry::Link(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_size(0);
                header.set_mode(0o777);
                tar.append_link(&mut header, path, OsStr::from_bytes(target))?;
            }
        }
    }
    if before.repository.has_head() {
        let made = tempfile(staging, "handed")?;
        for name in unpack(seed, &made.0)? {
            // The folders of submodules.
            if !after.files.contains_key(&name) {
                folder(&mut tar, &name)?;
            }
        }
        repository(before, after, &made.0)?;
        let opened = RootDir::at(&made.0)?;
        let mut left = MAX_ARCHIVE.saturating_sub(after.size);
        for path in walk(&made.0, usize::MAX)? {
            let name = format!(".git/{path}");
            append(&mut tar, &opened, (path.as_bytes(), name.as_bytes()), None, &mut left)?;
        }
        folder(&mut tar, b".git/refs")?;
        folder(&mut tar, b".git/objects")?;
    }
    tar.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    Ok(archive)
}

/// A folder that is removed when dropped.
struct StagingDir(std::path::PathBuf);

impl Drop for StagingDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn tempfile(staging: &Path, name: &str) -> io::Result<StagingDir> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let made = StagingDir(staging.join(format!("{name}-{}", data_encoding::HEXLOWER.encode(&random))));
    for below in ["refs", "objects"] {
        std::fs::create_dir_all(made.0.join(below))?;
    }
    Ok(made)
}

/// Unpacks the repository of a seed, without its index. Returns the other folders in the archive.
fn unpack(seed: &Path, to: &Path) -> io::Result<Vec<Name>> {
    let mut folders = Vec::new();
    for entry in tar::Archive::new(BufReader::with_capacity(1 << 20, File::open(seed)?)).entries()? {
        let mut entry = entry?;
        let (name, is_folder) = (entry.path_bytes().into_owned(), entry.header().entry_type().is_dir());
        let name = name.strip_suffix(b"/").unwrap_or(&name);
        match name.strip_prefix(b".git/") {
            Some(b"index") => {}
            Some(inside) if entry.header().entry_type().is_file() => {
                let path = to.join(OsStr::from_bytes(inside));
                path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
                io::copy(&mut entry, &mut File::create_new(path)?)?;
            }
            None if is_folder && name != b".git" => folders.push(name.to_vec()),
            _ => {}
        }
    }
    Ok(folders)
}

/// Imports the agent's objects and references into the seed's repository.
fn repository(before: &Snapshot, after: &Snapshot, to: &Path) -> io::Result<()> {
    import(before, after, true, to)?;
    let git = Git::alone(to);
    let tips = after.repository.tips();
    let there = present(&git, tips.values())?;
    // Without reflogs, because they would contain this host's name.
    let refer = |words: &[&str]| git.run(&[&["-c", "core.logAllRefUpdates=false"], words].concat());
    if let Some(start) = before.repository.head() {
        refer(&["update-ref", START, &start])?;
    }
    for (name, tip) in tips.iter().filter(|(_, tip)| there.contains(*tip)) {
        if name.starts_with(b"refs/heads/") || name.starts_with(b"refs/tags/") {
            // git rejects the name, or it conflicts with another reference: the other agent does without it.
            let _ = git.feed(&["-c", "core.logAllRefUpdates=false", "update-ref", "-z", "--stdin"], |input| {
                input.write_all(&[b"update ", &name[..], b"\0", tip.as_bytes(), b"\0\0"].concat())
            });
        }
    }
    let detach = |commit: &str| refer(&["update-ref", "--no-deref", "HEAD", commit]);
    match after.repository.checked_out() {
        Some(Value::Symbolic(branch)) if branch.starts_with(b"refs/heads/") => match std::str::from_utf8(branch) {
            Ok(branch) => drop(refer(&["symbolic-ref", "HEAD", branch])?),
            // git's command line only takes text; detach at the same commit.
            Err(_) => drop(after.repository.head().map(|commit| detach(&commit)).transpose()?),
        },
        Some(Value::Object(commit)) if there.contains(commit) => drop(detach(commit)?),
        _ => {}
    }
    if git.line(&["rev-parse", "--verify", "--quiet", "HEAD^{commit}"]).is_none() {
        return Ok(());
    }
    let place = |path: &Path| path.to_string_lossy().into_owned();
    let tree = Git::alone(to).env("GIT_DIR", place(to)).env("GIT_WORK_TREE", place(to));
    tree.run(&["read-tree", "HEAD"])?;
    let Some(marks) = before.index() else { return Ok(()) };
    let listed = git.run(&["ls-files", "-z"])?;
    let names: Vec<Name> =
        listed.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect();
    let is_absent = |name: &Name| marks.skips(name) && !after.files.contains_key(name);
    let absent: Vec<&Name> = names.iter().filter(|name| is_absent(name)).collect();
    let assumed: Vec<&Name> = names.iter().filter(|name| marks.assumes(name)).collect();
    for (option, names) in [("--skip-worktree", absent), ("--assume-unchanged", assumed)] {
        if !names.is_empty() {
            tree.feed(&["update-index", option, "-z", "--stdin"], |input| zeroed(input, names.iter().copied()))?;
        }
    }
    Ok(())
}
