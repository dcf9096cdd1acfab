//! The options of a pull, and its report.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use crate::workspace::name::Name;
use crate::workspace::snapshot::Snapshot;

/// A path that was not fetched, and why.
pub type SkippedPath = (Name, String);

/// What to fetch, and where to.
pub struct PullOptions<'a> {
    /// The bottle's id.
    pub bottle: &'a str,
    /// The workspace before the agent ran.
    pub before: &'a Snapshot,
    /// The workspace now.
    pub after: &'a Snapshot,
    /// The user's repository.
    pub repository: &'a Path,
    /// The branch, by its short name.
    pub branch: &'a str,
    /// The commit of the branch after the last pull of this bottle. Only if the branch is still there may it be moved.
    pub earlier: Option<&'a str>,
    /// An empty temporary folder, which the caller removes.
    pub staging: &'a Path,
    /// Whether to run the user's filters on changed files.
    pub filters: bool,
    /// Whether the user has cancelled. Checked between steps, last before the user's repository changes.
    pub cancelled: &'a (dyn Fn() -> bool + Sync),
}

impl PullOptions<'_> {
    pub(super) fn check_cancelled(&self) -> io::Result<()> {
        if (self.cancelled)() { Err(io::Error::new(io::ErrorKind::Interrupted, "cancelled")) } else { Ok(()) }
    }
}

/// What was fetched.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PullReport {
    /// The commit of the branch.
    pub commit: String,
    /// Whether the last commit is bottler's, with uncommitted changes.
    pub uncommitted: bool,
    /// Paths that were not fetched, and why.
    pub skipped: Vec<SkippedPath>,
    /// Ignored files that the agent committed.
    pub ignored: BTreeSet<Name>,
    /// Other references that were created or moved, for display, with their object ids.
    pub references: BTreeMap<String, String>,
    /// The agent's references that were fetched, with their object ids.
    pub tips: BTreeMap<Name, String>,
    /// Commits of the agent's reflogs that were fetched or that the user has.
    pub logged: BTreeSet<String>,
    /// The agent's references that could not be fetched, for display.
    pub broken: Vec<String>,
}

/// The error for a commit whose objects or path names git rejects.
pub(super) fn refused(error: &io::Error) -> io::Error {
    io::Error::other(format!("git does not accept what the agent committed: {error}"))
}
