//! Paths in a workspace as bytes, as on Linux and in git; they may not be UTF-8.

/// A path below a workspace: non-empty components joined by `/`, none of them `.` or `..`.
pub type Name = Vec<u8>;

/// Quotes a name as git does (`core.quotePath`): unchanged if all bytes are printable ASCII, otherwise in quotation
/// marks with C escapes. Different names have different quotations.
pub fn quoted(name: &[u8]) -> String {
    let is_plain = |byte: &u8| (b' '..=b'~').contains(byte) && !matches!(byte, b'"' | b'\\');
    if name.iter().all(is_plain) {
        return String::from_utf8_lossy(name).into_owned();
    }
    let mut text = String::from("\"");
    for &byte in name {
        match byte {
            b'"' => text.push_str("\\\""),
            b'\\' => text.push_str("\\\\"),
            b'\n' => text.push_str("\\n"),
            b'\t' => text.push_str("\\t"),
            b' '..=b'~' => text.push(char::from(byte)),
            other => text.push_str(&format!("\\{other:03o}")),
        }
    }
    text.push('"');
    text
}

/// Formats a name for display: unchanged if it is UTF-8 without control characters, otherwise quoted as by git.
pub fn shown(name: &[u8]) -> String {
    match std::str::from_utf8(name) {
        Ok(text) if !text.contains(|c: char| c.is_control()) => text.to_owned(),
        _ => quoted(name),
    }
}

/// The last component of a name.
pub(super) fn last(name: &[u8]) -> &[u8] {
    name.rsplit(|byte| *byte == b'/').next().unwrap_or(name)
}

/// The parent folder of a name; the root is empty.
pub(super) fn folder(name: &[u8]) -> &[u8] {
    name.iter().rposition(|byte| *byte == b'/').map_or(b"", |at| &name[..at])
}

/// Whether git accepts a path in an index and a patch. It rejects names that other systems fold into `.git`
/// (git-config(1): `core.protectHFS`, `core.protectNTFS`).
pub(super) fn is_taken_by_git(name: &[u8], is_link: bool) -> bool {
    let parts = name.split(|byte| matches!(byte, b'/' | b'\\'));
    !parts.into_iter().any(|part| {
        let part = folded(part);
        part == b".git" || part == b"git~1" || is_link && part == b".gitmodules"
    })
}

/// A component as HFS+ and NTFS read it: without ignored characters, up to a colon, without trailing dots and spaces,
/// in lower case.
fn folded(part: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(part);
    let is_ignored =
        |c: char| matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}');
    let text: String = text.chars().filter(|c| !is_ignored(*c)).collect();
    let text = text.split(':').next().unwrap_or_default();
    text.trim_end_matches([' ', '.']).to_ascii_lowercase().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_as_git_writes_them() {
        for (name, expected) in [
            (&b"a b/c"[..], "a b/c"),
            (b"a\"b", "\"a\\\"b\""),
            (b"a\nb\xff", "\"a\\nb\\377\""),
            ("ä".as_bytes(), "\"\\303\\244\""),
        ] {
            assert_eq!(quoted(name), expected);
        }
        assert_eq!(shown("ä".as_bytes()), "ä");
        assert_eq!(shown(b"\xff"), "\"\\377\"");
        assert_eq!((last(b"a/b"), folder(b"a/b"), folder(b"a")), (&b"b"[..], &b"a"[..], &b""[..]));
    }

    #[test]
    fn what_other_systems_take_for_a_repository_is_not_taken() {
        for name in
            [".GIT", "a/.Git/config", "git~1", ".git. ", ".git::$INDEX_ALLOCATION", ".g\u{200c}it", "a\\.git\\x"]
        {
            assert!(!is_taken_by_git(name.as_bytes(), false), "{name}");
        }
        for name in [".gitignore", "x.git", ".github/x", "git~2", ".gitmodules"] {
            assert!(is_taken_by_git(name.as_bytes(), false), "{name}");
        }
        assert!(!is_taken_by_git(b".gitmodules", true));
    }
}
