//! The build context of an image: a host folder without the files that its `.dockerignore` excludes.

use std::io;
use std::path::Path;

use globset::{GlobBuilder, GlobMatcher};

use super::walk::{FileKind, RootDir, walk};

/// Largest context, in bytes, and most files.
const MAX_CONTEXT: u64 = 1 << 30;
const MAX_FILES: usize = 100_000;
/// Largest Dockerfile or `.dockerignore`, in bytes.
const MAX_TEXT: u64 = 1 << 20;

/// The patterns of a `.dockerignore` in order, each with whether it excludes.
struct Patterns(Vec<(GlobMatcher, bool)>);

impl Patterns {
    /// Parses them (Docker's reference of `.dockerignore`: Go's filepath.Match, `**`, `!`; the last matching pattern
    /// decides).
    fn read(text: &str) -> io::Result<Self> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let pattern = |line: &str| {
            let (text, excluded) = line.strip_prefix('!').map_or((line, true), |rest| (rest.trim(), false));
            let text = text.trim_start_matches("./").trim_matches('/');
            let glob = GlobBuilder::new(text).literal_separator(true).backslash_escape(true).build();
            let glob = glob.map_err(|error| io::Error::other(format!(".dockerignore: {line:?}: {error}")))?;
            Ok((glob.compile_matcher(), excluded))
        };
        lines.map(pattern).collect::<io::Result<_>>().map(Self)
    }

    /// Whether a file, or one of its parent folders, is excluded.
    fn exclude(&self, path: &str) -> bool {
        let ends: Vec<usize> = path.match_indices('/').map(|(at, _)| at).chain([path.len()]).collect();
        let mut out = false;
        for (glob, excluded) in &self.0 {
            if *excluded != out && ends.iter().any(|end| glob.is_match(&path[..*end])) {
                out = *excluded;
            }
        }
        out
    }
}

/// Packs a context into a reproducible archive, without `.git`. `replaced` is a path and the content to use in its
/// place.
///
/// # Errors
/// A file cannot be read, a pattern is malformed, or the context exceeds a limit.
pub fn pack(folder: &Path, replaced: Option<(&str, &str)>) -> io::Result<Vec<u8>> {
    let opened = RootDir::at(folder)?;
    let patterns = Patterns::read(&text(&opened, ".dockerignore")?.unwrap_or_default())?;
    let mut tar = tar::Builder::new(Vec::new());
    let header = |size: u64, mode: u32| {
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(mode);
        header.set_mtime(0);
        header
    };
    let mut left = MAX_CONTEXT;
    for path in walk(folder, MAX_FILES)? {
        // The engine needs these two files, whatever the patterns say.
        let needed = path == "Dockerfile" || path == ".dockerignore";
        if patterns.exclude(&path) && !needed || replaced.is_some_and(|(name, _)| name == path) {
            continue;
        }
        match opened.open(&path)? {
            FileKind::Regular(file, seen) => {
                left = left.checked_sub(seen.size).ok_or_else(|| {
                    io::Error::other(format!("it is larger than {MAX_CONTEXT} bytes; exclude more with .dockerignore"))
                })?;
                let mode = if seen.mode & 0o111 == 0 { 0o644 } else { 0o755 };
                let content = io::Read::take(io::Read::chain(file, io::repeat(0)), seen.size);
                tar.append_data(&mut header(seen.size, mode), &path, content)?;
            }
            FileKind::Link(target) => {
                let mut header = header(0, 0o777);
                header.set_entry_type(tar::EntryType::Symlink);
                tar.append_link(&mut header, &path, target)?;
            }
            FileKind::Other => {}
        }
    }
    append(&mut tar, replaced)?;
    tar.into_inner()
}

/// A context with a single file.
///
/// # Errors
/// None: writing to memory does not fail.
pub fn alone(name: &str, content: &str) -> io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    append(&mut tar, Some((name, content)))?;
    tar.into_inner()
}

fn append(tar: &mut tar::Builder<Vec<u8>>, file: Option<(&str, &str)>) -> io::Result<()> {
    let Some((name, content)) = file else { return Ok(()) };
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(0);
    tar.append_data(&mut header, name, content.as_bytes())
}

/// The text of a file in a folder; `None` if it does not exist.
fn text(folder: &RootDir, path: &str) -> io::Result<Option<String>> {
    let FileKind::Regular(file, _) = folder.open(path)? else { return Ok(None) };
    let mut text = String::new();
    io::Read::read_to_string(&mut io::Read::take(file, MAX_TEXT), &mut text)?;
    Ok(Some(text))
}

/// The text of a Dockerfile below a folder.
///
/// # Errors
/// It does not exist, or is not UTF-8.
pub fn dockerfile(folder: &Path, path: &str) -> io::Result<String> {
    text(&RootDir::at(folder)?, path)?.ok_or_else(|| io::Error::other(format!("it has no file {path}")))
}

/// The first line of a Dockerfile that makes the engine itself download something, which bypasses the build's network
/// setting: an `ADD` of a URL or a repository, or with a variable.
pub fn fetches(dockerfile: &str) -> Option<String> {
    let joined = dockerfile.replace("\\\r\n", " ").replace("\\\n", " ");
    joined.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let mut word = words.next()?.to_ascii_uppercase();
        if word == "ONBUILD" {
            word = words.next()?.to_ascii_uppercase();
        }
        let remote = |word: &str| {
            let word = word.trim_matches(['[', ']', ',', '"', '\'']);
            word.contains("://") || word.starts_with("git@") || word.contains('$')
        };
        (word == "ADD" && words.any(remote)).then(|| line.trim().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_pattern_that_fits_decides() {
        let patterns = Patterns::read("# c\nnode_modules\n*.log\n!keep.log\n**/secret\n/a/b\n").unwrap();
        for (path, out) in [
            ("node_modules/x/y", true),
            ("a.log", true),
            ("sub/a.log", false),
            ("keep.log", false),
            ("deep/er/secret", true),
            ("a/b/c", true),
            ("src/main.rs", false),
        ] {
            assert_eq!(patterns.exclude(path), out, "{path}");
        }
    }

    #[test]
    fn what_the_engine_would_fetch_is_seen() {
        for line in [
            "ADD http://127.0.0.1/x /x",
            "add --chown=1:1 https://a/b /c",
            "ADD [\"git@github.com:a/b\", \"/x\"]",
            "ADD \\\n  http://a /b",
            "ONBUILD ADD http://a /b",
            "ADD $URL /x",
        ] {
            assert!(fetches(&format!("FROM scratch\n{line}\n")).is_some(), "{line}");
        }
        assert_eq!(fetches("FROM scratch\nADD x.tar /\nRUN echo ADD http://x\nCOPY a b\n"), None);
    }

    #[test]
    fn a_context_is_the_same_for_the_same_files() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), "a").unwrap();
        std::fs::write(folder.path().join("Dockerfile"), "FROM scratch").unwrap();
        std::fs::write(folder.path().join(".dockerignore"), "b\nDockerfile\n").unwrap();
        let first = pack(folder.path(), None).unwrap();
        std::fs::write(folder.path().join("b"), "b").unwrap();
        assert_eq!(pack(folder.path(), None).unwrap(), first);
        assert_ne!(pack(folder.path(), Some(("a", "other"))).unwrap(), first);
        assert!(dockerfile(folder.path(), "Dockerfile").unwrap().contains("scratch"));
    }
}
