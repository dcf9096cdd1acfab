//! The differences between two texts as hunks of a unified diff, as git writes and reads them (GNU diffutils manual,
//! "Detailed Description of Unified Format").

use std::io::{self, Write};
use std::ops::Range;

use imara_diff::{Algorithm, Diff, Hunk, InternedInput};

/// Lines of context around a change.
const CONTEXT: u32 = 3;

/// Writes the hunks. Lines end with a newline, but for the last one of a side.
///
/// # Errors
/// They cannot be written.
pub(super) fn write(before: &str, after: &str, to: &mut impl Write) -> io::Result<()> {
    let input = InternedInput::new(before, after);
    let mut diff = Diff::compute(Algorithm::Histogram, &input);
    diff.postprocess_lines(&input);
    let mut together: Vec<Hunk> = Vec::new();
    for hunk in diff.hunks() {
        if together.last().is_some_and(|last| hunk.before.start - last.before.end > 2 * CONTEXT) {
            hunks(&input, &together, to)?;
            together.clear();
        }
        together.push(hunk);
    }
    hunks(&input, &together, to)
}

/// Writes changes that share their context as one hunk.
fn hunks(input: &InternedInput<&str>, changes: &[Hunk], to: &mut impl Write) -> io::Result<()> {
    let (Some(first), Some(last)) = (changes.first(), changes.last()) else { return Ok(()) };
    let above = CONTEXT.min(first.before.start);
    let length = u32::try_from(input.before.len()).unwrap_or(u32::MAX);
    let below = CONTEXT.min(length - last.before.end);
    let old = first.before.start - above..last.before.end + below;
    let new = first.after.start - above..last.after.end + below;
    writeln!(to, "@@ -{} +{} @@", range(&old), range(&new))?;
    let mut at = old.start;
    for change in changes {
        lines(input, &input.before, at..change.before.start, ' ', to)?;
        lines(input, &input.before, change.before.clone(), '-', to)?;
        lines(input, &input.after, change.after.clone(), '+', to)?;
        at = change.before.end;
    }
    lines(input, &input.before, at..old.end, ' ', to)
}

/// Lines are counted from 1; an empty range names the line before it.
fn range(lines: &Range<u32>) -> String {
    match lines.len() {
        0 => format!("{},0", lines.start),
        1 => (lines.start + 1).to_string(),
        length => format!("{},{length}", lines.start + 1),
    }
}

fn lines(
    input: &InternedInput<&str>,
    side: &[imara_diff::Token],
    which: Range<u32>,
    mark: char,
    to: &mut impl Write,
) -> io::Result<()> {
    for &token in &side[which.start as usize..which.end as usize] {
        let line = input.interner[token];
        write!(to, "{mark}{line}")?;
        if !line.ends_with('\n') {
            writeln!(to, "\n\\ No newline at end of file")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unified(before: &str, after: &str) -> String {
        let mut text = Vec::new();
        write(before, after, &mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn hunks_are_those_of_git() {
        assert_eq!(unified("", "a\n"), "@@ -0,0 +1 @@\n+a\n");
        assert_eq!(unified("a\nb\n", ""), "@@ -1,2 +0,0 @@\n-a\n-b\n");
        assert_eq!(
            unified("a\nb", "a\nc"),
            "@@ -1,2 +1,2 @@\n a\n-b\n\\ No newline at end of file\n+c\n\\ No newline at end of file\n"
        );
        assert_eq!(unified("a", "a\n"), "@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+a\n");
        let numbers = |changed: &[u32]| -> String {
            let word = |n: u32| if changed.contains(&n) { format!("changed {n}\n") } else { format!("{n}\n") };
            (1..=20).map(word).collect()
        };
        let near =
            "@@ -1,13 +1,13 @@\n 1\n 2\n-3\n+changed 3\n 4\n 5\n 6\n 7\n 8\n 9\n-10\n+changed 10\n 11\n 12\n 13\n";
        assert_eq!(unified(&numbers(&[]), &numbers(&[3, 10])), near);
        let far =
            "@@ -1,4 +1,4 @@\n-1\n+changed 1\n 2\n 3\n 4\n@@ -6,7 +6,7 @@\n 6\n 7\n 8\n-9\n+changed 9\n 10\n 11\n 12\n";
        assert_eq!(unified(&numbers(&[]), &numbers(&[1, 9])), far);
        assert_eq!(unified("same\n", "same\n"), "");
    }
}
