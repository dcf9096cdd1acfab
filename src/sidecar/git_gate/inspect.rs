//! Inspects one object of a push: all findings in its content, and what no object may be. Pure, and run where waiting
//! is allowed.

use std::sync::{Arc, Mutex};

use super::config::Known;
use super::object::{names, refused_author};
use super::terms::Terms;
use super::texts;
use crate::scan::Direction;
use crate::scan::{
    Action, Actions, BodyFormat, Budget, Dlp, Exhausted, Finding, KNOWN_SECRET, PLACEHOLDER, Passed, Rules, RulesError,
    Scanner,
};
use crate::sync::lock;

/// The beginning of a pointer to Git LFS (git-lfs, `docs/spec.md`), and the maximum size of one, in bytes.
const LFS: &[u8] = b"version https://git-lfs.github.com/spec/";
const MAX_LFS: usize = 1024;

/// How many objects, and bytes, are inspected together, and how many such lots at a time.
pub(super) const LOT: usize = 512;
pub(super) const LOT_BYTES: usize = 2 << 20;
pub(super) const LOTS: usize = 2;
/// Maximum number of problems of a push. Some may be let through, so that further objects are still inspected; with more
/// of them the push is refused.
pub(super) const MAX_ISSUES: usize = 1000;

/// What a push is searched for.
#[derive(Clone)]
pub(super) struct Inspector {
    scanner: Scanner,
    /// Searches for known secrets alone.
    known: Scanner,
    actions: Arc<Actions>,
}

/// The kind of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A file, a symbolic link's target, or `.gitmodules`.
    Blob,
    /// A folder.
    Tree,
    /// A commit.
    Commit,
    /// An annotated tag.
    Tag,
}

impl Kind {
    /// Reads the word that git has for it.
    pub(super) fn read(word: &str) -> Option<Self> {
        match word {
            "blob" => Some(Self::Blob),
            "tree" => Some(Self::Tree),
            "commit" => Some(Self::Commit),
            "tag" => Some(Self::Tag),
            _ => None,
        }
    }

    /// The word that git has for it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Blob => "blob",
            Self::Tree => "tree",
            Self::Commit => "commit",
            Self::Tag => "tag",
        }
    }
}

/// What is wrong with an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Problem {
    /// A secret.
    Secret(Finding),
    /// It cannot be looked into.
    Uninspectable(String),
    /// It is not what git would write.
    Malformed(String),
    /// A pointer to Git LFS.
    Lfs,
    /// An author or committer that is not allowed.
    Author(String),
}

impl Inspector {
    /// Searches for these secrets, and with the rules of a configuration.
    ///
    /// # Errors
    /// A rule is malformed.
    pub(super) fn new(dlp: &Dlp, known: &Known) -> Result<Self, RulesError> {
        let actions = Arc::new(Actions::new(dlp));
        let secrets: Vec<String> = known.secrets.iter().map(|secret| secret.value.clone()).collect();
        let rules = Arc::new(Rules::with(&dlp.rules, Direction::Request)?);
        let block = Arc::new(Actions::always(dlp, Action::Block));
        let scanner = Scanner::new(&secrets, rules, actions.clone());
        let scanner = scanner.with_placeholders(known.placeholders.iter().map(String::as_str));
        Ok(Self { scanner, known: Scanner::new(&secrets, Arc::new(Rules::none()), block), actions })
    }

