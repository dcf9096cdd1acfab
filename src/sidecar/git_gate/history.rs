//! Questions about commits: what they change, whether one contains another, where an object comes from, and what the
//! upstream has had at a path.

use super::git::{Git, GitError};

/// Maximum size of an answer, in bytes.
const MAX_ANSWER: u64 = 256 << 20;
/// How many earlier versions of a file are looked at, and their maximum size together, in bytes.
const VERSIONS: usize = 64;
const MAX_VERSIONS: u64 = 64 << 20;
/// The length of an id.
const ID: usize = 40;

/// Ids in lines, as git reads them.
fn lines(ids: &[String]) -> Vec<u8> {
    ids.iter().flat_map(|id| [id.as_str(), "\n"]).collect::<String>().into_bytes()
}

/// The commit and the path of each change. Of a merge, only what differs from every parent counts: the rest was changed
/// by other commits.
///
/// # Errors
/// git fails.
pub(super) async fn changes(git: &Git, commits: &[String]) -> Result<Vec<(String, Vec<u8>)>, GitError> {
    let arguments = ["diff-tree", "--stdin", "--root", "-r", "-c", "-z", "--name-only", "--no-renames"];
    let answer = git.run(&arguments, lines(commits), MAX_ANSWER).await?;
    Ok(read_changes(&answer, commits))
}

/// Reads `COMMIT\0PATH\0PATH\0…`; a merge may repeat its id, which cannot be a path in itself. A path that is the id
/// of a later commit is taken for that commit: what follows is still a change.
fn read_changes(answer: &[u8], commits: &[String]) -> Vec<(String, Vec<u8>)> {
    let mut changes = Vec::new();
    let mut rest = commits.iter().map(String::as_str).peekable();
    let mut current = "";
    for word in answer.split(|&byte| byte == 0).filter(|word| !word.is_empty()) {
        // A commit that changes nothing is not listed.
        let named = (word.len() == ID).then(|| rest.clone().position(|id| id.as_bytes() == word)).flatten();
        if word == current.as_bytes() {
            continue;
        }
        if let Some(skipped) = named {
            current = rest.nth(skipped).unwrap_or_default();
        } else {
            changes.push((current.to_owned(), word.to_vec()));
        }
    }
    changes
}

/// Whether `new` contains `old`.
///
/// # Errors
/// git fails, or an object is missing.
pub(super) async fn contains(git: &Git, old: &str, new: &str) -> Result<bool, GitError> {
    match git.run(&["merge-base", "--is-ancestor", old, new], Vec::new(), 0).await {
        Ok(_) => Ok(true),
        Err(GitError::Failed { status, .. }) if status.code() == Some(1) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The first of these commits that has an object, and the path there. Commits are listed newest first.
///
/// # Errors
/// git fails.
pub(super) async fn origin(git: &Git, commits: &[String], id: &str) -> Result<Option<(String, Vec<u8>)>, GitError> {
    let find = format!("--find-object={id}");
    let arguments = ["diff-tree", "--stdin", "--root", "-r", "-t", "-m", "-z", "--name-only", "--no-renames", &find];
    let answer = git.run(&arguments, lines(commits), MAX_ANSWER).await?;
    Ok(read_changes(&answer, commits).pop())
}

/// What the upstream has had at a path: contents of the newest versions.
///
/// # Errors
/// git fails.
pub(super) async fn versions(git: &Git, edges: &[String], path: &str) -> Result<Vec<Vec<u8>>, GitError> {
    if edges.is_empty() || path.is_empty() {
        return Ok(Vec::new());
    }
    let count = format!("-n{VERSIONS}");
    let mut arguments = vec!["rev-list", count.as_str()];
    arguments.extend(edges.iter().map(String::as_str).take(VERSIONS));
    arguments.extend(["--", path]);
    let touched = git.run(&arguments, Vec::new(), MAX_ANSWER).await?;
    let mut contents = Vec::new();
    let mut left = MAX_VERSIONS;
    for commit in String::from_utf8_lossy(&touched).lines() {
        let name = format!("{commit}:{path}");
        match git.run(&["cat-file", "blob", &name], Vec::new(), left).await {
            Ok(content) => {
                left -= content.len() as u64;
                contents.push(content);
            }
            // The commit deletes the file.
            Err(GitError::Failed { .. }) => {}
            // Older versions are not looked at: then the finding counts.
            Err(GitError::Output { .. }) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(contents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_read_with_their_commits() {
        let [a, b, c] = ["a", "b", "c"].map(|letter| letter.repeat(ID));
        let answer = [&a, "x/y", &a, "c", "", &c, &b, "z"].join("\0");
        let changes = read_changes(answer.as_bytes(), &[a.clone(), b.clone(), c.clone()]);
        // `b` was passed over: it is a path.
        let expected = [(&a, "x/y"), (&a, "c"), (&c, &*b), (&c, "z")];
        let expected: Vec<_> = expected.map(|(id, path)| (id.clone(), path.as_bytes().to_vec())).into();
        assert_eq!(changes, expected);
    }
}
