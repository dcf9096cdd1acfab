//! Commits the agent's uncommitted changes on top of its last commit.
//!
//! Changed files are written into a temporary folder and added there by git, with the repository's rules for line
//! endings and modes. Attacks: a symbolic link that points outside (links are written last, nothing is written
//! through one); names that git or other systems treat as a repository (git skips them, and they are reported);
//! attributes that would run one of the user's programs (files with a filter are added only with `--filters`; the
//! attributes of the start *and* of the agent both count, so that neither setting nor removing one helps).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use super::decide::{self, Absence, Decision, TreeEntry, decide, may_be_skipped};
use super::options::{PullOptions, PullReport, SkippedPath, refused};
use super::sparse;
use crate::workspace::clone::{attribute, is_partial, own_file, user_file, zeroed};
use crate::workspace::entry::{Entry, Regular};
use crate::workspace::git::{Git, line, path};
use crate::workspace::name::{Name, last, quoted};
use crate::workspace::snapshot::Snapshot;

/// The message of the commit.
const MESSAGE: &str = "What the agent had not committed";
/// The user's settings that decide how a file is committed.
const CLEANING: [&str; 3] = ["core.autocrlf", "core.eol", "core.symlinks"];

/// Creates the commit. Without uncommitted changes it is the agent's last commit; without a last commit it has no
/// parent.
pub(super) fn commit(
    options: &PullOptions<'_>,
    here: &Git<'_>,
    head: Option<&str>,
    pulled: &mut PullReport,
) -> io::Result<()> {
    let (folder, tree) = (options.staging.join("import"), options.staging.join("tree"));
    let work = || Git::alone(&tree).env("GIT_DIR", path(&folder)).env("GIT_WORK_TREE", path(&tree));
    std::fs::create_dir_all(&tree)?;
    let git = Git::alone(&folder);
    let skipped = &mut pulled.skipped;
    let ours = listed(&git, head)?;
    let base = options.before.repository.head();
    let base = if base.as_deref() == head { ours.clone() } else { listed(&git, base.as_deref())? };
    let (mut taken, removed) = decisions(options, &base, &ours)?;
    taken.retain(|name, _| match enclosing_submodule(name, &ours) {
        Some(submodule) => {
            skipped.push((name.clone(), format!("it is in {}, a submodule", quoted(submodule))));
            false
        }
        None => true,
    });
    let direct = filtered(options, here, &folder, &ours, &mut taken, skipped)?;
    if !(taken.is_empty() && removed.is_empty() && direct.is_empty()) {
        for name in CLEANING {
            if let Some(value) = here.line(&["config", name]) {
                git.run(&["config", name, &value])?;
            }
        }
        let rules = options
            .after
            .files
            .iter()
            .filter(|(name, _)| last(name) == b".gitattributes" && !taken.contains_key(*name));
        let rules: Vec<(&Name, &Entry, bool)> = rules.map(|(name, entry)| (name, entry, false)).collect();
        let all = taken.iter().map(|(name, executable)| (name, options.after.files_or_ignored(name), *executable));
        materialise(options.after, &tree, all.chain(rules))?;
        // git cannot read a tree with names that it rejects, so nothing can be committed on top of it.
        work().run(&["read-tree", head.unwrap_or("--empty")]).map_err(|error| refused(&error))?;
        if !removed.is_empty() {
            work().feed(&["update-index", "--force-remove", "-z", "--stdin"], |input| zeroed(input, removed.iter()))?;
        }
        let names: Vec<&Name> = taken.keys().collect();
        add(&work, &names, skipped)?;
        put(&work, &direct)?;
    }
    pulled.commit = if taken.is_empty() && removed.is_empty() && direct.is_empty() {
        head.map(str::to_owned)
            .ok_or_else(|| io::Error::other("the agent has committed nothing, and there are no files"))?
    } else {
        let mut arguments = vec!["write-tree"];
        if is_partial(here) {
            arguments.push("--missing-ok");
        }
        let made = line(&work().run(&arguments)?)?;
        let touched: BTreeSet<&Name> = taken.keys().chain(&removed).chain(direct.keys()).collect();
        check(&git, &ours, &made, &touched, taken.keys(), skipped)?;
        match pulled_before(options, head, &made) {
            Some(earlier) => earlier,
            None => committed(&git, &folder, head, &made)?,
        }
    };
    let is_skipped = |name: &Name| pulled.skipped.iter().any(|(skipped, _)| skipped == name);
    let ignored = options.after.ignored.keys().filter(|name| ours.contains_key(*name) && !is_skipped(name));
    pulled.ignored = ignored.cloned().collect();
    Ok(())
}

