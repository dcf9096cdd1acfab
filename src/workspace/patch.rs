//! Writes changes as a complete patch in git's format: text as a unified diff, everything else as a binary patch.

use std::collections::BTreeSet;
use std::io::{self, Write};

use super::binary;
use super::entry::Entry;
use super::name::{Name, is_taken_by_git, quoted};
use super::pull::SkippedPath;
use super::snapshot::Snapshot;
use super::unified;

/// Maximum size of text that is compared line by line, in bytes; larger text is included as binary.
const MAX_TEXT: u64 = 16 << 20;
/// Maximum size of a file in a patch, in bytes.
const MAX_CHANGE: u64 = 256 << 20;

/// Writes the changes between two snapshots. Paths that a patch cannot contain are named in comment lines at the top,
/// which `git apply` ignores, and returned.
///
/// # Errors
/// An archive cannot be read, or the patch cannot be written.
pub fn patch(before: &Snapshot, after: &Snapshot, to: &mut impl Write) -> io::Result<Vec<SkippedPath>> {
    let names: BTreeSet<&Name> = before.files.keys().chain(after.files.keys()).collect();
    let changed: Vec<&Name> =
        names.into_iter().filter(|name| before.files.get(*name) != after.files.get(*name)).collect();
    let why = |name: &Name| -> Option<&'static str> {
        let sides = [before.files.get(name), after.files.get(name)];
        let is_link = sides.iter().flatten().any(|entry| matches!(entry, Entry::Link(_)));
        let is_large = |entry: &&Entry| matches!(entry, Entry::File(file) if file.size > MAX_CHANGE);
        if !is_taken_by_git(name, is_link) {
            return Some("git does not accept a file of this name");
        }
        sides.iter().flatten().any(is_large).then_some("it is too large")
    };
    let skipped: Vec<SkippedPath> =
        changed.iter().filter_map(|name| Some(((*name).clone(), why(name)?.to_owned()))).collect();
    for (name, why) in &skipped {
        writeln!(to, "# not in this patch: {}: {why}", quoted(name))?;
    }
    for name in changed.into_iter().filter(|name| why(name).is_none()) {
        change(name, (before, before.files.get(name)), (after, after.files.get(name)), to)?;
    }
    Ok(skipped)
}

/// Returns the changes as text; all of it is UTF-8.
///
/// # Errors
/// An archive cannot be read.
pub fn patch_text(before: &Snapshot, after: &Snapshot) -> io::Result<String> {
    let mut text = Vec::new();
    patch(before, after, &mut text)?;
    // Content that is not UTF-8 is written as binary, and names are escaped.
    String::from_utf8(text).map_err(|_| io::Error::other("the patch is not UTF-8"))
}

type Side<'a> = (&'a Snapshot, Option<&'a Entry>);

fn change(name: &Name, old: Side<'_>, new: Side<'_>, to: &mut impl Write) -> io::Result<()> {
    // git represents a change between file and link as a removal and an addition.
    if let (Some(from), Some(into)) = (old.1, new.1)
        && from.mode()[..3] != into.mode()[..3]
    {
        change(name, old, (new.0, None), to)?;
        return change(name, (old.0, None), new, to);
    }
    let side = |letter: char| quoted(&[format!("{letter}/").as_bytes(), name].concat());
    writeln!(to, "diff --git {} {}", side('a'), side('b'))?;
    match (old.1.map(Entry::mode), new.1.map(Entry::mode)) {
        (None, Some(mode)) => writeln!(to, "new file mode {mode}")?,
        (Some(mode), None) => writeln!(to, "deleted file mode {mode}")?,
        (Some(from), Some(into)) if from != into => writeln!(to, "old mode {from}\nnew mode {into}")?,
        _ => {}
    }
    let (from, into) = (content(old)?, content(new)?);
    if from == into && old.1.is_some() && new.1.is_some() {
        return Ok(());
    }
    let (one, two) = (text(from.as_deref()), text(into.as_deref()));
    let (Some(one), Some(two)) = (one, two) else {
        let wide = [old.0, new.0].iter().any(|snapshot| snapshot.repository.is_sha256());
        return binary::write(from.as_deref(), into.as_deref(), wide, to);
    };
    if one == two {
        return Ok(());
    }
    // A tab ends a name with spaces.
    let tab = if name.contains(&b' ') { "\t" } else { "" };
    let headed =
        |there: bool, letter: char| if there { format!("{}{tab}", side(letter)) } else { "/dev/null".to_owned() };
    let (from, into) = (headed(old.1.is_some(), 'a'), headed(new.1.is_some(), 'b'));
    write!(to, "--- {from}\n+++ {into}\n")?;
    unified::write(one, two, to)
}

/// The content of a side; `None` if the file does not exist.
fn content((snapshot, entry): Side<'_>) -> io::Result<Option<Vec<u8>>> {
    Ok(match entry {
        None => None,
        Some(Entry::Link(target)) => Some(target.clone()),
        Some(Entry::File(file)) => {
            Some(snapshot.content(file).map_err(|error| io::Error::new(error.kind(), format!("read: {error}")))?)
        }
    })
}

