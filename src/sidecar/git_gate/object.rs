//! Reads trees and commits as git writes them (git, `gitformat-pack(5)` and "Git Objects" in Pro Git). Pure.

use super::terms::Terms;

/// The modes of a tree's entries: folders, files, executable files, symbolic links, submodules, and files as git
/// once wrote them.
const MODES: [&[u8]; 6] = [b"40000", b"100644", b"100755", b"120000", b"160000", b"100664"];

/// The names of a tree's entries; `None` if one of them is not as git writes it.
pub(super) fn names(mut content: &[u8]) -> Option<Vec<&[u8]>> {
    let mut names = Vec::new();
    while !content.is_empty() {
        let space = memchr::memchr(b' ', content)?;
        let end = memchr::memchr(0, content)?;
        let (mode, name) = (&content[..space], content.get(space + 1..end)?);
        let is_special = name.is_empty() || name == b"." || name == b".." || name.eq_ignore_ascii_case(b".git");
        if is_special || name.contains(&b'/') || !MODES.contains(&mode) {
            return None;
        }
        names.push(name);
        content = content.get(end + 1 + 20..)?;
    }
    Some(names)
}

/// The address of an author or committer that may not be one.
pub(super) fn refused_author(commit: &[u8], terms: &Terms) -> Option<String> {
    let text = String::from_utf8_lossy(commit);
    let head = text.split("\n\n").next().unwrap_or_default();
    let people = head.lines().filter(|line| line.starts_with("author ") || line.starts_with("committer "));
    let mut emails =
        people.map(|line| line.rsplit_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(email, _)| email));
    let refused = emails.find(|email| !email.is_some_and(|email| terms.accepts_author(email)))?;
    Some(refused.unwrap_or_default().to_owned())
}
