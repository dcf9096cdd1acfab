//! What may be pushed to a repository behind the git gate: the terms of an entry of the manifest's `git`. The gate
//! enforces them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What may be pushed to a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GitTerms {
    /// Patterns of branches, without `refs/heads/`; `{id}` is the bottle's id. `*` matches within one component, `**`
    /// matches several.
    pub branches: Vec<String>,
    /// Whether a branch may be replaced by one that does not contain it.
    pub force: bool,
    /// Which branches may be deleted.
    pub delete: GitDelete,
    /// Patterns of tags, without `refs/tags/`. An existing tag never changes.
    pub tags: Vec<String>,
    /// Maximum size of a pack, in bytes.
    pub max_push: u64,
    /// Maximum size of a file, in bytes.
    pub max_file: u64,
    /// Patterns of the email addresses that authors and committers may have; any if there are none.
    pub author: Vec<String>,
    /// Patterns of paths that no commit may change.
    pub protected: Vec<String>,
    /// What happens to pointers to Git LFS, whose contents would go another way.
    pub lfs: GitLfs,
}

/// Which branches may be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GitDelete {
    /// None.
    None,
    /// Those that this bottle created.
    Own,
}

/// What happens to pointers to Git LFS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GitLfs {
    /// New ones are refused.
    Refuse,
    /// They pass, and so do the contents, which the gate inspects before it sends them to the upstream.
    Scan,
}

/// Paths that make a forge run programs, or decide who reviews: GitHub, GitLab, Gitea, Forgejo, Bitbucket, Azure, and
/// the usual services.
pub const PROTECTED: [&str; 20] = [
    ".github/workflows/**",
    ".github/actions/**",
    ".gitea/workflows/**",
    ".forgejo/workflows/**",
    ".gitlab-ci.yml",
    ".gitlab-ci.yaml",
    ".gitlab/ci/**",
    "{,.github/,.gitlab/,.gitea/,.forgejo/,docs/}CODEOWNERS",
    ".circleci/**",
    ".travis.yml",
    ".drone.yml",
    ".woodpecker.yml",
    ".woodpecker.yaml",
    ".woodpecker/**",
    ".buildkite/**",
    ".cirrus.yml",
    "Jenkinsfile",
    "azure-pipelines.yml",
    "azure-pipelines.yaml",
    "bitbucket-pipelines.yml",
];

impl Default for GitTerms {
    /// New branches below `agent/`; what GitHub takes at most for one file.
    fn default() -> Self {
        Self {
            branches: vec!["agent/*".to_owned()],
            force: false,
            delete: GitDelete::Own,
            tags: Vec::new(),
            max_push: 256 << 20,
            max_file: 50 << 20,
            author: Vec::new(),
            protected: PROTECTED.map(str::to_owned).into(),
            lfs: GitLfs::Refuse,
        }
    }
}