/// Adds files to the index. A file that git cannot add, such as one whose attributes ask for something impossible, is
/// reported and does not affect the others.
fn add<'a>(work: &impl Fn() -> Git<'a>, names: &[&Name], skipped: &mut Vec<SkippedPath>) -> io::Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let arguments = ["update-index", "--add", "--replace", "-z", "--stdin"];
    match (work().feed(&arguments, |input| zeroed(input, names.iter().copied())), names) {
        (Ok(_), _) => Ok(()),
        (Err(error), [name]) => {
            skipped.push(((*name).clone(), error.to_string()));
            Ok(())
        }
        (Err(_), _) => {
            let (one, two) = names.split_at(names.len() / 2);
            add(work, one, skipped)?;
            add(work, two, skipped)
        }
    }
}

/// Adds objects to the index unchanged.
fn put<'a>(work: &impl Fn() -> Git<'a>, objects: &BTreeMap<Name, TreeEntry>) -> io::Result<()> {
    if objects.is_empty() {
        return Ok(());
    }
    work().feed(&["update-index", "--add", "--replace", "-z", "--index-info"], |input| {
        objects.iter().try_for_each(|(name, listed)| {
            write!(input, "{} {}\t", listed.mode, listed.object)?;
            input.write_all(name)?;
            input.write_all(&[0])
        })
    })?;
    Ok(())
}

/// The commit of an earlier pull with the same tree and parent; then the branch does not move.
fn pulled_before(options: &PullOptions<'_>, head: Option<&str>, tree: &str) -> Option<String> {
    let earlier = options.earlier?;
    let said = Git::at(options.repository).line(&["log", "-1", "--format=%an %T %P", earlier])?;
    let same = format!("bottler {tree} {}", head.unwrap_or_default());
    (said.trim_end() == same.trim_end()).then(|| earlier.to_owned())
}

/// Commits a tree; returns `head` if that has the same tree.
fn committed(git: &Git<'_>, folder: &Path, head: Option<&str>, tree: &str) -> io::Result<String> {
    let mut arguments = vec!["-c", "commit.gpgSign=false", "commit-tree", tree, "-m", MESSAGE];
    if let Some(head) = head {
        if tree == line(&git.run(&["rev-parse", "--verify", &format!("{head}^{{tree}}")])?)? {
            return Ok(head.to_owned());
        }
        arguments.extend(["-p", head]);
    }
    let committing = Git::alone(folder)
        .env("GIT_AUTHOR_NAME", "bottler")
        .env("GIT_AUTHOR_EMAIL", "bottler@localhost")
        .env("GIT_COMMITTER_NAME", "bottler")
        .env("GIT_COMMITTER_EMAIL", "bottler@localhost");
    line(&committing.run(&arguments)?)
}

/// The entries of a commit's tree, by path.
pub(super) fn listed(git: &Git<'_>, commit: Option<&str>) -> io::Result<BTreeMap<Name, TreeEntry>> {
    let Some(commit) = commit else { return Ok(BTreeMap::new()) };
    let said = git.run(&["ls-tree", "-r", "-z", "--full-tree", commit])?;
    let entries = said.split(|byte| *byte == 0).filter_map(|line| {
        let at = line.iter().position(|byte| *byte == b'\t')?;
        let mut words = std::str::from_utf8(&line[..at]).ok()?.split(' ');
        let (mode, object) = (words.next()?.to_owned(), words.nth(1)?.to_owned());
        Some((line[at + 1..].to_vec(), TreeEntry { mode, object }))
    });
    Ok(entries.collect())
}

/// What absent paths mean, except for plain removals: from the marks in the agent's index, or from the patterns of
/// its sparse checkout if the index cannot be read.
fn absence(
    options: &PullOptions<'_>,
    gone: &BTreeSet<&Name>,
    may_be_skipped: &dyn Fn(&Name, bool) -> bool,
) -> io::Result<BTreeMap<Name, Absence>> {
    let (before, after) = (options.before, options.after);
    if gone.is_empty() {
        return Ok(BTreeMap::new());
    }
    let outside = |patterns: &[u8], moved: bool| {
        let doubtful = gone.iter().copied().filter(|name| may_be_skipped(name, moved)).collect();
        sparse::outside(options.staging, patterns, &doubtful)
    };
    let patterns = after.repository.sparse.as_deref();
    let Some(index) = after.index() else {
        let moved = after.repository.sparse != before.repository.sparse;
        let away = patterns.map(|patterns| outside(patterns, moved)).transpose()?.unwrap_or_default();
        return Ok(away.into_iter().map(|name| (name, Absence::NotCheckedOut)).collect());
    };
    // A path that was committed outside of the checkout has no mark, but git does not take its absence for a removal.
    let patterns = patterns.filter(|_| index.is_sparse());
    let away = patterns.map(|patterns| outside(patterns, false)).transpose()?.unwrap_or_default();
    let began = before.index().unwrap_or_default();
    let says = |name: &Name| match (began.skips(name), index.skips(name) || away.contains(name)) {
        (_, true) => Some(Absence::NotCheckedOut),
        (true, false) => Some(Absence::RemovedAfterCheckout),
        (false, false) => None,
    };
    Ok(gone.iter().filter_map(|name| Some(((*name).clone(), says(name)?))).collect())
}

