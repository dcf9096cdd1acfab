//! A folder of the host as an agent gets it: with git, what is tracked or not ignored, and a repository of its own that
//! has the same history and none of its settings, hooks and credentials.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::git::Git;
use super::ignored::Ignored;
use super::walk::{Kind, Opened, walk};
use super::{Files, Left, MAX_FILES};

/// What a workspace begins with.
#[derive(Debug)]
pub enum Seed {
    /// Files in memory.
    Files(Files),
    /// An archive on this disk.
    Archive(PathBuf),
}

impl Seed {
    /// What is in it, the files without `.git`.
    ///
    /// # Errors
    /// The archive cannot be read.
    pub fn read(&self) -> io::Result<Left> {
        match self {
            Self::Files(files) => Ok(Left { files: files.clone(), ..Left::default() }),
            Self::Archive(path) => super::read(path, "", None),
        }
    }
}

/// The paths that would be copied, and whether there is a repository.
///
/// # Errors
/// The folder cannot be read, or holds too many files.
pub fn list(root: &Path, exclude: &[String]) -> io::Result<(Vec<String>, bool)> {
    if !std::fs::metadata(root)?.is_dir() {
        return Err(io::Error::other("it is no folder"));
    }
    let git = Git::at(root);
    let top = git.line(&["rev-parse", "--show-toplevel"]).map(PathBuf::from);
    let (paths, is_top) = match top {
        Some(top) => {
            let known = git.run(&["ls-files", "-z", "--cached", "--others", "--exclude-standard"])?;
            let mut paths = BTreeSet::new();
            for path in known.split(|byte| *byte == 0).filter(|path| !path.is_empty()) {
                let path = std::str::from_utf8(path);
                let path = path.map_err(|_| io::Error::other("there is a name that is no UTF-8"))?;
                // A repository inside that git does not follow is named with its folder.
                paths.insert(path.trim_end_matches('/').to_owned());
            }
            let same = top.canonicalize().ok() == root.canonicalize().ok();
            (paths.into_iter().collect(), same)
        }
        None if root.join(".git").exists() => {
            // Copied whole, it would bring along what git is told to leave alone.
            let why = git.run(&["rev-parse", "--show-toplevel"]).err();
            let why = why.map_or_else(|| "git does not say where it begins".to_owned(), |error| error.to_string());
            return Err(io::Error::other(format!("there is a repository that git cannot read: {why}")));
        }
        None => (walk(root, MAX_FILES)?, false),
    };
    let mut excluded = Ignored::default();
    excluded.add("", &exclude.join("\n"));
    let paths: Vec<String> = paths.into_iter().filter(|path| !excluded.has(path)).collect();
    if paths.len() > MAX_FILES {
        return Err(io::Error::other(format!("there are more than {MAX_FILES} files")));
    }
    Ok((paths, is_top))
}

/// Copies a folder into an archive. `staging` is a folder of bottler's own for what is in between; it is left empty.
///
/// # Errors
/// Something cannot be read or written.
pub fn copy(root: &Path, exclude: &[String], staging: &Path, archive: &Path) -> io::Result<()> {
    let (paths, has_git) = list(root, exclude)?;
    let repository = staging.join("repository.git");
    std::thread::scope(|scope| {
        let clone = has_git.then(|| scope.spawn(|| clone(root, &repository)));
        let mut tar = tar::Builder::new(create_private(archive)?);
        let opened = Opened::at(root)?;
        for path in &paths {
            append(&mut tar, &opened, path, path)?;
        }
        if let Some(clone) = clone {
            clone.join().map_err(|_| io::Error::other("it was cut short"))??;
            let opened = Opened::at(&repository)?;
            for path in walk(&repository, usize::MAX)? {
                append(&mut tar, &opened, &path, &format!(".git/{path}"))?;
            }
            // git does not take a folder for a repository without these two.
            for folder in [".git/refs", ".git/objects"] {
                let mut header = tar::Header::new_gnu();
                header.set_entry_type(tar::EntryType::Directory);
                header.set_size(0);
                header.set_mode(0o755);
                header.set_mtime(0);
                tar.append_data(&mut header, format!("{folder}/"), io::empty())?;
            }
            std::fs::remove_dir_all(&repository)?;
        }
        tar.into_inner()?.flush()
    })
}

