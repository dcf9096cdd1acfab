//! Names of references by git's rules (`git-check-ref-format(1)`). Pure.

/// Where branches are.
pub(crate) const HEADS: &str = "refs/heads/";
/// Where tags are.
pub(crate) const TAGS: &str = "refs/tags/";

/// Maximum length of a name, and of a component of it, in bytes: git creates each component as a file, with `.lock`
/// appended while it is locked.
const MAX_NAME: usize = 1024;
const MAX_PART: usize = 250;

/// Whether git accepts a complete name, such as `refs/heads/main`, and file systems accept its components.
pub(crate) fn is_name(name: &[u8]) -> bool {
    let is_part = |part: &[u8]| {
        !part.is_empty() && part.len() <= MAX_PART && !part.starts_with(b".") && !part.ends_with(b".lock")
    };
    let is_byte = |byte: &u8| *byte > b' ' && *byte != 0x7f && !b"~^:?*[\\".contains(byte);
    name.len() <= MAX_NAME
        && name.contains(&b'/')
        && name.iter().all(is_byte)
        && name.split(|byte| *byte == b'/').all(is_part)
        && !name.ends_with(b".")
        && !name.windows(2).any(|pair| pair == b".." || pair == b"@{")
}

/// The same for a name that people are shown: it is UTF-8, and has no controls that git accepts and terminals obey.
pub(crate) fn is_printable_name(name: &str) -> bool {
    is_name(name.as_bytes()) && !name.chars().any(char::is_control)
}

/// The short name of a branch.
pub(crate) fn branch(name: &str) -> Option<&str> {
    name.strip_prefix(HEADS)
}

/// The short name of a tag.
pub(crate) fn tag(name: &str) -> Option<&str> {
    name.strip_prefix(TAGS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::process::Command;

    #[test]
    fn names_are_those_that_git_takes() {
        let parts: [&[u8]; 29] = [
            b"a",
            b"",
            b".a",
            b"a.",
            b"a.lock",
            b"a.lock.b",
            b"a..b",
            b"a b",
            b"a~",
            b"a^",
            b"a:",
            b"a?",
            b"a*",
            b"a[",
            b"a\\",
            b"@",
            b"@{",
            b"a@{b",
            b"\x7f",
            b"\x01",
            b"\xff",
            b"-a",
            "ä".as_bytes(),
            b"\"'`$",
            b"a//b",
            b"a/",
            b"/a",
            b"a/.b",
            b"a/b.lock/c",
        ];
        for (one, two) in parts.iter().flat_map(|one| parts.iter().map(move |two| (one, two))) {
            let name = [b"refs/heads/", *one, b"/", *two].concat();
            let mut git = Command::new("git");
            let taken = git.arg("check-ref-format").arg(OsStr::from_bytes(&name)).status().unwrap().success();
            assert_eq!(is_name(&name), taken, "{:?}", String::from_utf8_lossy(&name));
        }
        assert!(!is_name(&[b"refs/", &b"a".repeat(251)[..]].concat()) && !is_name(b"HEAD"));
    }

    #[test]
    fn promise_17_a_name_that_is_shown_controls_no_terminal() {
        assert!(is_name("refs/heads/a\u{9b}31m".as_bytes()) && !is_printable_name("refs/heads/a\u{9b}31m"));
        assert!(is_printable_name("refs/heads/é") && !is_printable_name("refs/heads/../x"));
        assert_eq!(
            [branch("refs/heads/a/b"), tag("refs/tags/v1"), branch("refs/tags/v1")],
            [Some("a/b"), Some("v1"), None]
        );
    }
}
