//! Whether a command of a push is allowed by its names alone, and paths and authors by theirs. Pure.

use std::collections::BTreeSet;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::commands::Command;
use crate::git_ref::{branch, tag};
use crate::policy::{GitDelete, GitLfs, GitTerms};

/// What may be pushed to a repository, ready to be matched.
pub(super) struct Terms {
    branches: GlobSet,
    tags: GlobSet,
    protected: GlobSet,
    author: Option<GlobSet>,
    /// The patterns of branches, as they are shown.
    shown: String,
    /// Whether a branch may be replaced by one that does not contain it.
    pub(super) force: bool,
    delete: GitDelete,
    /// Maximum size of a pack, in bytes.
    pub(super) max_push: u64,
    /// Maximum size of a file, in bytes.
    pub(super) max_file: u64,
    /// Whether pointers to Git LFS are refused.
    pub(super) refuses_lfs: bool,
}

/// A command that is refused: the code of the reason, and its words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The code, for the audit log.
    pub(super) code: &'static str,
    /// The reason, for people.
    pub(super) reason: String,
}

impl Refusal {
    /// A refusal.
    pub(super) fn new(code: &'static str, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }
}

impl Terms {
    /// Reads patterns; `id` is the bottle's.
    ///
    /// # Errors
    /// A pattern is malformed; the error names it.
    pub(super) fn new(spec: &GitTerms, id: &str) -> anyhow::Result<Self> {
        let branches: Vec<String> = spec.branches.iter().map(|pattern| pattern.replace("{id}", id)).collect();
        let author = if spec.author.is_empty() { None } else { Some(patterns(&spec.author, true, false)?) };
        Ok(Self {
            shown: branches.join(", "),
            branches: patterns(&branches, false, true)?,
            tags: patterns(&spec.tags, false, true)?,
            // A file system may ignore case, and so may a forge.
            protected: patterns(&spec.protected, true, true)?,
            author,
            force: spec.force,
            delete: spec.delete,
            max_push: spec.max_push,
            max_file: spec.max_file,
            refuses_lfs: spec.lfs == GitLfs::Refuse,
        })
    }

    /// Whether a command may be carried out. `own` holds the references that this bottle created.
    ///
    /// # Errors
    /// The reason why not.
    pub(super) fn judge(&self, command: &Command, own: &BTreeSet<String>) -> Result<(), Refusal> {
        if let Some(name) = branch(&command.name) {
            if !self.branches.is_match(name) {
                return Err(Refusal::new("git_branch_refused", self.may_push("this branch")));
            }
            if command.deletes() && !(self.delete == GitDelete::Own && own.contains(&command.name)) {
                let reason = "only branches that this bottle created may be deleted";
                return Err(Refusal::new("git_delete_refused", reason));
            }
            return Ok(());
        }
        let Some(name) = tag(&command.name) else {
            let reason = format!("only branches and tags may be pushed; {}", self.may_push("it"));
            return Err(Refusal::new("git_ref_refused", reason));
        };
        if !self.tags.is_match(name) {
            return Err(Refusal::new("git_tag_refused", self.may_push("this tag")));
        }
        if !command.creates() {
            return Err(Refusal::new("git_tag_refused", "an existing tag is not changed or deleted"));
        }
        Ok(())
    }

    fn may_push(&self, what: &str) -> String {
        if self.shown.is_empty() {
            return format!("{what} may not be pushed: no branch of this repository may");
        }
        format!("{what} may not be pushed; push to a branch that matches: {}", self.shown)
    }

    /// Whether no commit may change this path.
    pub(super) fn protects(&self, path: &[u8]) -> bool {
        self.protected.is_match(&*String::from_utf8_lossy(path))
    }

    /// Whether an author or committer may have this email address.
    pub(super) fn accepts_author(&self, email: &str) -> bool {
        self.author.as_ref().is_none_or(|author| author.is_match(email))
    }

