//! A bare copy of an upstream's branches and tags, from which the agent fetches. Every operation asks the upstream
//! first, so that nobody is served what is out of date; who waits meanwhile shares the next answer. If the upstream
//! cannot be asked, nothing is served.
//!
//! A mirror belongs to one upstream and one credential: git serves any object of it by its id.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

use super::git::{Git, GitError};
use super::pipe::{self, Pipe};
use super::ref_name::{HEADS, TAGS};
use super::upstream::Target;

/// Maximum size of the list of references, in bytes.
const MAX_REFS: u64 = 64 << 20;

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
}

/// The last answer of the upstream.
struct Asked {
    /// Operations up to this one are answered.
    covers: u64,
    outcome: Result<(), MirrorError>,
    /// What the upstream listed when the mirror was last made equal to it.
    listed: Option<Vec<u8>>,
}

impl Mirror {
    /// Creates an empty mirror in a folder.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(super) fn new(program: &Path, name: &str, folder: &Path, target: Arc<Target>) -> anyhow::Result<Self> {
        let git = Git::new(program, &create_bare(folder.join("mirror.git"))?);
        let pipe = Pipe::listen(folder.join("pipe"), target)?;
        let asked = Asked { covers: 0, outcome: Ok(()), listed: None };
        Ok(Self { name: name.to_owned(), git, pipe, tickets: AtomicU64::new(0), asked: Mutex::new(asked) })
    }

    /// Makes the mirror equal to what the upstream has now, or had at some moment after this was called.
    ///
    /// # Errors
    /// The upstream cannot be asked.
    pub(super) async fn refresh(self: &Arc<Self>) -> Result<(), MirrorError> {
        let ticket = self.tickets.fetch_add(1, Ordering::SeqCst) + 1;
        let mirror = self.clone();
        // Who asked may go; what was begun is ended.
        let work = tokio::spawn(async move {
            let mut asked = mirror.asked.lock().await;
            if asked.covers < ticket {
                asked.covers = mirror.tickets.load(Ordering::SeqCst);
                asked.outcome = mirror.ask(&mut asked.listed).await;
            }
            asked.outcome.clone()
        });
        work.await.unwrap_or_else(|error| Err(self.error(error.to_string())))
    }

    fn error(&self, why: String) -> MirrorError {
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

    async fn ask(&self, listed: &mut Option<Vec<u8>>) -> Result<(), MirrorError> {
        let git = self.pipe.transport(&self.git).map_err(|error| self.error(error.to_string()))?;
        let url = pipe::url();
        let list = self.explained(git.run(&["ls-remote", "--symref", &url], Vec::new(), MAX_REFS).await).await?;
        let (head, ours) = relevant(&list);
        if listed.as_deref() == Some(&ours) {
            return Ok(());
        }
        *listed = None;
        let specs = [format!("+{HEADS}*:{HEADS}*"), format!("+{TAGS}*:{TAGS}*")];
        let mut arguments = vec!["fetch", "--quiet", "--prune", "--no-tags", "--no-auto-maintenance"];
        arguments.extend(["--no-write-fetch-head", "--no-recurse-submodules", "--no-show-forced-updates", &url]);
        arguments.extend(specs.iter().map(String::as_str));
        let git = self.pipe.transport(&self.git).map_err(|error| self.error(error.to_string()))?;
        self.explained(git.run(&arguments, Vec::new(), MAX_REFS).await).await?;
        if let Some(head) = head {
            let own = |error: GitError| self.error(error.to_string());
            self.git.run(&["symbolic-ref", "HEAD", &head], Vec::new(), 0).await.map_err(own)?;
        }
        *listed = Some(ours);
        Ok(())
    }

    /// The branches and tags: ids and names.
    ///
    /// # Errors
    /// git fails.
    pub(super) async fn refs(&self) -> Result<Vec<(String, String)>, GitError> {
        let format = "--format=%(objectname) %(refname)";
        let list = self.git.run(&["for-each-ref", format, HEADS, TAGS], Vec::new(), MAX_REFS).await?;
        let lines = String::from_utf8_lossy(&list).into_owned();
        let pairs = lines.lines().filter_map(|line| line.split_once(' '));
        Ok(pairs.map(|(id, name)| (id.to_owned(), name.to_owned())).collect())
    }
}

/// The branch that `HEAD` names, and the lines of a list that the mirror follows.
fn relevant(list: &[u8]) -> (Option<String>, Vec<u8>) {
    let text = String::from_utf8_lossy(list);
    let symbolic = text.lines().find_map(|line| line.strip_prefix("ref: ")?.strip_suffix("\tHEAD"));
    let head = symbolic.filter(|name| name.starts_with(HEADS) && super::ref_name::is_valid(name)).map(str::to_owned);
    let follows = |line: &&str| {
        let name = line.split_once('\t').map_or("", |(_, name)| name);
        line.starts_with("ref: ") || name.starts_with(HEADS) || name.starts_with(TAGS)
    };
    (head, text.lines().filter(follows).collect::<Vec<_>>().join("\n").into_bytes())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_list_branches_and_tags_count() {
        let list = "ref: refs/heads/main\tHEAD\n1\tHEAD\n1\trefs/heads/main\n2\trefs/pull/1/head\n3\trefs/tags/v1\n";
        let (head, ours) = relevant(list.as_bytes());
        assert_eq!(head.as_deref(), Some("refs/heads/main"));
        assert_eq!(ours, b"ref: refs/heads/main\tHEAD\n1\trefs/heads/main\n3\trefs/tags/v1");
        assert_eq!(relevant(b"ref: refs/heads/../x\tHEAD").0, None);
    }
}