/// The content as text; `None` if git would call it binary, or if it is not UTF-8.
fn text(content: Option<&[u8]>) -> Option<&str> {
    let content = content.unwrap_or_default();
    if content.len() as u64 > MAX_TEXT || content.contains(&0) {
        return None;
    }
    std::str::from_utf8(content).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::{Files, WorkspaceFile, shown};
    use std::process::Command;

    fn files(entries: &[(&str, &[u8])]) -> Snapshot {
        let file = |content: &[u8]| WorkspaceFile::Regular { content: content.to_vec(), executable: false };
        let files: Files = entries.iter().map(|(name, content)| ((*name).to_owned(), file(content))).collect();
        Snapshot::of(&files)
    }

    /// Names, line ends and contents of every kind, applied by git itself.
    #[test]
    fn git_applies_what_is_written_to_the_byte() {
        let noise: Vec<u8> = (0..20_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
        let before: &[(&str, &[u8])] = &[
            ("plain", b"one\ntwo\nthree\n"),
            ("no end", b"one"),
            ("crlf", b"one\r\ntwo\r\n"),
            ("old mac", b"one\rtwo\r"),
            ("gone", b"x\n"),
            ("empty", b""),
            ("binary", b"\0\x01\x02"),
            ("latin", b"\xe4\n"),
            ("becomes text", b"\0"),
        ];
        let after: &[(&str, &[u8])] = &[
            ("plain", b"one\n2\nthree\n"),
            ("no end", b"one\ntwo"),
            ("crlf", b"one\r\n2\r\n"),
            ("old mac", b"one\r2\r"),
            ("empty", b"no more\n"),
            ("binary", &noise),
            ("latin", b"\xe4\xff\n"),
            ("becomes text", b"text\n"),
            ("new \"quoted\"\\", b"new\n"),
            ("new\tand \u{e4}", b"\0new"),
            ("made empty", b""),
        ];
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in before {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        let mut text = Vec::new();
        assert_eq!(patch(&files(before), &files(after), &mut text).unwrap(), []);
        std::fs::write(folder.path().join("x.patch"), &text).unwrap();
        let done = Command::new("git").args(["apply", "x.patch"]).current_dir(folder.path()).output().unwrap();
        assert!(done.status.success(), "{}\n{}", String::from_utf8_lossy(&done.stderr), String::from_utf8_lossy(&text));
        std::fs::remove_file(folder.path().join("x.patch")).unwrap();
        for (name, content) in after {
            assert_eq!(&std::fs::read(folder.path().join(name)).unwrap(), content, "{name}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), after.len());
    }

    #[test]
    fn promise_15_text_of_the_largest_size_is_compared_and_larger_text_is_a_binary_change() {
        let size = usize::try_from(MAX_TEXT).unwrap();
        let before = b"line\n".repeat(size / 5);
        let of_size = |size: usize| [&before[..], b"more of it, and no end"].concat()[..size].to_vec();
        for (size, is_text) in [(size, true), (size + 1, false)] {
            let after = of_size(size);
            let mut text = Vec::new();
            assert_eq!(patch(&files(&[("a", &before)]), &files(&[("a", &after)]), &mut text).unwrap(), []);
            let text = String::from_utf8(text).unwrap();
            assert_eq!(text.contains("\n--- a/a\n+++ b/a\n@@ "), is_text, "{size}");
            assert_eq!(text.contains("\nGIT binary patch\n"), !is_text, "{size}");
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("a"), &before).unwrap();
            std::fs::write(folder.path().join("x.patch"), &text).unwrap();
            let done = Command::new("git").args(["apply", "x.patch"]).current_dir(folder.path()).output().unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            assert!(std::fs::read(folder.path().join("a")).unwrap() == after, "{size}");
        }
    }

    #[test]
    fn promise_15_a_file_of_the_largest_size_is_in_a_patch_and_a_larger_one_is_named() {
        for (size, is_there) in [(MAX_CHANGE, true), (MAX_CHANGE + 1, false)] {
            let content = vec![0; usize::try_from(size).unwrap()];
            let mut text = Vec::new();
            let skipped = patch(&files(&[]), &files(&[("a", &content)]), &mut text).unwrap();
            let names: Vec<_> = skipped.iter().map(|(name, why)| (shown(name), why.as_str())).collect();
            let text = String::from_utf8(text).unwrap();
            assert_eq!(text.contains("GIT binary patch"), is_there, "{size}");
            let left_out = [("a".to_owned(), "it is too large")];
            assert_eq!(names, if is_there { &[] } else { &left_out[..] });
            assert_eq!(text.starts_with("# not in this patch: a: it is too large\n"), !is_there);
        }
    }

    #[test]
    fn what_git_does_not_take_is_named_and_left_out() {
        let mut text = Vec::new();
        let skipped = patch(&files(&[]), &files(&[(".GIT/config", b"x"), ("a", b"a\n")]), &mut text).unwrap();
        assert_eq!(skipped.iter().map(|(name, _)| shown(name)).collect::<Vec<_>>(), [".GIT/config"]);
        let text = String::from_utf8(text).unwrap();
        assert!(text.starts_with("# not in this patch: .GIT/config") && text.contains("+a\n"), "{text}");
    }
}
