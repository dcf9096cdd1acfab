//! Fetches an agent's work into a repository of the user: its last commit, plus a commit with uncommitted changes, as
//! a branch; its other references, and commits that only its reflogs have, below `refs/bottler/`.
//!
//! git never runs in the agent's repository. Its objects are imported into a temporary repository, where git packs
//! and checks those that the user does not have. Only then are they added to the user's repository, and all
//! references change in one transaction.

mod decide;
mod install;
mod options;
mod ref_names;
mod sparse;
pub(super) mod staging;
mod tree;
mod unfiltered;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write as _};
use std::path::Path;

pub use install::sweep;
pub use options::{PullOptions, PullReport, SkippedPath};

use super::git::Git;
use super::name::{Name, shown};

/// The default branch: `bottler/ID`, or `bottler-ID` if there is a branch `bottler`.
pub fn default_branch(repository: &Path, bottle: &str) -> String {
    let taken = Git::at(repository).line(&["rev-parse", "--verify", "--quiet", "refs/heads/bottler"]).is_some();
    if taken { format!("bottler-{bottle}") } else { format!("bottler/{bottle}") }
}

/// Fetches an agent's work as a branch of a repository.
///
/// # Errors
/// There is no commit, git rejects it, or the branch belongs to the user. Nothing is changed then.
pub fn pull(options: &PullOptions<'_>) -> io::Result<PullReport> {
    let here = Git::at(options.repository);
    here.run(&["check-ref-format", "--branch", options.branch])?;
    let target = format!("refs/heads/{}", options.branch);
    let there = reference(&here, &target);
    may_move(options, &here, &target, there.as_deref())?;
    let import = options.staging.join("import");
    staging::borrow(&here, options.repository, &import)?;
    let began = options.before.repository.known_objects();
    let known = began.is_empty() || staging::present(&here, began.iter())?.len() == began.len();
    staging::import(options.before, options.after, known, &import)?;
    options.check_cancelled()?;
    let git = Git::alone(&import);
    let repository = &options.after.repository;
    let head = repository.head();
    if !repository.has_head() {
        return Err(io::Error::other("the agent's workspace has no repository"));
    }
    let mut pulled = PullReport::default();
    // Unreadable parts of the working copy would count as removals.
    if let Some(doubt) = options.after.uncertain.first() {
        return Err(io::Error::other(format!("it cannot be read as a whole: {doubt}")));
    }
    tree::commit(options, &here, head.as_deref(), &mut pulled)?;
    pulled.uncommitted = head.as_ref() != Some(&pulled.commit);
    options.check_cancelled()?;
    let users = references(&here)?;
    let known: Vec<String> = staging::present(&git, users.values())?.into_iter().collect();
    let mut wanted = wanted(options, &git, head.as_deref(), &mut pulled)?;
    let mut logged = logged(options, &git, &known, &mut pulled, &wanted)?;
    let pack_of = |tips: &[String]| {
        let agents = head.iter().chain(tips.iter().filter(|tip| **tip != pulled.commit));
        unfiltered::check(options, &here, &git, agents, &known)?;
        install::pack(&here, options.repository, options.staging, tips, &known)
    };
    let branch = [pulled.commit.clone()];
    let tips: Vec<String> = branch.iter().chain(wanted.values()).chain(&logged).cloned().collect();
    let all = pack_of(&tips);
    let pack = match all {
        Ok(pack) => pack,
        // A reference that git rejects must not block the branch.
        Err(_) if !wanted.is_empty() || !logged.is_empty() => {
            let pack = pack_of(&branch)?;
            for name in std::mem::take(&mut wanted).into_keys() {
                pulled.tips.remove(&name);
                pulled.broken.push(shown(&name));
            }
            pulled.logged.clear();
            pulled
                .broken
                .extend(std::mem::take(&mut logged).into_iter().map(|commit| format!("the commit {commit} of a log")));
            pack
        }
        Err(error) => return Err(error),
    };
    let place = format!("refs/bottler/{}", options.bottle);
    let target = target.into_bytes();
    let (mut changes, renamed) = ref_names::changes(&place, &users, (&target, &pulled.commit), &wanted, logged);
    keep_earlier(&git, &place, &mut changes);
    options.check_cancelled()?;
    let installed = pack.map(|pack| install::install(&here, options.repository, options.staging, &pack)).transpose()?;
    if !changes.is_empty()
        && let Err(error) = install::update_refs(&here, options.bottle, &changes)
    {
        if let Some(installed) = installed {
            installed.remove();
        }
        return Err(error);
    }
    let beside = changes.into_iter().filter(|(name, _)| *name != target);
    let told = |name: Name| match renamed.get(&name) {
        Some(agents) => format!("{}, the agent's {}", shown(&name), shown(agents)),
        None => shown(&name),
    };
    pulled.references = beside.map(|(name, (new, _))| (told(name), new)).collect();
    Ok(pulled)
}

