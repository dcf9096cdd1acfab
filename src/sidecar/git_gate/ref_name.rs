//! Names of references, by git's rules. Pure.

/// Where branches and tags are.
pub(super) const HEADS: &str = "refs/heads/";
/// See [`HEADS`].
pub(super) const TAGS: &str = "refs/tags/";

/// Maximum length of a name, and of a component of it, in bytes: git creates each component as a file, with `.lock`
/// appended while it is locked.
const MAX_NAME: usize = 1024;
const MAX_PART: usize = 250;

/// Whether git accepts a name (`git-check-ref-format(1)`), and file systems accept its components. Names that are not
/// UTF-8 are refused as well: what people are shown must be what is pushed.
pub(super) fn is_valid(name: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty() && part.len() <= MAX_PART && !part.starts_with('.') && part.strip_suffix(".lock").is_none()
    };
    let is_letter = |letter: char| !letter.is_control() && !" ~^:?*[\\".contains(letter);
    name.len() <= MAX_NAME
        && name.contains('/')
        && name.chars().all(is_letter)
        && name.split('/').all(is_part)
        && !name.ends_with('.')
        && !name.contains("..")
        && !name.contains("@{")
}

/// The short name of a branch.
pub(super) fn branch(name: &str) -> Option<&str> {
    name.strip_prefix(HEADS)
}

/// The short name of a tag.
pub(super) fn tag(name: &str) -> Option<&str> {
    name.strip_prefix(TAGS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn names_are_those_that_git_takes() {
        let parts = [
            "a",
            "",
            ".a",
            "a.",
            "a.lock",
            "a.lock.b",
            "a..b",
            "a b",
            "a~",
            "a^",
            "a:",
            "a?",
            "a*",
            "a[",
            "a\\",
            "@",
            "@{",
            "a@{b",
            "-a",
            "a\u{7f}",
            "é",
            "a/b",
            "a//b",
            "a/",
            "/a",
            "a/.b",
            "a/b.lock/c",
            "HEAD",
        ];
        for part in parts {
            let name = format!("{HEADS}{part}");
            let git = Command::new("git").args(["check-ref-format", &name]).status().unwrap().success();
            assert_eq!(is_valid(&name), git, "{name:?}");
        }
        assert!(!is_valid("HEAD") && !is_valid(&format!("{HEADS}{}", "a".repeat(251))));
        // git accepts a C1 control; terminals obey it.
        assert!(!is_valid("refs/heads/a\u{9b}31m"));
    }
}
