//! Questions about commits: what they change, whether one contains another, where an object comes from, and what the
//! upstream has had at a path.

use super::git::{Git, GitError};

/// Maximum size of an answer, in bytes.
const MAX_ANSWER: u64 = 256 << 20;
/// How many earlier versions of a file are looked at, and their maximum size together, in bytes.
const VERSIONS: usize = 64;
const MAX_VERSIONS: u64 = 64 << 20;

/// Ids in lines, as git reads them.
fn lines(ids: &[String]) -> Vec<u8> {
    ids.iter().flat_map(|id| [id.as_str(), "\n"]).collect::<String>().into_bytes()
}

/// The commit and the path of each change that is `wanted`, at most so many. Of a merge, only what differs from every
/// parent counts: the rest was changed by other commits.
///
/// # Errors
/// git fails.
pub(super) async fn changes(
    git: &Git,
    commits: &[String],
    wanted: impl Fn(&[u8]) -> bool,
    most: usize,
) -> Result<Vec<(String, Vec<u8>)>, GitError> {
    let arguments = ["diff-tree", "--stdin", "--root", "-r", "-c", "-z", "--raw", "--no-renames"];
    let answer = git.run(&arguments, lines(commits), MAX_ANSWER).await?;
    let wanted = read_changes(&answer).filter(|(_, path)| wanted(path)).take(most);
    Ok(wanted.map(|(commit, path)| (String::from_utf8_lossy(commit).into_owned(), path.to_vec())).collect())
}

/// Reads `COMMIT\0:MODES IDS STATUS\0PATH\0…` (git, `diff-format`). A path always follows an entry, so that no name of a
/// file can be taken for a commit.
fn read_changes(answer: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut words = answer.split(|&byte| byte == 0);
    let mut commit: &[u8] = b"";
    std::iter::from_fn(move || {
        loop {
            match words.next()? {
                [b':', ..] => return Some((commit, words.next()?)),
                [] => {}
                id => commit = id,
            }
        }
    })
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
    let arguments = ["diff-tree", "--stdin", "--root", "-r", "-t", "-m", "-z", "--raw", "--no-renames", &find];
    let answer = git.run(&arguments, lines(commits), MAX_ANSWER).await?;
    let last = read_changes(&answer).last();
    Ok(last.map(|(commit, path)| (String::from_utf8_lossy(commit).into_owned(), path.to_vec())))
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
        let [a, b] = ["a", "b"].map(|letter| letter.repeat(40));
        let entry = ":100644 100644 1 2 M";
        // A file that is named like a commit, and one that is named like an entry.
        let answer =
            [&a, entry, "x/y", entry, &b, entry, ":z", &b, "::100644 100644 100644 1 2 3 MM", "c", ""].join("\0");
        let changes: Vec<_> = read_changes(answer.as_bytes()).collect();
        let expected = [(&a, "x/y"), (&a, &*b), (&a, ":z"), (&b, "c")];
        assert_eq!(changes, expected.map(|(id, path)| (id.as_bytes(), path.as_bytes())));
    }
}
