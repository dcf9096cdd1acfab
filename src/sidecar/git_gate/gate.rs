//! The gate: its repositories, and what it searches pushes for.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::{Context, ensure};
use tokio::sync::Semaphore;

use super::approvals::Approvals;
use super::config::{Config, Known, Repository};
use super::inspect::Inspector;
use super::kept::Kept;
use super::key_agent::{Sign, Signatures};
use super::lfs_refused::Refused;
use super::mirror::Mirror;
use super::terms::Terms;
use super::upstream::Target;
use crate::audit::{Details, Subject};
use crate::credential::Credential;
use crate::scan::{Budget, Dlp, KnownSecret};
use crate::sidecar::audit::Log;
use crate::sync::lock;

/// The role's name.
pub const ROLE: &str = "git-gate";

/// How many fetches and pushes are served at a time; others wait.
const FETCHES: usize = 32;
const PUSHES: usize = 4;

/// The gate.
pub struct Gate {
    repositories: Vec<Arc<Served>>,
    /// Nothing is pushed before it is known what must not leave.
    inspector: Mutex<Option<Inspector>>,
    /// What the inspector was made from: the secrets, once they are known, and the credentials.
    sources: Mutex<(Option<Vec<KnownSecret>>, Vec<Credential>)>,
    dlp: Dlp,
    pub(super) approvals: Approvals,
    pub(super) signatures: Arc<Signatures>,
    pub(super) refused: Refused,
    pub(super) bottle: String,
    /// Whether the agent can ask its operator.
    pub(super) asks: bool,
    pub(super) log: Log,
    pub(super) fetches: Arc<Semaphore>,
    pub(super) pushes: Arc<Semaphore>,
}

/// A repository that is served.
pub(super) struct Served {
    pub(super) name: String,
    pub(super) program: PathBuf,
    /// Its folder: the mirror, and pushes.
    pub(super) folder: PathBuf,
    pub(super) target: Arc<Target>,
    pub(super) mirror: Arc<Mirror>,
    pub(super) terms: Arc<Terms>,
    pub(super) kept: Kept,
    own: Mutex<BTreeSet<String>>,
}

/// An operation, as it is logged.
pub(super) struct Operation<'a> {
    /// `fetch` or `push`.
    pub(super) method: &'static str,
    /// `allow`, `refuse`, `warn`.
    pub(super) decision: &'static str,
    /// The code of the reason.
    pub(super) code: &'a str,
    /// The reason in words.
    pub(super) reason: String,
}

impl Gate {
    /// Reads a configuration and makes the folders of its repositories. Signatures are asked for by `tell`.
    ///
    /// # Errors
    /// The configuration is invalid, or the folder cannot be written.
    pub(super) fn new(config: &Config, tell: fn(Sign)) -> anyhow::Result<Self> {
        let signatures = Signatures::new(tell);
        let mut names = BTreeSet::new();
        let mut repositories = Vec::new();
        for repository in &config.repositories {
            ensure!(names.insert(&repository.name), "the repository {:?} is there twice", repository.name);
            let served = Served::new(config, repository, &signatures)
                .with_context(|| format!("repository {:?}", repository.name))?;
            repositories.push(Arc::new(served));
        }
        let inspector = config.known.as_ref().map(|known| Inspector::new(&config.dlp, known)).transpose()?;
        Ok(Self {
            repositories,
            inspector: Mutex::new(inspector),
            sources: Mutex::new((config.known.as_ref().map(|known| known.secrets.clone()), Vec::new())),
            approvals: Approvals::new(&config.state),
            signatures,
            refused: Refused::default(),
            dlp: config.dlp.clone(),
            bottle: config.bottle.clone(),
            asks: config.asks,
            log: Log::new(ROLE, &config.bottle),
            fetches: Arc::new(Semaphore::new(FETCHES)),
            pushes: Arc::new(Semaphore::new(PUSHES)),
        })
    }

    /// Searches pushes for these secrets from now on.
    ///
    /// # Errors
    /// A rule is malformed.
    pub(super) fn set_secrets(&self, secrets: Vec<KnownSecret>) -> anyhow::Result<()> {
        let mut sources = lock(&self.sources);
        sources.0 = Some(secrets);
        self.search_for(&sources)
    }