    /// Whether this one searches for the same as another.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.actions, &other.actions)
    }

    /// Whether what is found in a file depends on this path of it.
    pub(super) fn minds(path: &str) -> bool {
        let path = path.to_ascii_lowercase();
        [".json", ".ipynb", ".jsonl"].iter().any(|end| path.ends_with(end))
    }

    /// All findings in a text that are not allowed. Those whose action is to warn are among them.
    pub(super) fn findings(&self, text: &[u8], budget: &mut Budget) -> Result<Vec<Finding>, Exhausted> {
        let found: Arc<Mutex<Vec<Finding>>> = Arc::default();
        let collect = found.clone();
        // A scan that only warns does not end at its first finding.
        let collected = move |passed| {
            let (Passed::Warned(finding) | Passed::Masked(finding, _)) = passed;
            lock(&collect).push(finding);
        };
        let scanner = self.scanner.for_request(Some(Action::Warn), Arc::new(collected));
        scanner.scan(text, budget)?;
        scanner.report_warnings(budget);
        let mut found = std::mem::take(&mut *lock(&found));
        found.retain(|finding| finding.rule != PLACEHOLDER && self.actions.of(&finding.rule) != Action::Off);
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// The first of the bottle's own secrets in a text.
    pub(super) fn known(&self, text: &[u8]) -> Result<Option<Finding>, Exhausted> {
        self.known.scan_known(text, &mut Budget::of(text.len()))
    }

    /// Whether a finding refuses the push, or is only reported.
    pub(super) fn refuses(&self, finding: &Finding) -> bool {
        // An object cannot be masked: its id is the hash of its bytes.
        self.actions.of(&finding.rule) >= Action::Mask
    }

    /// Everything that is wrong with an object. `path` is where it is in the tree, if it is in one.
    pub(super) fn inspect(&self, kind: Kind, path: &str, content: &[u8], terms: &Terms) -> Vec<Problem> {
        let mut problems = Vec::new();
        let done = match kind {
            Kind::Blob => self.blob(path, content, terms, &mut problems),
            Kind::Tree => self.tree(content, &mut problems),
            Kind::Commit => {
                if terms.checks_authors() {
                    problems.extend(refused_author(content, terms).map(Problem::Author));
                }
                self.text(content, &mut problems)
            }
            Kind::Tag => self.text(content, &mut problems),
        };
        if let Err(Exhausted) = done {
            problems.push(Problem::Uninspectable(Exhausted.to_string()));
        }
        problems
    }

    fn text(&self, text: &[u8], problems: &mut Vec<Problem>) -> Result<(), Exhausted> {
        problems.extend(self.findings(text, &mut Budget::of(text.len()))?.into_iter().map(Problem::Secret));
        Ok(())
    }

    fn blob(&self, path: &str, content: &[u8], terms: &Terms, problems: &mut Vec<Problem>) -> Result<(), Exhausted> {
        if terms.refuses_lfs && content.len() <= MAX_LFS && content.starts_with(LFS) {
            problems.push(Problem::Lfs);
        }
        self.text(content, problems)?;
        // A secret may be split over the strings of a JSON file, whose name may be another one elsewhere in the history.
        if (Self::minds(path) || is_json(content))
            && let Ok(format) = BodyFormat::read("application/json", &[], None)
        {
            match format.scan(&self.known, content, &mut Budget::of(content.len())) {
                Ok(found) => problems.extend(found.map(Problem::Secret)),
                Err(error) => problems.push(Problem::Uninspectable(error.to_string())),
            }
        }
        let mut visit = |text: &[u8]| self.text(text, problems).err();
        match texts::find(content, &mut visit) {
            Ok(None) => {}
            Ok(Some(exhausted)) => return Err(exhausted),
            Err(too_large) => problems.push(Problem::Uninspectable(too_large.to_string())),
        }
        problems.sort_by_key(
            |problem| if let Problem::Secret(finding) = problem { finding.rule.clone() } else { String::new() },
        );
        problems.dedup();
        Ok(())
    }

    /// Names of entries, and ids: those of submodules name no object, and may be anything.
    fn tree(&self, content: &[u8], problems: &mut Vec<Problem>) -> Result<(), Exhausted> {
        let Some(names) = names(content) else {
            problems.push(Problem::Malformed("a tree has an entry that git would not write".to_owned()));
            return Ok(());
        };
        self.text(&names.join(&b'\n'), problems)?;
        for text in [content, &names.concat()] {
            let found = self.known(text)?;
            problems.extend(found.map(Problem::Secret));
        }
        problems.dedup();
        Ok(())
    }
}

/// Whether a finding is one of the bottle's own secrets, which nothing exempts.
pub(super) fn is_known(finding: &Finding) -> bool {
    finding.rule == KNOWN_SECRET || finding.fingerprint.is_none()
}

