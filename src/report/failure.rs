//! Formats a failure for people: script line, causes, hint, and what was removed.

use super::printable;
use crate::holder::Executed;
use crate::session::{Failure, UndoOutcome, UndoRow};

/// Most names that are listed; the rest are counted.
const MAX_NAMES: usize = 20;
/// Most causes that are listed; the rest are counted.
const MAX_CAUSES: usize = 12;

/// Formats a failure, without a final newline.
pub fn failure(failure: &Failure, undo: &[UndoRow]) -> String {
    let mut text = format!("error: {}", failure.message);
    if let Some(place) = &failure.at {
        let number = place.line.to_string();
        let margin = " ".repeat(number.len());
        text.push_str(&format!("\n{margin}--> {place}"));
        if !place.text.is_empty() {
            text.push_str(&format!("\n{margin} |\n{number} | {}\n{margin} |", place.text));
        }
    }
    for cause in failure.causes.iter().take(MAX_CAUSES) {
        text.push_str(&format!("\n  because: {cause}"));
    }
    if failure.causes.len() > MAX_CAUSES {
        text.push_str(&format!("\n  and {} more", failure.causes.len() - MAX_CAUSES));
    }
    if let Some(hint) = &failure.hint {
        text.push_str(&format!("\nhint: {hint}"));
    }
    for summary in [removed(undo), not_undone(undo)].into_iter().flatten() {
        text.push_str(&format!("\n{summary}"));
    }
    printable(&text)
}

fn removed(undo: &[UndoRow]) -> Option<String> {
    let names: Vec<&str> =
        undo.iter().filter(|row| row.outcome == UndoOutcome::Removed).map(|row| row.name.as_str()).collect();
    (!names.is_empty()).then(|| format!("removed: {}", names.join(", ")))
}

/// What could not be undone, one line each; `None` if everything was.
pub fn not_undone(undo: &[UndoRow]) -> Option<String> {
    let failed: Vec<String> = undo
        .iter()
        .filter_map(|row| match &row.outcome {
            UndoOutcome::Failed(why) => Some(format!("not undone: {} {}: {why}", row.kind, row.name)),
            _ => None,
        })
        .collect();
    (!failed.is_empty()).then(|| printable(&failed.join("\n")))
}

/// A warning about files in a mounted folder that host tools execute; `None` if there are none.
pub fn executed_paths(executed: &Executed) -> Option<String> {
    let folder = executed.folder.display();
    if let Some(why) = &executed.unknown {
        let text = format!("warning: bottler cannot tell what this host would execute in {folder}: {why}");
        return Some(printable(&format!("{text}\nhint: look for .git, .envrc and similar before you work there")));
    }
    let mut text = String::new();
    if !executed.repositories.is_empty() {
        text.push_str(&format!("warning: the agent created or changed what git takes for a repository in {folder}:"));
        text.push_str(&list(&executed.repositories));
        text.push_str("\nhint: git, and a prompt that asks it, runs commands that such a repository names. Remove it, or look at it from outside; \
             `git -c safe.bareRepository=explicit` takes no bare one");
    }
    if !executed.files.is_empty() {
        let end = if text.is_empty() { "" } else { "\n" };
        text.push_str(&format!(
            "{end}created or changed in {folder}, and executed or obeyed by tools on this host; look at these first:"
        ));
        text.push_str(&list(&executed.files));
    }
    (!text.is_empty()).then(|| printable(&text))
}

fn list(names: &[String]) -> String {
    let mut text = String::new();
    for name in names.iter().take(MAX_NAMES) {
        text.push_str(&format!("\n  {}", name.escape_default()));
    }
    if names.len() > MAX_NAMES {
        text.push_str(&format!("\n  and {} more", names.len() - MAX_NAMES));
    }
    text
}

/// A bottle's isolation has failed while its agent ran, and what was done.
pub fn not_tight(bottle: &str, why: &str, red: &[String], unpaused: Option<&str>) -> String {
    let done = match unpaused {
        None => "the agent is PAUSED".to_owned(),
        Some(error) => format!("the agent COULD NOT BE PAUSED: {error}"),
    };
    let mut text = format!("error: {bottle} is not tight any more ({why}); {done}");
    for line in red {
        text.push_str(&format!("\n  because: {line}"));
    }
    text.push_str(&format!("\nhint: `bottler stop {bottle}` ends it"));
    printable(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Class, ScriptLocation};

    #[test]
    fn a_failure_shows_its_line_and_its_remedy() {
        let place = ScriptLocation { script: "my.lua".into(), line: 12, text: "network_create {}".into() };
        let shown =
            Failure::new(Class::Input, "network_create: option is missing: `name`").hint("name it").at(Some(&place));
        let expected = "error: network_create: option is missing: `name`\n  --> my.lua:12\n   |\n12 | network_create {}\n   |\nhint: name it";
        assert_eq!(failure(&shown, &[]), expected);
    }
}