/// Checks that an existing branch may be moved: it is where the last pull left it, and not checked out.
fn may_move(options: &PullOptions<'_>, here: &Git<'_>, target: &str, there: Option<&str>) -> io::Result<()> {
    let Some(there) = there else { return Ok(()) };
    if options.earlier != Some(there) {
        let why = match options.earlier {
            Some(_) => "which is not as bottler left it",
            None => "which this bottle was not pulled into",
        };
        return Err(io::Error::other(format!("there is a branch {} already, {why}", options.branch)));
    }
    let worktrees = here.run(&["worktree", "list", "--porcelain"])?;
    let line = format!("branch {target}");
    if String::from_utf8_lossy(&worktrees).lines().any(|known| known == line) {
        return Err(io::Error::other(format!("the branch {} is checked out", options.branch)));
    }
    Ok(())
}

fn reference(git: &Git<'_>, name: &str) -> Option<String> {
    git.line(&["rev-parse", "--verify", "--quiet", name])
}

/// The values of the user's references, including `HEAD`.
fn references(here: &Git<'_>) -> io::Result<BTreeMap<Name, String>> {
    let said = here.run(&["for-each-ref", "--format=%(objectname) %(refname)"])?;
    let all = said.split(|byte| *byte == b'\n').filter_map(|line| {
        let at = line.iter().position(|byte| *byte == b' ')?;
        Some((line[at + 1..].to_vec(), String::from_utf8_lossy(&line[..at]).into_owned()))
    });
    let head = reference(here, "HEAD").map(|head| (b"HEAD".to_vec(), head));
    Ok(all.chain(head).collect())
}

/// The agent's references that the branch does not contain, with their object ids.
fn wanted(
    options: &PullOptions<'_>,
    git: &Git<'_>,
    head: Option<&str>,
    pulled: &mut PullReport,
) -> io::Result<BTreeMap<Name, String>> {
    let (before, mut tips) = (options.before.repository.tips(), options.after.repository.tips());
    tips.retain(|name, tip| before.get(name) != Some(tip));
    let checked_out = head.map(str::to_owned);
    let there = staging::present(git, tips.values().chain(&checked_out))?;
    if head.is_some_and(|head| !there.contains(head)) {
        return Err(io::Error::other("the commit that the agent has checked out is missing"));
    }
    pulled.broken = tips.iter().filter(|(_, tip)| !there.contains(*tip)).map(|(name, _)| shown(name)).collect();
    let unread = options.after.repository.broken_refs.keys();
    pulled.broken.extend(
        unread.filter(|name| !options.before.repository.broken_refs.contains_key(*name)).map(|name| shown(name)),
    );
    tips.retain(|_, tip| there.contains(tip));
    pulled.tips.clone_from(&tips);
    // The branch contains these commits; a tag is kept, because its name matters.
    tips.retain(|name, tip| !(Some(tip.as_str()) == head && (name == b"HEAD" || name.starts_with(b"refs/heads/"))));
    Ok(tips)
}

/// Commits that only the agent's reflogs refer to, without those that other such commits contain.
fn logged(
    options: &PullOptions<'_>,
    git: &Git<'_>,
    known: &[String],
    pulled: &mut PullReport,
    wanted: &BTreeMap<Name, String>,
) -> io::Result<BTreeSet<String>> {
    let began = options.before.repository.known_objects();
    let new: BTreeSet<String> = options.after.repository.logged.difference(&began).cloned().collect();
    let there = staging::present(git, new.iter())?;
    pulled.logged.clone_from(&new);
    if there.is_empty() {
        return Ok(BTreeSet::new());
    }
    let said = git.feed(&["rev-list", "--parents", "--stdin"], |input| {
        let mut input = io::BufWriter::new(input);
        there.iter().try_for_each(|commit| writeln!(input, "{commit}"))?;
        let others = known.iter().chain([&pulled.commit]).chain(wanted.values());
        others.into_iter().try_for_each(|commit| writeln!(input, "^{commit}"))?;
        input.flush()
    })?;
    let said = String::from_utf8_lossy(&said).into_owned();
    let lines: Vec<Vec<&str>> = said.lines().map(|line| line.split(' ').collect()).collect();
    let led_to: BTreeSet<&str> = lines.iter().flat_map(|line| line[1..].iter().copied()).collect();
    let found: BTreeSet<&str> = lines.iter().map(|line| line[0]).collect();
    Ok(there
        .into_iter()
        .filter(|commit| found.contains(commit.as_str()) && !led_to.contains(commit.as_str()))
        .collect())
}

/// Keeps the old commit of a moved reference under `earlier/` if the new one does not contain it.
fn keep_earlier(git: &Git<'_>, place: &str, changes: &mut ref_names::Changes) {
    let moved: Vec<(String, String)> =
        changes.values().filter_map(|(new, old)| Some((old.clone()?, new.clone()))).collect();
    for (old, new) in moved {
        if git.run(&["merge-base", "--is-ancestor", &old, &new]).is_err() {
            changes.insert(format!("{place}/earlier/{old}").into_bytes(), (old, None));
        }
    }
}
