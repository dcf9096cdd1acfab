//! References of a repository that are in tables: which of its files count, read once all of them have been seen.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::name::{Name, shown};
use super::reftable::{Budget, Stack, Value};
use super::repository::{MAX_TEXT, Repository, of_worktree};
use super::snapshot::Regular;

/// What git leaves in `HEAD` where that is in a table.
const STUB: &[u8] = b"refs/heads/.invalid";
/// The file that names the tables, the oldest first.
const LIST: &[u8] = b"reftable/tables.list";
/// Largest such file, in bytes, and most tables.
const MAX_LIST: u64 = 1 << 20;
const MAX_TABLES: usize = 10_000;
/// Most that is made of the tables of a repository, in bytes.
const MAX_BUDGET: usize = 4 * MAX_TEXT;

/// The files of a repository that have to do with tables.
#[derive(Debug, Default)]
pub(super) struct Tables {
    /// What is in a folder `reftable`, the repository's or a worktree's, by path below `.git`.
    pub(super) files: BTreeMap<Name, Regular>,
    /// Whose references are said to be elsewhere: before the paths of their files.
    stubs: BTreeSet<Name>,
}

impl Tables {
    /// Notes a file in the place of the folder of branches.
    pub(super) fn note_stub(&mut self, inside: &[u8]) {
        self.stubs.insert(inside[..inside.len() - b"refs/heads".len()].to_vec());
    }

    /// What is before the paths of tables, of each stack: nothing, or a worktree's folder.
    fn places(&self) -> BTreeSet<Name> {
        self.files.keys().map(|path| path[..path.len() - of_worktree(path).len()].to_vec()).collect()
    }
}

/// Reads the references that are in tables into a repository. What is not certain then, in words.
pub(super) fn read(repository: &mut Repository, content: &dyn Fn(&Regular) -> io::Result<Vec<u8>>) -> Vec<String> {
    let tables = std::mem::take(&mut repository.tables);
    let mut budget = Budget(MAX_BUDGET);
    let mut doubts = Vec::new();
    let stub = Value::Symbolic(STUB.to_vec());
    let places = tables.places();
    for place in &places {
        let head = [place, &b"HEAD"[..]].concat();
        if repository.references.get(&head).is_some_and(|value| *value != stub) {
            doubts.push(format!(
                ".git/{}: it is beside references in tables, and which of them count is not known",
                shown(&head)
            ));
        }
        match stack(&tables, place, &mut budget, content) {
            Ok(stack) => {
                repository.note_logged(stack.logged());
                for (name, value) in stack.references {
                    repository.note_value([place, &name[..]].concat(), value);
                }
            }
            Err((path, why)) => doubts.push(format!(".git/{}: {why}", shown(&path))),
        }
    }
    for place in tables.stubs.difference(&places) {
        doubts
            .push(format!(".git/{}refs/heads: it is a file, and where the references are is not known", shown(place)));
    }
    let lost = repository.references.iter().filter(|(_, value)| **value == stub);
    let lost: Vec<String> = lost.map(|(name, _)| format!(".git/{}: what it has is in no table", shown(name))).collect();
    doubts.into_iter().chain(lost).collect()
}

/// The tables of one place on top of each other, or which file cannot be read, and why.
fn stack(
    tables: &Tables,
    place: &Name,
    budget: &mut Budget,
    content: &dyn Fn(&Regular) -> io::Result<Vec<u8>>,
) -> Result<Stack, (Name, String)> {
    let file = |name: &[u8], most: u64| {
        let path = [place, name].concat();
        match tables.files.get(&path) {
            None => Err((path, "it is not there; if the agent is at work, once more".to_owned())),
            Some(file) if file.size > most => Err((path, format!("it is larger than {most} bytes"))),
            Some(file) => {
                content(file).map(|content| (path.clone(), content)).map_err(|error| (path, error.to_string()))
            }
        }
    };
    let (path, list) = file(LIST, MAX_LIST)?;
    let names: Vec<&[u8]> = list.split(|byte| *byte == b'\n').filter(|name| !name.is_empty()).collect();
    if names.len() > MAX_TABLES || names.iter().collect::<BTreeSet<_>>().len() != names.len() {
        return Err((path, "it names too many tables, or one twice".to_owned()));
    }
    let mut stack = Stack::default();
    for name in names {
        let (path, table) = file(&[b"reftable/", name].concat(), MAX_TEXT as u64)?;
        stack.add(&table, budget).map_err(|why| (path, why.to_string()))?;
    }
    Ok(stack)
}
