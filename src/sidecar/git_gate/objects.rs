//! Reads every published object and has it inspected, some at a time, so that memory is bounded.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::ChildStdout;
use tokio::task::JoinHandle;

use super::early::Inspected;
use super::git::{Git, GitError, Running};
use super::inspect::{Inspector, Kind, LOT, LOT_BYTES, LOTS, MAX_ISSUES, Problem};
use super::terms::Terms;

/// Maximum size of an object that is not a file, in bytes.
const MAX_OTHER: u64 = 16 << 20;
/// Maximum length of the line before an object, in bytes.
const MAX_HEAD: u64 = 256;

/// A problem, and the object that has it.
#[derive(Debug, Clone)]
pub(super) struct Issue {
    /// The object.
    pub(super) id: String,
    /// Its kind.
    pub(super) kind: Kind,
    /// Its path, if it is in a tree.
    pub(super) path: String,
    /// The problem.
    pub(super) problem: Problem,
}

struct Object {
    id: String,
    kind: Kind,
    path: String,
    content: Vec<u8>,
}

/// Why objects could not be read. Then nothing is published.
#[derive(Debug, thiserror::Error)]
pub(super) enum ObjectsError {
    /// git failed, or wrote what was not expected.
    #[error(transparent)]
    Git(#[from] GitError),
    /// A file is larger than what the manifest allows, or another object than what the gate does.
    #[error("{path} has {size} bytes; {} may have at most {most}", match kind {
        Kind::Blob => "a file",
        Kind::Tree => "a folder",
        Kind::Commit => "a commit",
        Kind::Tag => "a tag",
    })]
    TooLarge {
        /// What it is.
        kind: Kind,
        /// The file, or the object's id.
        path: String,
        /// Its size, in bytes.
        size: u64,
        /// The maximum.
        most: u64,
    },
    /// An object is missing.
    #[error("the object {0} is missing")]
    Missing(String),
    /// More problems than can be explained.
    #[error("there are more than {MAX_ISSUES} findings in it")]
    TooMany,
    /// The inspection itself failed.
    #[error("inspect objects: {0}")]
    Inspect(#[from] tokio::task::JoinError),
}

/// Inspects objects; returns what is wrong with them, in their order. `early` has been inspected already.
///
/// # Errors
/// An object cannot be read, or is too large.
pub(super) async fn inspect(
    git: &Git,
    objects: &[(String, String)],
    inspector: &Inspector,
    terms: &Arc<Terms>,
    early: &Inspected,
) -> Result<Vec<Issue>, ObjectsError> {
    let (mut issues, mut rest) = (Vec::new(), Vec::new());
    for (number, (id, path)) in objects.iter().enumerate() {
        match early.of(inspector, id, path) {
            Some((kind, problems)) => issues.extend(problems.iter().map(|problem| {
                let (id, path, problem) = (id.clone(), path.clone(), problem.clone());
                (number, Issue { id, kind: *kind, path, problem })
            })),
            None => rest.push((number, id, path)),
        }
    }
    if !rest.is_empty() {
        inspect_rest(git, &rest, inspector, terms, &mut issues).await?;
    }
    if issues.len() > MAX_ISSUES {
        return Err(ObjectsError::TooMany);
    }
    issues.sort_by_key(|(number, _)| *number);
    Ok(issues.into_iter().map(|(_, issue)| issue).collect())
}

/// Reads objects from git, each with its number, and inspects them.
async fn inspect_rest(
    git: &Git,
    objects: &[(usize, &String, &String)],
    inspector: &Inspector,
    terms: &Arc<Terms>,
    issues: &mut Vec<(usize, Issue)>,
) -> Result<(), ObjectsError> {
    let mut running = git.start(&["cat-file", "--batch", "--buffer"])?;
    let (Some(mut stdin), Some(stdout)) = (running.child.stdin.take(), running.child.stdout.take()) else {
        return Err(running.unexpected("it has no pipes").into());
    };
    let ids: String = objects.iter().flat_map(|(_, id, _)| [id.as_str(), "\n"]).collect();
    let feed = crate::task::spawn(async move {
        let _ = stdin.write_all(ids.as_bytes()).await;
    });
    let mut stdout = BufReader::with_capacity(1 << 20, stdout);
    let (mut lot, mut bytes) = (Vec::new(), 0);
    let mut lots: VecDeque<JoinHandle<Vec<(usize, Issue)>>> = VecDeque::new();
    for (number, id, path) in objects {
        let object = read(&running, &mut stdout, id, path, terms.max_file).await?;
        bytes += object.content.len();
        lot.push((*number, object));
        if lot.len() < LOT && bytes < LOT_BYTES {
            continue;
        }
        if lots.len() == LOTS
            && let Some(done) = lots.pop_front()
        {
            issues.extend(done.await?);
        }
        lots.push_back(start(std::mem::take(&mut lot), inspector, terms));
        bytes = 0;
        if issues.len() > MAX_ISSUES {
            return Err(ObjectsError::TooMany);
        }
    }
    lots.push_back(start(lot, inspector, terms));
    for lot in lots {
        issues.extend(lot.await?);
    }
    feed.await?;
    drop(stdout);
    running.end().await?;
    Ok(())
}

/// Reads one object: `ID TYPE SIZE`, the content, and a line's end (`git-cat-file(1)`, "BATCH OUTPUT").
async fn read(
    running: &Running,
    from: &mut BufReader<ChildStdout>,
    id: &str,
    path: &str,
    max_file: u64,
) -> Result<Object, ObjectsError> {
    let gone = |error: std::io::Error| running.unexpected(format!("its output ends: {error}"));
    let mut head = String::new();
    from.take(MAX_HEAD).read_line(&mut head).await.map_err(gone)?;
    let words: Vec<&str> = head.split_ascii_whitespace().collect();
    let (kind, size) = match words[..] {
        [same, kind, size] if same == id => (Kind::read(kind), size.parse::<u64>().ok()),
        [same, "missing"] if same == id => return Err(ObjectsError::Missing(id.to_owned())),
        _ => (None, None),
    };
    let (Some(kind), Some(size)) = (kind, size) else {
        return Err(running.unexpected(format!("{head:?} is not the beginning of {id}")).into());
    };
    let most = if kind == Kind::Blob { max_file } else { MAX_OTHER };
    if size > most {
        let path = if path.is_empty() { id } else { path }.to_owned();
        return Err(ObjectsError::TooLarge { kind, path, size, most });
    }
    let length = usize::try_from(size).map_err(|_| running.unexpected("an object is too large"))?;
    let mut content = vec![0; length + 1];
    from.read_exact(&mut content).await.map_err(gone)?;
    content.pop();
    Ok(Object { id: id.to_owned(), kind, path: path.to_owned(), content })
}

fn start(lot: Vec<(usize, Object)>, inspector: &Inspector, terms: &Arc<Terms>) -> JoinHandle<Vec<(usize, Issue)>> {
    let (inspector, terms) = (inspector.clone(), terms.clone());
    crate::task::blocking(move || {
        let mut issues = Vec::new();
        for (number, Object { id, kind, path, content }) in lot {
            let problems = inspector.inspect(kind, &path, &content, &terms);
            issues.extend(problems.into_iter().map(|problem| {
                let (id, path) = (id.clone(), path.clone());
                (number, Issue { id, kind, path, problem })
            }));
        }
        issues
    })
}