    /// Whether authors matter at all.
    pub(super) fn checks_authors(&self) -> bool {
        self.author.is_some()
    }
}

fn patterns(texts: &[String], any_case: bool, components: bool) -> anyhow::Result<GlobSet> {
    let mut set = GlobSetBuilder::new();
    for text in texts {
        let mut glob = GlobBuilder::new(text);
        set.add(glob.literal_separator(components).case_insensitive(any_case).empty_alternates(true).build()?);
    }
    Ok(set.build()?)
}

#[cfg(test)]
mod tests {
    use super::super::commands::ZERO;
    use super::*;

    fn terms(spec: &GitTerms) -> Terms {
        Terms::new(spec, "demo-1a2b3").unwrap()
    }

    fn judge(terms: &Terms, old: &str, new: &str, name: &str) -> Result<(), &'static str> {
        let command = Command { old: old.to_owned(), new: new.to_owned(), name: name.to_owned() };
        terms.judge(&command, &BTreeSet::from(["refs/heads/agent/mine".to_owned()])).map_err(|refusal| refusal.code)
    }

    #[test]
    fn names_decide_what_may_be_pushed() {
        let (a, b) = (&"a".repeat(40), &"b".repeat(40));
        let default = terms(&GitTerms::default());
        let open = terms(&GitTerms {
            branches: vec!["{id}/**".to_owned(), "main".to_owned()],
            tags: vec!["v*".to_owned()],
            ..GitTerms::default()
        });
        for (terms, old, new, name, expected) in [
            (&default, ZERO, a.as_str(), "refs/heads/agent/x", Ok(())),
            (&default, a, b, "refs/heads/agent/x", Ok(())),
            (&default, ZERO, a, "refs/heads/agent/x/y", Err("git_branch_refused")),
            (&default, ZERO, a, "refs/heads/main", Err("git_branch_refused")),
            (&default, ZERO, a, "refs/heads/agent", Err("git_branch_refused")),
            (&default, ZERO, a, "refs/heads/xagent/x", Err("git_branch_refused")),
            (&default, ZERO, a, "refs/tags/v1", Err("git_tag_refused")),
            (&default, ZERO, a, "refs/meta/config", Err("git_ref_refused")),
            (&default, ZERO, a, "refs/pull/1/head", Err("git_ref_refused")),
            (&default, ZERO, a, "refs/replace/x", Err("git_ref_refused")),
            (&default, a, ZERO, "refs/heads/agent/mine", Ok(())),
            (&default, a, ZERO, "refs/heads/agent/x", Err("git_delete_refused")),
            (&open, ZERO, a, "refs/heads/demo-1a2b3/x/y", Ok(())),
            (&open, ZERO, a, "refs/heads/demo-1a2b4/x", Err("git_branch_refused")),
            (&open, a, b, "refs/heads/main", Ok(())),
            (&open, a, ZERO, "refs/heads/main", Err("git_delete_refused")),
            (&open, ZERO, a, "refs/tags/v1", Ok(())),
            (&open, a, b, "refs/tags/v1", Err("git_tag_refused")),
            (&open, a, ZERO, "refs/tags/v1", Err("git_tag_refused")),
        ] {
            assert_eq!(judge(terms, old, new, name), expected, "{name}");
        }
    }

    #[test]
    fn what_a_forge_runs_is_protected_and_authors_are_matched_whole() {
        let terms = terms(&GitTerms { author: vec!["*@example.com".to_owned()], ..GitTerms::default() });
        for (path, protected) in [
            (".github/workflows/ci.yml", true),
            (".GitHub/Workflows/deep/ci.yml", true),
            ("CODEOWNERS", true),
            ("docs/CODEOWNERS", true),
            (".gitlab-ci.yml", true),
            ("src/CODEOWNERS", false),
            ("src/.github/workflows/ci.yml", false),
            (".github/dependabot.yml", false),
        ] {
            assert_eq!(terms.protects(path.as_bytes()), protected, "{path}");
        }
        assert!(terms.accepts_author("a.b@example.com") && !terms.accepts_author("a@example.com.evil"));
        assert!(Terms::new(&GitTerms { branches: vec!["a[".to_owned()], ..GitTerms::default() }, "").is_err());
    }
}
