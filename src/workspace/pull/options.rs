//! What a pull is asked for, and what it reports.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use crate::workspace::name::Name;
use crate::workspace::snapshot::Snapshot;

/// A path that was not brought, and why.
pub type SkippedPath = (Name, String);

/// What is to be brought where.
pub struct PullOptions<'a> {
    /// The bottle.
    pub bottle: &'a str,
    /// What the workspace began with.
    pub before: &'a Snapshot,
    /// What is in it.
    pub after: &'a Snapshot,
    /// The user's repository.
    pub repository: &'a Path,
    /// The branch, by its short name.
    pub branch: &'a str,
    /// Where an earlier pull of the same bottle has left the branch: if it is still there, it is the bottle's to move.
    pub earlier: Option<&'a str>,
    /// An empty folder of bottler's own, which is the caller's to remove.
    pub staging: &'a Path,
    /// Whether the user's own filters may run on what the agent has changed.
    pub filters: bool,
    /// Whether it is not wanted any more: asked between its steps, for the last time before anything of the user's changes.
    pub cancelled: &'a (dyn Fn() -> bool + Sync),
}

impl PullOptions<'_> {
    pub(super) fn check_cancelled(&self) -> io::Result<()> {
        if (self.cancelled)() { Err(io::Error::new(io::ErrorKind::Interrupted, "cancelled")) } else { Ok(()) }
    }
}

/// What was brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PullReport {
    /// The commit that the branch is at.
    pub commit: String,
    /// Whether its last commit is bottler's: of what the agent had changed and not committed.
    pub uncommitted: bool,
    /// What could not be brought, and why.
    pub skipped: Vec<SkippedPath>,
    /// Files that are ignored and on the branch all the same: the agent has committed them.
    pub ignored: BTreeSet<Name>,
    /// References that were made or moved beside the branch, for people, each with what it is at.
    pub references: BTreeMap<String, String>,
    /// What the agent's references were at, of those that have been brought.
    pub tips: BTreeMap<Name, String>,
    /// Commits of the agent's logs that have been brought, or that the user had.
    pub logged: BTreeSet<String>,
    /// References of the agent's whose objects are not there, for people.
    pub broken: Vec<String>,
}

/// Why a commit of the agent's is not brought: git refuses its objects, or the names in its tree.
pub(super) fn refused(error: &io::Error) -> io::Error {
    io::Error::other(format!("git does not take what the agent committed: {error}"))
}