/// Whether a file is JSON, whatever its name.
fn is_json(content: &[u8]) -> bool {
    matches!(content.trim_ascii_start().first(), Some(b'{' | b'['))
        && serde_json::from_slice::<serde::de::IgnoredAny>(content).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::GitTerms;
    use crate::scan::KnownSecret;

    const SECRET: &str = "correct-horse-battery-staple";

    fn token() -> String {
        ["ghp_", "wWPw5k4aXcaT4fNP0UcnZwJUVFk6LO0pINUx"].concat()
    }

    fn inspect(kind: Kind, path: &str, content: &[u8]) -> Vec<String> {
        let secret = KnownSecret { value: SECRET.to_owned(), hosts: Vec::new() };
        let known = Known { secrets: vec![secret], placeholders: vec![] };
        let inspector = Inspector::new(&Dlp::default(), &known).unwrap();
        let spec = GitTerms { author: vec!["*@example.com".to_owned()], ..GitTerms::default() };
        let terms = Terms::new(&spec, "demo").unwrap();
        let word = |problem: Problem| match problem {
            Problem::Secret(finding) => finding.rule,
            Problem::Uninspectable(_) => "uninspectable".to_owned(),
            Problem::Malformed(_) => "malformed".to_owned(),
            Problem::Lfs => "lfs".to_owned(),
            Problem::Author(email) => email,
        };
        inspector.inspect(kind, path, content, &terms).into_iter().map(word).collect()
    }

    fn entry(mode: &str, name: &[u8], id: [u8; 20]) -> Vec<u8> {
        [mode.as_bytes(), b" ", name, b"\0", &id].concat()
    }

    #[test]
    fn promise_10_every_kind_of_object_is_searched() {
        let wide: Vec<u8> = format!("key = {}\n", token()).encode_utf16().flat_map(u16::to_le_bytes).collect();
        let commit = |author: &str, extra: &str, message: &str| {
            format!(
                "tree {}\nauthor A <{author}> 1 +0000\ncommitter A <a@example.com> 1 +0000{extra}\n\n{message}\n",
                "0".repeat(40)
            )
        };
        for (kind, path, content, expected) in [
            (Kind::Blob, "a", b"nothing\n".to_vec(), vec![]),
            (Kind::Blob, "a", format!("{SECRET} {}", token()).into(), vec!["github-token", "known-secret"]),
            (Kind::Blob, "a", wide, vec!["github-token"]),
            (Kind::Blob, "a.json", br#"{"a": ["correct-horse-", "battery-staple"]}"#.to_vec(), vec!["known-secret"]),
            (Kind::Blob, "a.txt", br#" {"a": ["correct-horse-", "battery-staple"]}"#.to_vec(), vec!["known-secret"]),
            (Kind::Blob, "a.txt", br#"["correct-horse-", "battery-staple"#.to_vec(), vec![]),
            (Kind::Blob, "a", [LFS, b"v1\noid sha256:0\nsize 1\n"].concat(), vec!["lfs"]),
            (Kind::Commit, "", commit("a@example.com", "", "x").into(), vec![]),
            (Kind::Commit, "", commit("a@example.com", "", &token()).into(), vec!["github-token"]),
            (
                Kind::Commit,
                "",
                commit("a@example.com", &format!("\nx-note {}", token()), "x").into(),
                vec!["github-token"],
            ),
            (Kind::Commit, "", commit(&format!("{SECRET}@example.com"), "", "x").into(), vec!["known-secret"]),
            (Kind::Commit, "", commit("b@evil.example", "", "x").into(), vec!["b@evil.example"]),
            (Kind::Tag, "", format!("object 0\n\n{}\n", token()).into(), vec!["github-token"]),
            (Kind::Tree, "", entry("100644", SECRET.as_bytes(), [0; 20]), vec!["known-secret"]),
            (Kind::Tree, "", entry("100644", token().as_bytes(), [0; 20]), vec!["github-token"]),
            (
                Kind::Tree,
                "",
                [entry("100644", &SECRET.as_bytes()[..9], [0; 20]), entry("100644", &SECRET.as_bytes()[9..], [0; 20])]
                    .concat(),
                vec!["known-secret"],
            ),
            (Kind::Tree, "", entry("160000", b"module", *b"correct-horse-batter"), vec![]),
            (Kind::Tree, "", entry("100644", b"..", [0; 20]), vec!["malformed"]),
            (Kind::Tree, "", entry("40000", b".GIT", [0; 20]), vec!["malformed"]),
            (Kind::Tree, "", entry("100777", b"a", [0; 20]), vec!["malformed"]),
            (Kind::Tree, "", entry("100644", b"a", [0; 20])[..20].to_vec(), vec!["malformed"]),
        ] {
            assert_eq!(inspect(kind, path, &content), expected, "{kind:?} {:?}", String::from_utf8_lossy(&content));
        }
    }
}
