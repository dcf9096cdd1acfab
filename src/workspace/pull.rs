//! An agent's commits, brought into a repository of the user's: its objects go into a repository of bottler's own first,
//! and from there over git's own protocol, which checks every one, to a branch that was not there before.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::Stdio;

use super::archive::{each, note_reference};
use super::git::{Git, ended};
use super::patch::mode;
use super::{Files, WorkspaceFile};

/// The branch in between.
const PULLED: &str = "refs/heads/pulled";
/// Largest loose object, in bytes.
const MAX_LOOSE: u64 = 1 << 30;
/// How deep one reference may name another.
const MAX_SYMBOLIC: usize = 5;

/// What was brought.
#[derive(Debug, PartialEq, Eq)]
pub struct Pulled {
    /// The commit that the branch is at.
    pub commit: String,
    /// Whether its last commit is bottler's: of what the agent had changed and not committed.
    pub uncommitted: bool,
    /// What could not be brought, and why.
    pub skipped: Vec<String>,
}

/// Brings what an agent made to a fresh branch of a repository. `archive` is its workspace below `root`, `files` what was
/// read of it; `staging` is an empty folder of bottler's own.
///
/// # Errors
/// It has no repository, one that is malformed, or the branch is there already.
pub fn pull(
    archive: &Path,
    root: &str,
    files: &Files,
    repository: &Path,
    branch: &str,
    staging: &Path,
) -> io::Result<Pulled> {
    let here = Git::at(repository);
    here.run(&["check-ref-format", "--branch", branch])?;
    let target = format!("refs/heads/{branch}");
    if here.line(&["rev-parse", "--verify", "--quiet", &target]).is_some() {
        return Err(io::Error::other(format!("there is a branch {branch} already")));
    }
    Git::alone(staging).run(&["init", "--quiet", "--bare", "--template=", "."])?;
    // A history that the user has only the end of: the agent's has no more.
    if let Some(shallow) = here.line(&["rev-parse", "--git-path", "shallow"]).map(|path| repository.join(path))
        && shallow.is_file()
    {
        std::fs::copy(shallow, staging.join("shallow"))?;
    }
    let (references, paths) = unpack(archive, root, staging)?;
    let git = Git::alone(staging);
    let head = references.get("HEAD").and_then(|head| resolve(&references, head));
    let head = head.ok_or_else(|| io::Error::other("the agent's workspace has no repository with a commit"))?;
    let mut skipped = Vec::new();
    let commit = commit(&git, &head, files, &paths, &mut skipped)?;
    let url = staging.to_str().map(|path| format!("file://{path}"));
    let url = url.ok_or_else(|| io::Error::other("the state directory has a name that is no UTF-8"))?;
    here.run(&[
        "-c",
        "fetch.fsckObjects=true",
        "-c",
        "fetch.unpackLimit=1",
        "fetch",
        "--quiet",
        "--no-tags",
        "--no-write-fetch-head",
        "--no-recurse-submodules",
        "--",
        &url,
        &format!("{PULLED}:{target}"),
    ])?;
    Ok(Pulled { uncommitted: commit != head, commit, skipped })
}

/// References by their names, and the paths of everything that is not below `.git`.
type Unpacked = (BTreeMap<String, String>, BTreeSet<String>);

/// Takes objects and references out of the archive: nothing else of the agent's repository is looked at.
fn unpack(archive: &Path, root: &str, to: &Path) -> io::Result<Unpacked> {
    let (mut references, mut paths) = (BTreeMap::new(), BTreeSet::new());
    each(archive, root, |path, entry| {
        let Some(name) = path.strip_prefix(".git/") else {
            if !entry.header().entry_type().is_dir() {
                paths.insert(path.to_owned());
            }
            return Ok(());
        };
        if !entry.header().entry_type().is_file() {
            return Ok(());
        }
        if let Some(object) = name.strip_prefix("objects/") {
            return objects(to, object, entry);
        }
        note_reference(name, entry, &mut references)
    })?;
    Ok((references, paths))
}