/// Makes a file that only its user can read, for what is large.
///
/// # Errors
/// It cannot be made.
pub fn create_private(path: &Path) -> io::Result<BufWriter<File>> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    Ok(BufWriter::with_capacity(1 << 20, file))
}

/// Appends a regular file or a link; pipes, sockets, devices and what has gone meanwhile are passed over.
fn append(tar: &mut tar::Builder<impl Write>, from: &Opened, path: &str, name: &str) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    match from.look(path)? {
        Kind::Regular(file, seen) => {
            header.set_size(seen.size);
            header.set_mode(if seen.mode & 0o111 == 0 { 0o644 } else { 0o755 });
            header.set_mtime(seen.modified);
            // A file that grows or shrinks meanwhile has the size that it had: an archive is whole or none.
            let content = io::Read::take(io::Read::chain(file, io::repeat(0)), seen.size);
            tar.append_data(&mut header, name, content)
        }
        Kind::Link(target) => {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            header.set_mode(0o777);
            header.set_mtime(0);
            tar.append_link(&mut header, name, target)
        }
        Kind::Other => Ok(()),
    }
}

/// A repository with the same history: only what its branches and tags reach, over git's own protocol, so that nothing of
/// the settings, hooks, alternates and leftovers comes along. A worktree's is that of its branch.
fn clone(root: &Path, to: &Path) -> io::Result<()> {
    let path = |path: &Path| {
        let text = path.to_str().map(str::to_owned);
        text.ok_or_else(|| io::Error::other(format!("{} is no UTF-8 name", path.display())))
    };
    let (from, target) = (path(&root.canonicalize()?)?, path(to)?);
    let url = format!("file://{from}");
    Git::alone(Path::new("/"))
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .run(&["clone", "--quiet", "--bare", "--template=", "--no-local", "--", &url, &target])?;
    let git = Git::alone(to);
    git.run(&["config", "core.bare", "false"])?;
    // A bare clone remembers where it came from.
    let _ = git.run(&["remote", "remove", "origin"]);
    if let Some(origin) = Git::at(root).line(&["config", "remote.origin.url"]).and_then(|url| without_credentials(&url))
    {
        git.run(&["config", "remote.origin.url", &origin])?;
        git.run(&["config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"])?;
    }
    // An index as after a checkout: what the user has changed shows as changed. A history without commits has none.
    if git.line(&["rev-parse", "--verify", "--quiet", "HEAD"]).is_some() {
        Git::alone(to).env("GIT_DIR", target).run(&["read-tree", "HEAD"])?;
    }
    Ok(())
}

/// A remote's URL without the credentials in it; `None` where that cannot be told, or where it is a place on this disk.
fn without_credentials(url: &str) -> Option<String> {
    match url::Url::parse(url) {
        Ok(mut parsed) if parsed.has_host() => {
            let _ = parsed.set_password(None);
            if parsed.scheme().starts_with("http") {
                let _ = parsed.set_username("");
            }
            parsed.set_query(None);
            Some(parsed.to_string())
        }
        // git@host:path, as scp(1) has it.
        _ if url.contains('@') && url.contains(':') && !url.contains("://") => Some(url.to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remote_loses_its_credentials_and_keeps_its_place() {
        for (url, expected) in [
            ("https://me:token@example.com/a.git", Some("https://example.com/a.git")),
            ("https://token@example.com/a.git?x=y", Some("https://example.com/a.git")),
            ("ssh://git@example.com:22/a.git", Some("ssh://git@example.com:22/a.git")),
            ("git@example.com:a.git", Some("git@example.com:a.git")),
            ("/home/me/a", None),
            ("file:///home/me/a", None),
        ] {
            assert_eq!(without_credentials(url).as_deref(), expected, "{url}");
        }
    }

    #[test]
    fn a_repository_that_git_cannot_read_is_not_copied_whole() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("secret"), "s").unwrap();
        assert_eq!(list(folder.path(), &[]).unwrap(), (vec!["secret".to_owned()], false));
        assert_eq!(list(folder.path(), &["sec*".to_owned()]).unwrap(), (Vec::new(), false));
        std::fs::create_dir(folder.path().join(".git")).unwrap();
        assert!(list(folder.path(), &[]).unwrap_err().to_string().contains("git cannot read"));
    }
}
