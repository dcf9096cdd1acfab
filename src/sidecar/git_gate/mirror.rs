//! A bare copy of an upstream's branches and tags, from which the agent fetches. Every operation asks the upstream
//! first, so that nobody is served what is out of date; who waits meanwhile shares the next answer. If the upstream
//! cannot be asked, nothing is served. Other references are brought when somebody asks for them, and forgotten when the
//! upstream has changed them.
//!
//! A mirror belongs to one upstream and one credential: git serves any object of it by its id.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

use super::demand::Demand;
use super::git::{Git, GitError};
use super::listed::{Relevant, branches_and_tags, relevant};
use super::pipe::{self, Pipe};
use super::upkeep;
use super::upstream::Target;
use crate::git_ref::{HEADS, TAGS, is_printable_name};

/// Maximum size of the list of references, in bytes.
pub(super) const MAX_REFS: u64 = 64 << 20;
/// Maximum number of other references that one request may ask for.
const MAX_OTHERS: usize = 1000;
/// Maximum number of objects that the upstream is asked for by their ids for one request.
const MAX_IDS: usize = 64;

/// Why the mirror is not up to date.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum MirrorError {
    /// The upstream cannot be asked, or not be read.
    #[error("the upstream of {name:?} cannot be asked: {why}")]
    Upstream {
        /// The repository.
        name: String,
        /// The reason.
        why: String,
    },
    /// A request for too much at once.
    #[error("the upstream of {name:?} has {count} references of these names; ask for at most {MAX_OTHERS} at once")]
    TooMany {
        /// The repository.
        name: String,
        /// How many there are.
        count: usize,
    },
}

/// A mirror.
pub(super) struct Mirror {
    name: String,
    /// git in it.
    pub(super) git: Git,
    pipe: Pipe,
    /// Numbers the operations.
    tickets: AtomicU64,
    asked: Mutex<Asked>,
    /// How many fetches there were.
    fetched: AtomicU64,
    /// Held during upkeep.
    kept: Mutex<()>,
}

/// What an upstream lists, as `git ls-remote` prints it.
type List = Arc<[u8]>;

/// The last answer of the upstream.
struct Asked {
    /// Operations up to this one are answered.
    covers: u64,
    outcome: Result<(), MirrorError>,
    /// What the upstream listed when the mirror was last made equal to it.
    listed: Option<List>,
    /// What it listed then beside branches and tags: names and ids.
    others: BTreeMap<String, String>,
    /// Those of them that the mirror has.
    brought: BTreeMap<String, String>,
}

