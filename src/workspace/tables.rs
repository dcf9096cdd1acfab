//! Collects the reftable files of a repository and its worktrees, and reads them once the whole archive has been
//! read.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::name::Name;
use super::reftable::{Budget, Stack};

/// The content of the `HEAD` file if `HEAD` is stored in a table.
pub(super) const STUB: &[u8] = b"refs/heads/.invalid";
/// The file that lists the tables, the oldest first.
const LIST: &[u8] = b"reftable/tables.list";
/// Maximum size of that file, in bytes, and maximum number of tables.
const MAX_LIST: u64 = 1 << 20;
const MAX_TABLES: usize = 10_000;
/// Maximum size of a table, in bytes.
const MAX_TABLE: u64 = 64 << 20;
/// Maximum size of the decoded tables of a repository, in bytes.
const MAX_BUDGET: usize = 256 << 20;

/// The collected files, generic over how a file is represented.
#[derive(Debug)]
pub(super) struct Tables<File> {
    /// Files in a `reftable` folder, the repository's or a worktree's, by path below `.git`.
    pub(super) files: BTreeMap<Name, File>,
    /// Path prefixes of the places whose stub says that references are in tables.
    stubs: BTreeSet<Name>,
}

impl<File> Default for Tables<File> {
    fn default() -> Self {
        Self { files: BTreeMap::new(), stubs: BTreeSet::new() }
    }
}

/// Functions that return the content of a file, and its size.
pub(super) struct Access<'a, File> {
    pub(super) size: &'a dyn Fn(&File) -> u64,
    pub(super) content: &'a dyn Fn(&File) -> io::Result<Vec<u8>>,
}

/// A file that cannot be read, by its path below `.git`, and why.
pub(super) type UnreadableTable = (Name, String);

impl<File> Tables<File> {
    /// Records a file in place of the folder `refs/heads`.
    pub(super) fn note_stub(&mut self, inside: &[u8]) {
        self.stubs.insert(inside[..inside.len() - b"refs/heads".len()].to_vec());
    }

    /// The path prefix of each stack: empty, or a worktree's folder.
    fn places(&self) -> BTreeSet<Name> {
        self.files.keys().map(|path| path[..path.len() - of_worktree(path).len()].to_vec()).collect()
    }

    /// The stacks, by path prefix. They share one budget.
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

    /// Stubs that say that references are in tables, while there are no tables.
    pub(super) fn without_tables(&self) -> Vec<Name> {
        self.stubs.difference(&self.places()).map(|place| [place, &b"refs/heads"[..]].concat()).collect()
    }

    /// Reads the stack of one place.
    fn stack(&self, place: &Name, budget: &mut Budget, access: &Access<'_, File>) -> Result<Stack, UnreadableTable> {
        let read = |name: &[u8], most: u64| {
            let path = [place, name].concat();
            match self.files.get(&path) {
                None => Err((path, "it is missing; if the agent is running, try again".to_owned())),
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

/// A path below `.git`, without the prefix of a worktree.
pub(super) fn of_worktree(inside: &[u8]) -> &[u8] {
    let Some(rest) = inside.strip_prefix(b"worktrees/") else { return inside };
    rest.iter().position(|byte| *byte == b'/').map_or(rest, |at| &rest[at + 1..])
}