    /// Searches pushes for the values of these credentials from now on.
    ///
    /// # Errors
    /// A rule is malformed.
    pub(super) fn set_credentials(&self, credentials: Vec<Credential>) -> anyhow::Result<()> {
        let mut sources = lock(&self.sources);
        sources.1 = credentials;
        self.search_for(&sources)
    }

    fn search_for(&self, (secrets, credentials): &(Option<Vec<KnownSecret>>, Vec<Credential>)) -> anyhow::Result<()> {
        if let Some(secrets) = secrets {
            let known = Known::of(secrets.clone(), credentials);
            *lock(&self.inspector) = Some(Inspector::new(&self.dlp, &known)?);
        }
        Ok(())
    }

    /// What pushes are searched for; `None` until that is known.
    pub(super) fn inspector(&self) -> Option<Inspector> {
        lock(&self.inspector).clone()
    }

    /// A repository by its name here.
    pub(super) fn named(&self, name: &str) -> Option<Arc<Served>> {
        self.repositories.iter().find(|served| served.name == name).cloned()
    }

    /// A repository by its host and path, as URLs name it.
    pub(super) fn at(&self, host: &str, path: &str) -> Option<Arc<Served>> {
        let path = path.trim_matches('/').trim_end_matches(".git");
        let is_it = |served: &&Arc<Served>| served.target.upstream.place() == (host, path);
        self.repositories.iter().find(is_it).cloned()
    }

    /// Logs an operation. Text that contains a secret is left out.
    pub(super) fn record(&self, served: &Served, operation: &Operation<'_>) {
        let mut reason = super::visible::reason(&operation.reason);
        let clean = |inspector: Inspector| {
            inspector.findings(reason.as_bytes(), &mut Budget::of(reason.len())).is_ok_and(|found| found.is_empty())
        };
        if !self.inspector().is_none_or(clean) {
            "it is not logged, because it holds what must not leave".clone_into(&mut reason);
        }
        self.log.note(Details {
            subject: Subject::Request,
            sidecar: ROLE.to_owned(),
            bottle: self.bottle.clone(),
            client: String::new(),
            decision: operation.decision.to_owned(),
            code: operation.code.to_owned(),
            reason: format!("{}: {reason}", served.name),
            form: "git".to_owned(),
            method: operation.method.to_owned(),
            destination: served.target.upstream.destination(),
        });
    }
}

impl Served {
    fn new(config: &Config, repository: &Repository, signatures: &Arc<Signatures>) -> anyhow::Result<Self> {
        let name = repository.name.clone();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let is_name = name.bytes().all(plain) && !name.starts_with(['.', '-']) && !name.is_empty();
        ensure!(is_name && name.strip_suffix(".git").is_none(), "a name has letters, digits, '.', '_' and '-'");
        let folder = config.state.join(&name);
        std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        forget_pushes(&folder)?;
        let keys = config.keys.as_ref().map_or_else(|| folder.clone(), |keys| keys.join(&name));
        std::fs::create_dir_all(&keys).with_context(|| format!("create {}", keys.display()))?;
        let target = Arc::new(Target::new(config, repository, &keys, signatures)?);
        let program = config.programs.git.clone();
        let mirror = Arc::new(Mirror::new(&program, &name, &folder, target.clone())?);
        let terms = Arc::new(Terms::new(&repository.terms, &config.bottle)?);
        let own = std::fs::read(own_file(&folder)).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let own = Mutex::new(own.unwrap_or_default());
        Ok(Self { name, program, folder, target, mirror, terms, kept: Kept::default(), own })
    }

    /// The references that this bottle created.
    pub(super) fn own(&self) -> BTreeSet<String> {
        lock(&self.own).clone()
    }

    /// Remembers references that were created, and forgets those that were deleted.
    pub(super) fn change_own(&self, created: &[&str], deleted: &[&str]) {
        let mut own = lock(&self.own);
        own.extend(created.iter().map(|&name| name.to_owned()));
        own.retain(|name| !deleted.contains(&name.as_str()));
        // If it is not written, a later run of this sidecar refuses to delete: nothing is lost.
        if let Ok(text) = serde_json::to_vec(&*own) {
            let _ = std::fs::write(own_file(&self.folder), text);
        }
    }
}

fn own_file(folder: &Path) -> PathBuf {
    folder.join("own.json")
}

/// Removes what an earlier run of this container left.
fn forget_pushes(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("push-") {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}
