//! Evaluates `.gitignore` files of a tree that is only in an archive (gitignore(5); git's wildmatch.c for matching).
//! Paths are bytes, as in git.

use std::collections::BTreeMap;

use super::name::{Name, folder};

/// The patterns of a tree by folder. Global patterns are stored under the root, before the root's own.
#[derive(Debug, Default)]
pub(super) struct IgnoreRules(BTreeMap<Name, Vec<Pattern>>);

#[derive(Debug)]
struct Pattern {
    text: Vec<u8>,
    /// It negates earlier patterns (`!`).
    negated: bool,
    /// It matches only folders.
    folders_only: bool,
    /// It matches the last part of a path at any depth.
    any_depth: bool,
}

impl IgnoreRules {
    /// Adds the text of a `.gitignore` file for a folder; the root is empty. Later patterns of a folder win.
    pub(super) fn add(&mut self, folder: &[u8], text: &[u8]) {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let patterns = text.split(|byte| *byte == b'\n').filter_map(Pattern::read);
        self.0.entry(folder.to_vec()).or_default().extend(patterns);
    }

    /// Whether a file or one of its parent folders is ignored. The last matching pattern of the nearest file decides; a
    /// file in an ignored folder cannot be re-included.
    pub(super) fn is_ignored(&self, path: &[u8]) -> bool {
        let folders = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| (at, true));
        folders.chain([(path.len(), false)]).any(|(end, is_folder)| self.decides(&path[..end], is_folder))
    }

    fn decides(&self, path: &[u8], is_folder: bool) -> bool {
        let mut place = path;
        loop {
            place = folder(place);
            if let Some(patterns) = self.0.get(place) {
                let below = if place.is_empty() { path } else { &path[place.len() + 1..] };
                if let Some(pattern) = patterns.iter().rev().find(|pattern| pattern.fits(below, is_folder)) {
                    return !pattern.negated;
                }
            }
            if place.is_empty() {
                return false;
            }
        }
    }
}

impl Pattern {
    fn read(line: &[u8]) -> Option<Self> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.starts_with(b"#") {
            return None;
        }
        let (line, negated) = line.strip_prefix(b"!").map_or((line, false), |rest| (rest, true));
        let line = without_trailing_spaces(line);
        let (line, folders_only) = line.strip_suffix(b"/").map_or((line, false), |rest| (rest, true));
        let any_depth = !line.contains(&b'/');
        let text = line.strip_prefix(b"/").unwrap_or(line).to_vec();
        (!text.is_empty()).then_some(Self { text, negated, folders_only, any_depth })
    }

    fn fits(&self, below: &[u8], is_folder: bool) -> bool {
        let path = if self.any_depth { super::name::last(below) } else { below };
        (is_folder || !self.folders_only) && matches(&self.text, path, self.any_depth)
    }
}

/// Removes trailing spaces that no backslash protects.
fn without_trailing_spaces(line: &[u8]) -> &[u8] {
    let (mut at, mut end) = (0, 0);
    while at < line.len() {
        match line[at] {
            b' ' => at += 1,
            b'\\' => {
                at = (at + 2).min(line.len());
                end = at;
            }
            _ => {
                at += 1;
                end = at;
            }
        }
    }
    &line[..end]
}

/// Maximum number of steps of one match: the patterns come from an agent.
const MAX_STEPS: usize = 100_000;

/// Whether a pattern matches a name (git's wildmatch without flags), or a whole path (with `WM_PATHNAME`). git compares
/// the literal beginning of a path's pattern by itself, so that `**` right after it begins the rest.
fn matches(pattern: &[u8], path: &[u8], is_name: bool) -> bool {
    let literal = pattern.iter().take_while(|byte| !b"*?[\\".contains(byte)).count();
    let literal = if is_name { 0 } else { literal };
    path.starts_with(&pattern[..literal]) && fits(&pattern[literal..], &path[literal..], true, &mut 0) == Some(true)
}

/// `None` if the limit is exceeded, which counts as no match. `starts`: whether a path component starts here.
fn fits(pattern: &[u8], path: &[u8], starts: bool, steps: &mut usize) -> Option<bool> {
    let (mut p, mut t) = (0, 0);
    while p < pattern.len() {
        *steps += 1;
        if *steps > MAX_STEPS {
            return None;
        }
        let next = path.get(t).copied();
        match pattern[p] {
            b'*' => return star(pattern, p, path, t, starts, steps),
            b'?' => match next {
                Some(byte) if byte != b'/' => (p, t) = (p + 1, t + 1),
                _ => return Some(false),
            },
            b'[' => match (class(&pattern[p + 1..], next), next) {
                (Some((true, used)), Some(byte)) if byte != b'/' => (p, t) = (p + 1 + used, t + 1),
                _ => return Some(false),
            },
            b'\\' => match pattern.get(p + 1) {
                Some(byte) if next == Some(*byte) => (p, t) = (p + 2, t + 1),
                _ => return Some(false),
            },
            byte if next == Some(byte) => (p, t) = (p + 1, t + 1),
            _ => return Some(false),
        }
    }
    Some(t == path.len())
}

fn star(pattern: &[u8], p: usize, path: &[u8], t: usize, starts: bool, steps: &mut usize) -> Option<bool> {
    let run = pattern[p..].iter().take_while(|byte| **byte == b'*').count();
    let rest = &pattern[p + run..];
    let before = if p == 0 { starts } else { pattern[p - 1] == b'/' };
    let after = rest.is_empty() || rest[0] == b'/' || rest.starts_with(b"\\/");
    let deep = run >= 2 && before && after;
    // `**/` also matches nothing.
    if deep && rest.first() == Some(&b'/') && fits(&rest[1..], &path[t..], true, steps)? {
        return Some(true);
    }
    if rest.is_empty() {
        return Some(deep || !path[t..].contains(&b'/'));
    }
    for at in t..=path.len() {
        if fits(rest, &path[at..], false, steps)? {
            return Some(true);
        }
        if !deep && path.get(at) == Some(&b'/') {
            return Some(false);
        }
    }
    Some(false)
}

