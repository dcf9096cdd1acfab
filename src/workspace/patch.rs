//! What changed, as a patch.

use similar::TextDiff;

use super::{Files, WorkspaceFile};

/// Lines around a change in a patch.
const CONTEXT: usize = 3;

/// The changes from one state to another, in git's form of a unified diff. What cannot be written so, binary files
/// and names with control characters, is named in lines before the first change, which `git apply` passes over.
pub fn patch(before: &Files, after: &Files) -> String {
    let (mut not_written, mut text) = (String::new(), String::new());
    let mut paths: Vec<&String> = before.keys().chain(after.keys()).collect();
    paths.sort_unstable();
    paths.dedup();
    for path in paths {
        let (old, new) = (before.get(path), after.get(path));
        if old == new {
            continue;
        }
        match change(path, old, new) {
            Some(change) => text.push_str(&change),
            None => not_written.push_str(&format!("# not in this patch: {path:?}, which is no text, or too large\n")),
        }
    }
    not_written + &text
}

fn change(path: &str, old: Option<&WorkspaceFile>, new: Option<&WorkspaceFile>) -> Option<String> {
    if path.contains(|c: char| c.is_control() || c == '"' || c == '\\') {
        return None;
    }
    // A file that becomes a link, or the other way round, is removed and made anew, as git has it.
    if let (Some(from), Some(to)) = (old, new)
        && mode(from)[..3] != mode(to)[..3]
    {
        return Some(change(path, old, None)? + &change(path, None, new)?);
    }
    let mut text = format!("diff --git a/{path} b/{path}\n");
    match (old.map(mode), new.map(mode)) {
        (None, Some(mode)) => text.push_str(&format!("new file mode {mode}\n")),
        (Some(mode), None) => text.push_str(&format!("deleted file mode {mode}\n")),
        (Some(from), Some(to)) if from != to => text.push_str(&format!("old mode {from}\nnew mode {to}\n")),
        _ => {}
    }
    let (before, after) = (lines(old)?, lines(new)?);
    if before != after {
        // A name with a space ends at the tab.
        let tab = if path.contains(' ') { "\t" } else { "" };
        let side = |there: bool, letter: char| {
            if there { format!("{letter}/{path}{tab}") } else { "/dev/null".to_owned() }
        };
        let (from, to) = (side(old.is_some(), 'a'), side(new.is_some(), 'b'));
        let diff = TextDiff::from_lines(before, after);
        text.push_str(&diff.unified_diff().context_radius(CONTEXT).header(&from, &to).to_string());
    }
    Some(text)
}

/// A file's mode as git writes it.
pub(super) fn mode(file: &WorkspaceFile) -> &'static str {
    match file {
        WorkspaceFile::Regular { executable: false, .. } | WorkspaceFile::Large { executable: false, .. } => "100644",
        WorkspaceFile::Regular { executable: true, .. } | WorkspaceFile::Large { executable: true, .. } => "100755",
        WorkspaceFile::Link(_) => "120000",
    }
}

fn lines(file: Option<&WorkspaceFile>) -> Option<&str> {
    match file {
        None => Some(""),
        Some(WorkspaceFile::Large { .. }) => None,
        Some(WorkspaceFile::Link(target)) => Some(target),
        Some(WorkspaceFile::Regular { content, .. }) => std::str::from_utf8(content).ok().filter(|t| !t.contains('\0')),
    }
}
