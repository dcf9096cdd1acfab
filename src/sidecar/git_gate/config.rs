//! The configuration of the gate, on its standard input, and its updates. Nothing of it is printed: it holds keys.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::scan::{Dlp, KnownSecret};
use crate::sidecar::place::{InsideAddresses, Uplink};

/// The configuration.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The bottle's id.
    pub bottle: String,
    /// Its addresses on the network inside, if it is there; otherwise it creates a socket for the agent.
    #[serde(default)]
    pub inside: Option<InsideAddresses>,
    /// Its way out, and where egress hands requests over. Without one it connects by itself, as in tests.
    #[serde(default)]
    pub outward: Option<Uplink>,
    /// The programs that it runs.
    pub programs: Programs,
    /// A folder of its own, in memory: keys, mirrors, and pushes while they are inspected.
    pub state: PathBuf,
    /// What is searched for in a push.
    #[serde(default)]
    pub dlp: Dlp,
    /// What must not leave, and what may although it looks like a token. Without it no push is accepted.
    #[serde(default)]
    pub known: Option<Known>,
    /// The repositories.
    pub repositories: Vec<Repository>,
}

/// Programs, by absolute paths.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Programs {
    /// git, 2.39 or later.
    pub git: PathBuf,
    /// OpenSSH's client.
    pub ssh: PathBuf,
}

/// What is known of the bottle's secrets.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// The bottle's own secrets: none leaves in a push.
    #[serde(default)]
    pub secrets: Vec<KnownSecret>,
    /// The placeholders of the bottle's credentials, which look like tokens and are none.
    #[serde(default)]
    pub placeholders: Vec<String>,
}

/// A repository.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repository {
    /// Its name at the gate: `git://git-gate/NAME.git`.
    pub name: String,
    /// Where it is: `ssh://`, `USER@HOST:PATH`, `https://` or `http://`.
    pub url: String,
    /// For ssh: the private key, in OpenSSH's format.
    #[serde(default)]
    pub identity: Option<String>,
    /// For ssh: the host's public key, as `ssh-keyscan` prints it without the name: `ssh-ed25519 AAAA…`. Several are
    /// in one line each.
    #[serde(default)]
    pub known_host_key: Option<String>,
    /// For HTTP: the value of `Authorization`, usually a placeholder that egress replaces.
    #[serde(default)]
    pub authorization: Option<String>,
    /// What may be pushed.
    #[serde(default)]
    pub terms: TermsSpec,
}

/// What may be pushed to a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TermsSpec {
    /// Patterns of branches, without `refs/heads/`; `{id}` is the bottle's id. `*` matches within one component, `**`
    /// matches several.
    pub branches: Vec<String>,
    /// Whether a branch may be replaced by one that does not contain it.
    pub force: bool,
    /// Which branches may be deleted.
    pub delete: Delete,
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
    pub lfs: Lfs,
}

/// Which branches may be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delete {
    /// None.
    None,
    /// Those that this bottle created.
    Own,
}

/// What happens to pointers to Git LFS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lfs {
    /// New ones are refused.
    Refuse,
    /// Their contents are inspected as well: not supported yet, an error.
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

impl Default for TermsSpec {
    /// New branches below `agent/`; what GitHub takes at most for one file.
    fn default() -> Self {
        Self {
            branches: vec!["agent/*".to_owned()],
            force: false,
            delete: Delete::Own,
            tags: Vec::new(),
            max_push: 256 << 20,
            max_file: 50 << 20,
            author: Vec::new(),
            protected: PROTECTED.map(str::to_owned).into(),
            lfs: Lfs::Refuse,
        }
    }
}

/// An update.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Update {
    /// What is known of the bottle's secrets, from now on.
    Known(Known),
}