/// Puts an object, or a pack, into our repository. A pack is read by git, which makes its index anew.
fn objects(to: &Path, name: &str, entry: &mut impl Read) -> io::Result<()> {
    let hex = |text: &str| text.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c));
    if let Some(pack) = name.strip_prefix("pack/pack-").and_then(|name| name.strip_suffix(".pack")) {
        if !hex(pack) {
            return Ok(());
        }
        let arguments = ["index-pack", "--stdin", "--strict"];
        let mut command = Git::alone(to).command(&arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        if let Some(mut input) = child.stdin.take() {
            // git that has had enough says why itself.
            let _ = io::copy(entry, &mut input);
        }
        return ended(&arguments, child.wait_with_output()?).map(drop);
    }
    let Some((folder, rest)) = name.split_once('/') else { return Ok(()) };
    if folder.len() != 2 || !matches!(rest.len(), 38 | 62) || !hex(folder) || !hex(rest) {
        return Ok(());
    }
    let folder = to.join("objects").join(folder);
    std::fs::create_dir_all(&folder)?;
    let mut file = std::fs::File::create(folder.join(rest))?;
    io::copy(&mut entry.take(MAX_LOOSE), &mut file).map(drop)
}

fn is_id(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.chars().all(|c| c.is_ascii_hexdigit())
}

fn resolve(references: &BTreeMap<String, String>, value: &str) -> Option<String> {
    let mut value = value;
    for _ in 0..MAX_SYMBOLIC {
        match value.strip_prefix("ref: ") {
            Some(name) => value = references.get(name.trim())?,
            None => return is_id(value).then(|| value.to_owned()),
        }
    }
    None
}

/// A commit of what is in the tree, on top of the agent's last one; that one itself where nothing differs.
fn commit(
    git: &Git<'_>,
    head: &str,
    files: &Files,
    paths: &BTreeSet<String>,
    skipped: &mut Vec<String>,
) -> io::Result<String> {
    let tree = format!("{head}^{{tree}}");
    let before = git.run(&["rev-parse", "--verify", "--quiet", &tree])?;
    let listed = git.run(&["ls-tree", "-r", "-z", "--name-only", "--full-tree", head])?;
    let mut stream = Vec::new();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    let message = "What the agent had not committed\n";
    write!(
        stream,
        "commit {PULLED}\ncommitter bottler <bottler@localhost> {now} +0000\ndata {}\n{message}\nfrom {head}\n",
        message.len()
    )?;
    for path in listed.split(|byte| *byte == 0).filter(|path| !path.is_empty()) {
        // A name that is no UTF-8 is none that we could have read: it stays as the agent committed it.
        if let Ok(path) = std::str::from_utf8(path)
            && !paths.contains(path)
            && is_plain(path)
        {
            writeln!(stream, "D {path}")?;
        }
    }
    for (path, file) in files {
        let content: &[u8] = match file {
            WorkspaceFile::Regular { content, .. } => content,
            WorkspaceFile::Link(target) => target.as_bytes(),
            WorkspaceFile::Large { size, .. } => {
                skipped.push(format!("{path}: {size} bytes; it is as the agent last committed it"));
                continue;
            }
        };
        if !is_plain(path) {
            skipped.push(format!("{path:?}: its name cannot be written"));
            continue;
        }
        write!(stream, "M {} inline {path}\ndata {}\n", mode(file), content.len())?;
        stream.extend_from_slice(content);
        stream.push(b'\n');
    }
    stream.extend_from_slice(b"done\n");
    let arguments = ["fast-import", "--quiet", "--done", "--date-format=raw"];
    let mut command = git.command(&arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut input) = child.stdin.take() {
        let _ = input.write_all(&stream);
    }
    ended(&arguments, child.wait_with_output()?)?;
    let after = git.run(&["rev-parse", "--verify", "--quiet", &format!("{PULLED}^{{tree}}")])?;
    if after == before {
        git.run(&["update-ref", PULLED, head])?;
        return Ok(head.to_owned());
    }
    git.line(&["rev-parse", PULLED]).ok_or_else(|| io::Error::other("git does not find what it has just made"))
}

/// Whether git's stream takes a path as it is.
fn is_plain(path: &str) -> bool {
    !path.starts_with('"') && !path.contains(|c: char| c.is_control())
}
