//! What a push publishes: every object that is reachable from the new values and not from the upstream's branches and tags.
//! It is computed from what the upstream itself lists, not from what arrived: a commit may name an object that the client
//! did not send because the mirror has it, and that the upstream has no more.
//!
//! Attacks that this stops: content that is no secret where it is and becomes public by a push, such as a proposal from a
//! fork that becomes a branch, whose workflows then run; an object that the upstream only borrows from a fork.

use std::collections::BTreeSet;

use super::git::{Git, GitError};

/// Maximum size of the list, in bytes.
const MAX_LIST: u64 = 256 << 20;

/// What a push publishes.
#[derive(Debug, Default)]
pub(super) struct Published {
    /// New commits.
    pub(super) commits: Vec<String>,
    /// All new objects, with the first path of each; commits are among them, without one.
    pub(super) objects: Vec<(String, String)>,
    /// Commits that the upstream has, which new ones are based on.
    pub(super) edges: Vec<String>,
    /// The list as `pack-objects` reads it: exactly these objects.
    pub(super) list: Vec<u8>,
}

/// Why it cannot be computed.
#[derive(Debug, thiserror::Error)]
pub(super) enum PublishError {
    /// A new value is not there.
    #[error("the pack has no object {0}, which a reference is to have")]
    Missing(String),
    /// A branch would be something else than a commit.
    #[error("{0} is not a commit, and a branch has commits only")]
    NoCommit(String),
    /// git failed: usually an object between the new values and the upstream's is missing.
    #[error("the history of what is pushed is not complete: {0}")]
    Git(#[from] GitError),
}

/// Computes what is published. `new` are the new values, each with whether it must be a commit; `there` are the values of
/// the upstream's branches and tags.
///
/// # Errors
/// Something is missing.
pub(super) async fn publish(
    git: &Git,
    new: &[(&str, bool)],
    there: &BTreeSet<&str>,
) -> Result<Published, PublishError> {
    let all = new.iter().map(|(id, _)| *id).chain(there.iter().copied());
    let asked: String = all.flat_map(|id| [id, "\n"]).collect();
    let answer = git.run(&["cat-file", "--batch-check=%(objecttype)", "--buffer"], asked.into(), MAX_LIST).await?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let kinds: Vec<&str> = answer.lines().collect();
    for ((id, must_be_commit), kind) in new.iter().zip(&kinds) {
        if kind.ends_with(" missing") {
            return Err(PublishError::Missing((*id).to_owned()));
        }
        if *must_be_commit && *kind != "commit" {
            return Err(PublishError::NoCommit((*id).to_owned()));
        }
    }
    // Of what the upstream has, the gate may know only a part.
    let known = there.iter().zip(kinds.iter().skip(new.len())).filter(|(_, kind)| !kind.ends_with(" missing"));
    let wanted = new.iter().flat_map(|(id, _)| ["", *id, "\n"]);
    let input: String = wanted.chain(known.flat_map(|(id, _)| ["^", *id, "\n"])).collect();
    let list = git.run(&["rev-list", "--objects-edge", "--stdin"], input.into(), MAX_LIST).await?;
    Ok(read(list))
}

/// Reads the list: `-ID` is an edge, `ID` a commit, `ID PATH` another object, with an empty path for a root.
fn read(list: Vec<u8>) -> Published {
    let mut published = Published::default();
    for line in list.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        let line = String::from_utf8_lossy(line);
        match (line.strip_prefix('-'), line.split_once(' ')) {
            (Some(edge), _) => published.edges.push(edge.to_owned()),
            (None, Some((id, path))) => published.objects.push((id.to_owned(), path.to_owned())),
            (None, None) => {
                published.commits.push(line.clone().into_owned());
                published.objects.push((line.into_owned(), String::new()));
            }
        }
    }
    published.list = list;
    published
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_read_and_kept() {
        let list = b"1\n-2\n3 \n4 a b\n".to_vec();
        let published = read(list.clone());
        assert_eq!((published.commits, published.edges), (vec!["1".to_owned()], vec!["2".to_owned()]));
        let objects: Vec<_> = published.objects.iter().map(|(id, path)| (id.as_str(), path.as_str())).collect();
        assert_eq!(objects, [("1", ""), ("3", ""), ("4", "a b")]);
        assert_eq!(published.list, list);
    }
}