/// Whether a character class, whose text follows its `[`, contains a byte, and the class's length; `None` if it is
/// malformed.
fn class(text: &[u8], byte: Option<u8>) -> Option<(bool, usize)> {
    let byte = byte.unwrap_or(0);
    let mut at = 0;
    let negated = matches!(text.first(), Some(b'!' | b'^'));
    if negated {
        at += 1;
    }
    let (mut found, mut first, mut previous) = (false, true, None::<u8>);
    loop {
        let mut c = *text.get(at)?;
        if c == b']' && !first {
            return Some((found != negated, at + 1));
        }
        first = false;
        if c == b'-' && previous.is_some() && !matches!(text.get(at + 1), None | Some(b']')) {
            at += 1;
            c = text[at];
            if c == b'\\' {
                at += 1;
                c = *text.get(at)?;
            }
            found |= previous.is_some_and(|low| low <= byte && byte <= c);
            (previous, at) = (None, at + 1);
            continue;
        }
        if c == b'[' && text.get(at + 1) == Some(&b':') {
            if let Some(length) = text[at + 2..].iter().position(|byte| *byte == b']') {
                let end = at + 2 + length;
                if length > 0 && text[end - 1] == b':' {
                    found |= named(&text[at + 2..end - 1], byte)?;
                    (previous, at) = (None, end + 1);
                    continue;
                }
            } else {
                return None;
            }
        }
        if c == b'\\' {
            at += 1;
            c = *text.get(at)?;
        }
        found |= c == byte;
        (previous, at) = (Some(c), at + 1);
    }
}

/// Whether a named class contains a byte; `None` if the name is unknown.
fn named(name: &[u8], byte: u8) -> Option<bool> {
    Some(match name {
        b"alnum" => byte.is_ascii_alphanumeric(),
        b"alpha" => byte.is_ascii_alphabetic(),
        b"blank" => matches!(byte, b' ' | b'\t'),
        b"cntrl" => byte.is_ascii_control(),
        b"digit" => byte.is_ascii_digit(),
        b"graph" => byte.is_ascii_graphic(),
        b"lower" => byte.is_ascii_lowercase(),
        b"print" => byte.is_ascii_graphic() || byte == b' ',
        b"punct" => byte.is_ascii_punctuation(),
        b"space" => byte.is_ascii_whitespace() || byte == 0x0b,
        b"upper" => byte.is_ascii_uppercase(),
        b"xdigit" => byte.is_ascii_hexdigit(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    #[test]
    fn the_nearest_file_decides_and_nothing_comes_back_from_an_ignored_folder() {
        let mut ignored = IgnoreRules::default();
        ignored.add(b"", b"\xef\xbb\xbftarget/\n*.log\n!keep.log\n/only-root\n{curly}\n");
        ignored.add(b"sub", b"*.txt\n!*.log\n");
        for (path, expected) in [
            ("target/debug/x", true),
            ("a.log", true),
            ("keep.log", false),
            ("sub/a.log", false),
            ("sub/a.txt", true),
            ("a.txt", false),
            ("only-root", true),
            ("sub/only-root", false),
            ("deep/target/x", true),
            ("target", false),
            ("curly", false),
            ("{curly}", true),
        ] {
            assert_eq!(ignored.is_ignored(path.as_bytes()), expected, "{path}");
        }
    }

    /// The paths that git itself ignores.
    fn asked(folder: &std::path::Path, patterns: &[u8], paths: &[Vec<u8>]) -> Vec<Vec<u8>> {
        std::fs::write(folder.join(".gitignore"), patterns).unwrap();
        let mut git = Command::new("git");
        git.args(["check-ignore", "--no-index", "-z", "--stdin"]).current_dir(folder);
        git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
        let mut child = git.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(&paths.join(&0)).unwrap();
        let said = child.wait_with_output().unwrap().stdout;
        said.split(|byte| *byte == 0).filter(|path| !path.is_empty()).map(<[u8]>::to_vec).collect()
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(150))]

        #[test]
        fn patterns_fit_what_they_fit_in_git(
            patterns in proptest::collection::vec(r"[!#]?/?[ab*?\[\]\\/{},.!^ -]{0,7}(\*\*|\*\*/|/\*\*|/|\[[!^]?[a-c\]-]{1,3}\]|\[\[:alpha:\]\]| |\\ )?[ab]?/?", 1..4),
            paths in proptest::collection::vec(r"[ab.{}, ]{1,3}(/[ab,{}]{1,3}){0,3}", 1..12),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let init = Command::new("git").args(["init", "-q"]).current_dir(folder.path()).status().unwrap();
            assert!(init.success());
            let is_path = |path: &&String| !path.split('/').any(|part| matches!(part, "." | ".."));
            let paths: Vec<Vec<u8>> = paths.iter().filter(is_path).map(|path| path.clone().into_bytes()).collect();
            let text = patterns.join("\n");
            let said = asked(folder.path(), text.as_bytes(), &paths);
            let mut ignored = IgnoreRules::default();
            ignored.add(b"", text.as_bytes());
            for path in &paths {
                assert_eq!(ignored.is_ignored(path), said.contains(path), "{text:?} {:?}", String::from_utf8_lossy(path));
            }
        }
    }
}
