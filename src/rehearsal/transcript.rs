//! What a rehearsal shows: rows of what would be made, in program order, and of what would be undone.

use serde::Serialize;

use crate::primitive::Event;
use crate::session::{UndoOutcome, UndoRow};

/// A rehearsal in rows.
#[derive(Debug, Serialize)]
pub struct Transcript {
    /// What would be made and run, in program order.
    pub makes: Vec<Made>,
    /// What would be undone, first things first.
    pub undoes: Vec<Undone>,
}

/// A thing that would be made, or a hook that would run.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Made {
    /// `network`, `sidecar`, `agent`, `volume`, `bottle`, `hook`, `log`.
    pub kind: String,
    /// Its name in the recipe.
    pub name: String,
    /// The script line that asked for it.
    pub at: Option<String>,
}

/// A thing that would be undone.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Undone {
    /// As above, and `defer`, `on_teardown`.
    pub kind: String,
    /// Its name in the recipe.
    pub name: String,
    /// Why it failed, where it did.
    pub failed: Option<String>,
}

impl Transcript {
    pub(super) fn new(id: &str, events: Vec<Event>, undo: &[UndoRow]) -> Self {
        let short = |name: &str| {
            let part = name.strip_prefix(id).map_or(name, |rest| rest.trim_start_matches('-'));
            part.to_owned()
        };
        let made = |kind: &str, name: String, at: Option<String>| Some(Made { kind: kind.to_owned(), name, at });
        let makes = events.into_iter().filter_map(|event| match event {
            Event::Made { kind, name, at, .. } => made(kind.word(), short(&name), at.map(|at| at.to_string())),
            Event::Bottle { id, at, .. } => made("bottle", without_suffix(&id), at.map(|at| at.to_string())),
            Event::Hook { when, name, at } => {
                let name = if name.is_empty() { when } else { format!("{when}.{name}") };
                made("hook", name, at.map(|at| at.to_string()))
            }
            Event::Log(text) => made("log", text, None),
            _ => None,
        });
        let undoes = undo.iter().map(|row| Undone {
            kind: row.kind.clone(),
            name: if row.kind == "bottle" { without_suffix(&row.name) } else { short(&row.name) },
            failed: match &row.outcome {
                UndoOutcome::Failed(why) => Some(why.clone()),
                _ => None,
            },
        });
        Self { makes: makes.collect(), undoes: undoes.collect() }
    }
}

/// A further bottle's id is another at every run: its beginning says which it is.
fn without_suffix(id: &str) -> String {
    id.rsplit_once('-').map_or(id, |(slug, _)| slug).to_owned()
}