/// The paths that are taken, each with its executable bit, and the paths that are removed.
fn decisions(
    options: &PullOptions<'_>,
    base: &BTreeMap<Name, TreeEntry>,
    head: &BTreeMap<Name, TreeEntry>,
) -> io::Result<(BTreeMap<Name, bool>, BTreeSet<Name>)> {
    let (before, after) = (options.before, options.after);
    let names: BTreeSet<&Name> = head.keys().chain(before.files.keys()).chain(after.files.keys()).collect();
    let seen = |name: &Name| decide::PathState {
        base: base.get(name),
        head: head.get(name),
        before: before.files.get(name),
        // Tracked files are never ignored.
        after: after.files.get(name).or_else(|| head.get(name).and_then(|_| after.ignored.get(name))),
    };
    let gone: BTreeSet<&Name> = names.iter().copied().filter(|name| seen(name).after.is_none()).collect();
    let absence = absence(options, &gone, &|name, moved| may_be_skipped(seen(name), moved))?;
    let (mut taken, mut removed) = (BTreeMap::new(), BTreeSet::new());
    for name in names {
        match decide(seen(name), absence.get(name).copied().unwrap_or(Absence::Removed)) {
            Decision::Keep => {}
            Decision::Take { executable } => drop(taken.insert(name.clone(), executable)),
            Decision::Remove => drop(removed.insert(name.clone())),
        }
    }
    Ok((taken, removed))
}

/// The submodule that contains a path.
fn enclosing_submodule<'a>(name: &'a [u8], head: &BTreeMap<Name, TreeEntry>) -> Option<&'a [u8]> {
    let folders = name.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &name[..at]);
    folders.into_iter().find(|folder| head.get(*folder).is_some_and(|listed| listed.mode == "160000"))
}

/// Removes files with a filter from `taken`, and returns index entries for them. A file whose unfiltered content is
/// that of the agent's last commit keeps that entry; with `--filters`, the user's filter runs; otherwise the file is
/// skipped.
fn filtered(
    options: &PullOptions<'_>,
    here: &Git<'_>,
    folder: &Path,
    head: &BTreeMap<Name, TreeEntry>,
    taken: &mut BTreeMap<Name, bool>,
    skipped: &mut Vec<SkippedPath>,
) -> io::Result<BTreeMap<Name, TreeEntry>> {
    if taken.is_empty() {
        return Ok(BTreeMap::new());
    }
    let names: Vec<&Name> = taken.keys().collect();
    let mut found = filters(options, here, folder, AttributeSource::Before, &names)?;
    found.extend(filters(options, here, folder, AttributeSource::After, &names)?);
    let mut direct = BTreeMap::new();
    for (name, filter) in found {
        let Entry::File(file) = options.after.files_or_ignored(&name) else { continue };
        let executable = taken.remove(&name).unwrap_or_default();
        let mode = if executable { "100755" } else { "100644" }.to_owned();
        let mut content = options.after.reader(file)?;
        let raw = Git::alone(folder)
            .feed(&["hash-object", "--no-filters", "--stdin"], |input| io::copy(&mut content, input).map(drop))?;
        let raw = line(&raw)?;
        if let Some(known) = head.get(&name).filter(|known| known.object == raw) {
            direct.insert(name, TreeEntry { mode, ..known.clone() });
        } else if options.filters {
            let object = cleaned(options, folder, &name, file)?;
            direct.insert(name, TreeEntry { mode, object });
        } else {
            skipped.push((name, format!("your filter {filter:?} is needed to commit it; --filters runs it")));
        }
    }
    Ok(direct)
}

/// Which attributes files apply.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum AttributeSource {
    /// Those of the start.
    Before,
    /// Those that the agent left.
    After,
}

