//! Collects the reftable files of a repository and its worktrees, and reads them after the whole archive was seen.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::name::Name;
use super::reftable::{Budget, Stack};

/// The content of the `HEAD` file if `HEAD` is stored in a table.
pub(super) const STUB: &[u8] = b"refs/heads/.invalid";
/// The file that names the tables, the oldest first.
const LIST: &[u8] = b"reftable/tables.list";
/// Largest such file, in bytes, and most tables.
const MAX_LIST: u64 = 1 << 20;
const MAX_TABLES: usize = 10_000;
/// Largest table, in bytes.
const MAX_TABLE: u64 = 64 << 20;
/// Most that is made of the tables of a repository, in bytes.
const MAX_BUDGET: usize = 256 << 20;

/// The collected files, generic over how a file is represented.
#[derive(Debug)]
pub(super) struct Tables<File> {
    /// What is in a folder `reftable`, the repository's or a worktree's, by path below `.git`.
    pub(super) files: BTreeMap<Name, File>,
    /// Whose references are said to be elsewhere: what is before the paths of their files.
    stubs: BTreeSet<Name>,
}

impl<File> Default for Tables<File> {
    fn default() -> Self {
        Self { files: BTreeMap::new(), stubs: BTreeSet::new() }
    }
}

/// How the content of a file is had, and its size.
pub(super) struct Access<'a, File> {
    pub(super) size: &'a dyn Fn(&File) -> u64,
    pub(super) content: &'a dyn Fn(&File) -> io::Result<Vec<u8>>,
}

/// What cannot be read, by its path below `.git`, and why.
pub(super) type UnreadableTable = (Name, String);

impl<File> Tables<File> {
    /// Notes a file in the place of the folder of branches.
    pub(super) fn note_stub(&mut self, inside: &[u8]) {
        self.stubs.insert(inside[..inside.len() - b"refs/heads".len()].to_vec());
    }

    /// What is before the paths of tables, of each stack: nothing, or a worktree's folder.
    fn places(&self) -> BTreeSet<Name> {
        self.files.keys().map(|path| path[..path.len() - of_worktree(path).len()].to_vec()).collect()
    }

    /// The stacks, each by what is before the paths of its files. They share one budget.
    pub(super) fn stacks(
        &self,
        access: &Access<'_, File>,
    ) -> impl Iterator<Item = (Name, Result<Stack, UnreadableTable>)> {
        let mut budget = Budget(MAX_BUDGET);
        self.places().into_iter().map(move |place| {
            let stack = self.stack(&place, &mut budget, access);
            (place, stack)
        })
    }

    /// Files that say that references are in tables, if there are none.
    pub(super) fn without_tables(&self) -> Vec<Name> {
        self.stubs.difference(&self.places()).map(|place| [place, &b"refs/heads"[..]].concat()).collect()
    }

    /// The tables of one place on top of each other.
    fn stack(&self, place: &Name, budget: &mut Budget, access: &Access<'_, File>) -> Result<Stack, UnreadableTable> {
        let read = |name: &[u8], most: u64| {
            let path = [place, name].concat();
            match self.files.get(&path) {
                None => Err((path, "it is not there; if the agent is at work, once more".to_owned())),
                Some(file) if (access.size)(file) > most => Err((path, format!("it is larger than {most} bytes"))),
                Some(file) => match (access.content)(file) {
                    Ok(content) => Ok((path, content)),
                    Err(error) => Err((path, error.to_string())),
                },
            }
        };
        let (path, list) = read(LIST, MAX_LIST)?;
        let names: Vec<&[u8]> = list.split(|byte| *byte == b'\n').filter(|name| !name.is_empty()).collect();
        if names.len() > MAX_TABLES || names.iter().collect::<BTreeSet<_>>().len() != names.len() {
            return Err((path, "it names too many tables, or one twice".to_owned()));
        }
        let mut stack = Stack::default();
        for name in names {
            let (path, table) = read(&[b"reftable/", name].concat(), MAX_TABLE)?;
            stack.add(&table, budget).map_err(|why| (path, why.to_string()))?;
        }
        Ok(stack)
    }
}

/// A path below `.git`, without the folder of a worktree that it is in.
pub(super) fn of_worktree(inside: &[u8]) -> &[u8] {
    let Some(rest) = inside.strip_prefix(b"worktrees/") else { return inside };
    rest.iter().position(|byte| *byte == b'/').map_or(rest, |at| &rest[at + 1..])
}
