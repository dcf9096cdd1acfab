//! Which paths git does not look at, by the `.gitignore` files of a tree that is nowhere on this disk.

use std::collections::BTreeMap;
use std::path::Path;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// The patterns of a tree, by the folders that they stand in.
#[derive(Default)]
pub(super) struct Ignored(BTreeMap<String, Gitignore>);

impl Ignored {
    /// Notes a `.gitignore` file, or patterns of the same form, of a folder; the root is "".
    pub(super) fn add(&mut self, folder: &str, text: &str) {
        let mut builder = GitignoreBuilder::new("");
        for line in text.lines() {
            // A line that git would not take is passed over, as git does.
            let _ = builder.add_line(None, line);
        }
        if let Ok(patterns) = builder.build() {
            self.0.insert(folder.to_owned(), patterns);
        }
    }

    /// Whether a file, or a folder that it is in, is ignored (gitignore(5): the nearest file decides, its last pattern that
    /// fits; nothing in an ignored folder comes back).
    pub(super) fn has(&self, path: &str) -> bool {
        let ends = path.match_indices('/').map(|(at, _)| (at, true)).chain([(path.len(), false)]);
        ends.into_iter().any(|(end, is_folder)| self.decides(&path[..end], is_folder))
    }

    fn decides(&self, path: &str, is_folder: bool) -> bool {
        let mut folder = path;
        loop {
            folder = folder.rsplit_once('/').map_or("", |(parent, _)| parent);
            if let Some(patterns) = self.0.get(folder) {
                let below = path[folder.len()..].trim_start_matches('/');
                match patterns.matched(Path::new(below), is_folder) {
                    Match::Ignore(_) => return true,
                    Match::Whitelist(_) => return false,
                    Match::None => {}
                }
            }
            if folder.is_empty() {
                return false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_file_decides_and_nothing_comes_back_from_an_ignored_folder() {
        let mut ignored = Ignored::default();
        ignored.add("", "target/\n*.log\n!keep.log\n/only-root\n");
        ignored.add("sub", "*.txt\n!*.log\n");
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
        ] {
            assert_eq!(ignored.has(path), expected, "{path}");
        }
    }
}