/// The filters of files, according to the attributes in the tree and the user's own.
pub(super) fn filters(
    options: &PullOptions<'_>,
    here: &Git<'_>,
    folder: &Path,
    rules: AttributeSource,
    names: &[&Name],
) -> io::Result<BTreeMap<Name, String>> {
    let info = folder.join("info");
    std::fs::create_dir_all(&info)?;
    let own = own_file(here, options.repository, "info/attributes").unwrap_or_default();
    std::fs::write(info.join("attributes"), own)?;
    if let Some(file) = user_file(here, "core.attributesFile").filter(|file| file.is_file()) {
        Git::alone(folder).run(&["config", "core.attributesFile", &path(&file)])?;
    }
    let (snapshot, place) = match rules {
        AttributeSource::Before => (options.before, "rules-before"),
        AttributeSource::After => (options.after, "rules-after"),
    };
    let place = options.staging.join(place);
    if !place.exists() {
        std::fs::create_dir_all(&place)?;
        let rules = snapshot.files.iter().filter(|(name, _)| last(name) == b".gitattributes");
        materialise(snapshot, &place, rules.map(|(name, entry)| (name, entry, false)))?;
    }
    let git = Git::alone(&place).env("GIT_DIR", path(folder)).env("GIT_WORK_TREE", path(&place));
    // git falls back to the index for attributes files that are not in the tree.
    let git = git.env("GIT_INDEX_FILE", path(&options.staging.join("no-index")));
    attribute(&git, "filter", names.iter().copied())
}

/// Runs the user's filter on a file in the user's repository; the object is written to ours.
fn cleaned(options: &PullOptions<'_>, folder: &Path, name: &Name, file: &Regular) -> io::Result<String> {
    let name = std::str::from_utf8(name).map_err(|_| io::Error::other("the filter needs a name that is UTF-8"))?;
    let objects = options.repository.join(
        Git::at(options.repository)
            .line(&["rev-parse", "--git-path", "objects"])
            .unwrap_or_else(|| ".git/objects".into()),
    );
    let git = Git::at(options.repository)
        .env("GIT_OBJECT_DIRECTORY", path(&folder.join("objects")))
        .env("GIT_ALTERNATE_OBJECT_DIRECTORIES", path(&objects));
    let mut content = options.after.reader(file)?;
    let said =
        git.feed(&["hash-object", "-w", "--stdin", "--path", name], |input| io::copy(&mut content, input).map(drop))?;
    line(&said)
}

/// Writes files into an empty folder: regular files first, so that nothing is written through a link.
fn materialise<'a>(
    from: &Snapshot,
    to: &Path,
    entries: impl Iterator<Item = (&'a Name, &'a Entry, bool)>,
) -> io::Result<()> {
    let place = |name: &Name| -> PathBuf { to.join(OsStr::from_bytes(name)) };
    let named = |name: &Name, error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", quoted(name)));
    let mut links = Vec::new();
    for (name, entry, executable) in entries {
        let path = place(name);
        let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        made.map_err(|error| named(name, error))?;
        match entry {
            Entry::Link(target) => links.push((name, target)),
            Entry::File(file) => {
                let permissions = if executable { 0o755 } else { 0o644 };
                let opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(permissions).open(path);
                let written = opened.and_then(|mut out| io::copy(&mut from.reader(file)?, &mut out));
                written.map_err(|error| named(name, error))?;
            }
        }
    }
    for (name, target) in links {
        symlink(OsStr::from_bytes(target), place(name)).map_err(|error| named(name, error))?;
    }
    Ok(())
}

/// Reports paths that git skipped, and refuses a tree that differs at any other path.
fn check<'a>(
    git: &Git<'_>,
    head: &BTreeMap<Name, TreeEntry>,
    made: &str,
    touched: &BTreeSet<&Name>,
    taken: impl Iterator<Item = &'a Name>,
    skipped: &mut Vec<SkippedPath>,
) -> io::Result<()> {
    let now = listed(git, Some(made))?;
    let known: BTreeSet<Name> = skipped.iter().map(|(name, _)| name.clone()).collect();
    for name in taken.filter(|name| !now.contains_key(*name) && !known.contains(*name)) {
        skipped.push((name.clone(), "git does not accept a file of this name".to_owned()));
    }
    // If a file became a folder or the reverse, other paths changed with it.
    let is_touched = |name: &Name| {
        touched.iter().any(|touched| {
            let (long, short) = if name.len() > touched.len() { (name, *touched) } else { (*touched, name) };
            long == short || long.starts_with(short) && long.get(short.len()) == Some(&b'/')
        })
    };
    let names: BTreeSet<&Name> = head.keys().chain(now.keys()).collect();
    let other = names
        .into_iter()
        .find(|name| head.get(*name) != now.get(*name) && !touched.contains(name) && !is_touched(name));
    match other {
        Some(name) => {
            Err(io::Error::other(format!("{} would be changed, and the agent has not touched it", quoted(name))))
        }
        None => Ok(()),
    }
}