impl Mirror {
    /// Creates an empty mirror in a folder.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(super) fn new(program: &Path, name: &str, folder: &Path, target: Arc<Target>) -> anyhow::Result<Self> {
        let git = Git::new(program, &create_bare(folder.join("mirror.git"))?);
        let pipe = Pipe::listen(folder.join("pipe"), target)?;
        let (others, brought) = (BTreeMap::new(), BTreeMap::new());
        let asked = Mutex::new(Asked { covers: 0, outcome: Ok(()), listed: None, others, brought });
        let (tickets, fetched, kept) = (AtomicU64::new(0), AtomicU64::new(0), Mutex::new(()));
        Ok(Self { name: name.to_owned(), git, pipe, tickets, asked, fetched, kept })
    }

    /// Makes the mirror equal to what the upstream has now, or had at some moment after this was called.
    ///
    /// # Errors
    /// The upstream cannot be asked.
    pub(super) async fn refresh(self: &Arc<Self>) -> Result<(), MirrorError> {
        let ticket = self.tickets.fetch_add(1, Ordering::SeqCst) + 1;
        let mirror = self.clone();
        // Who asked may go; what was begun is ended.
        let work = crate::task::spawn(async move {
            let mut asked = mirror.asked.lock().await;
            if asked.covers < ticket {
                asked.covers = mirror.tickets.load(Ordering::SeqCst);
                asked.outcome = mirror.ask(&mut asked).await;
            }
            asked.outcome.clone()
        });
        work.await.unwrap_or_else(|error| Err(self.error(error.to_string())))
    }

    /// Whether it has these branches and tags, names and ids, which the upstream has listed. It may have others beside
    /// them.
    pub(super) async fn has(&self, refs: &BTreeMap<String, String>) -> bool {
        let asked = self.asked.lock().await;
        let Some(list) = &asked.listed else { return false };
        let known: HashMap<_, _> = branches_and_tags(list).into_iter().map(|(id, name)| (name, id)).collect();
        // What it does not follow is not shown to a client either.
        let mut followed = refs.iter().filter(|(name, _)| is_printable_name(name));
        followed.all(|(name, id)| known.get(name.as_str()) == Some(&id.as_str()))
    }

    /// Says that the upstream cannot be asked, and why.
    pub(super) fn error(&self, why: String) -> MirrorError {
        MirrorError::Upstream { name: self.name.clone(), why }
    }

    /// The transport knows better than git why an operation failed.
    async fn explained<T>(&self, done: Result<T, GitError>) -> Result<T, MirrorError> {
        match done {
            Ok(value) => Ok(value),
            Err(error) => {
                let known = self.pipe.trouble().await;
                Err(self.error(if known.is_empty() { error.to_string() } else { known }))
            }
        }
    }

    async fn ask(self: &Arc<Self>, asked: &mut Asked) -> Result<(), MirrorError> {
        let git = self.pipe.transport(&self.git).map_err(|error| self.error(error.to_string()))?;
        let url = pipe::url();
        let list = self.explained(git.run(&["ls-remote", "--symref", &url], Vec::new(), MAX_REFS).await).await?;
        let list = List::from(list);
        if asked.listed.as_ref() == Some(&list) {
            return Ok(());
        }
        let Relevant { head, ours, others } = relevant(&list);
        self.forget(&mut asked.brought, &others).await?;
        asked.others = others;
        let before = asked.listed.take();
        if before.is_none_or(|before| relevant(&before).ours != ours) {
            self.fetch(&["--prune"], &format!("+{HEADS}*:{HEADS}*\n+{TAGS}*:{TAGS}*\n")).await?;
            if let Some(head) = head {
                let own = |error: GitError| self.error(error.to_string());
                self.git.run(&["symbolic-ref", "HEAD", &head], Vec::new(), 0).await.map_err(own)?;
            }
        }
        asked.listed = Some(list);
        Ok(())
    }

    /// Removes half packs of fetches that were killed: there is one fetch at a time.
    fn sweep(&self) {
        let folder = std::fs::read_dir(self.git.repository().join("objects/pack"));
        for entry in folder.into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with("tmp_pack_") {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    /// Fetches what these lines say.
    async fn fetch(self: &Arc<Self>, options: &[&str], specs: &str) -> Result<(), MirrorError> {
        let url = pipe::url();
        let mut arguments = vec!["fetch", "--quiet", "--stdin", "--no-tags", "--no-auto-maintenance"];
        arguments.extend(["--no-write-fetch-head", "--no-recurse-submodules", "--no-show-forced-updates"]);
        arguments.extend(options);
        arguments.push(&url);
        self.sweep();
        let git = self.pipe.transport(&self.git).map_err(|error| self.error(error.to_string()))?;
        self.explained(git.run(&arguments, specs.into(), MAX_REFS).await).await?;
        let number = self.fetched.fetch_add(1, Ordering::Relaxed);
        if number.is_multiple_of(upkeep::EVERY) {
            let mirror = self.clone();
            crate::task::spawn(async move {
                let _turn = mirror.kept.lock().await;
                // Without it fetches are slower, and nothing else.
                let _ = upkeep::run(&mirror.git, number > 0).await;
            });
        }
        Ok(())
    }

    /// Removes references that the upstream has changed or removed; who asks for one gets it again.
    async fn forget(
        &self,
        brought: &mut BTreeMap<String, String>,
        others: &BTreeMap<String, String>,
    ) -> Result<(), MirrorError> {
        let gone: Vec<String> =
            brought.iter().filter(|(name, id)| others.get(*name) != Some(*id)).map(|(name, _)| name.clone()).collect();
        if gone.is_empty() {
            return Ok(());
        }
        let lines: String = gone.iter().flat_map(|name| ["delete ", name, "\n"]).collect();
        let done = self.git.run(&["update-ref", "--stdin"], lines.into(), 0).await;
        done.map_err(|error| self.error(error.to_string()))?;
        brought.retain(|name, _| !gone.contains(name));
        Ok(())
    }

    /// Prepares the mirror for a request: asks the upstream if the request lists references, and fetches references
    /// and objects that it names and the mirror lacks, if the upstream has them.
    ///
    /// # Errors
    /// The upstream cannot be asked, or the request names too many references.
    pub(super) async fn prepare(self: &Arc<Self>, demand: Demand) -> Result<(), MirrorError> {
        if demand.lists {
            self.refresh().await?;
        }
        let missing = self.missing(&demand.ids).await?;
        if missing.is_empty() && !demand.names_others() {
            return Ok(());
        }
        let mirror = self.clone();
        // Who asked may go; what was begun is ended.
        let work = crate::task::spawn(async move {
            let mut asked = mirror.asked.lock().await;
            mirror.bring(&mut asked, &demand).await?;
            for id in missing.iter().take(MAX_IDS) {
                // Whether this bottle may see it is the upstream's decision; if it may not, `upload-pack` says so.
                let _ = mirror.fetch(&[], &format!("{id}\n")).await;
            }
            Ok(())
        });
        work.await.unwrap_or_else(|error| Err(self.error(error.to_string())))
    }

    /// Which of these objects the mirror lacks.
    async fn missing(&self, ids: &[String]) -> Result<Vec<String>, MirrorError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let asked: String = ids.iter().flat_map(|id| [id, "\n"]).collect();
        let check = ["cat-file", "--batch-check=%(objectname)", "--buffer"];
        let answer =
            self.git.run(&check, asked.into(), MAX_REFS).await.map_err(|error| self.error(error.to_string()))?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        Ok(answer.lines().filter_map(|line| line.strip_suffix(" missing")).map(str::to_owned).collect())
    }

    async fn bring(self: &Arc<Self>, asked: &mut Asked, demand: &Demand) -> Result<(), MirrorError> {
        let wanted = asked.others.iter().filter(|(name, _)| demand.covers(name));
        let count = wanted.clone().count();
        if count > MAX_OTHERS {
            return Err(MirrorError::TooMany { name: self.name.clone(), count });
        }
        let lacking: Vec<_> = wanted.filter(|(name, id)| asked.brought.get(*name) != Some(*id)).collect();
        if !lacking.is_empty() {
            let specs: String = lacking.iter().flat_map(|(name, _)| ["+", *name, ":", *name, "\n"]).collect();
            self.fetch(&[], &specs).await?;
            let brought = lacking.into_iter().map(|(name, id)| (name.clone(), id.clone()));
            asked.brought.extend(brought.collect::<Vec<_>>());
        }
        Ok(())
    }
}

/// Creates an empty bare repository, with nothing that is not needed: no hooks, no templates.
///
/// # Errors
/// The folder cannot be written.
pub(super) fn create_bare(path: PathBuf) -> std::io::Result<PathBuf> {
    for folder in ["objects/pack", "objects/info", "refs/heads", "refs/tags"] {
        std::fs::create_dir_all(path.join(folder))?;
    }
    std::fs::write(path.join("HEAD"), "ref: refs/heads/main\n")?;
    std::fs::write(path.join("config"), "[core]\n\trepositoryformatversion = 0\n\tbare = true\n")?;
    Ok(path)
}
