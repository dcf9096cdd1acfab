//! Where a finding is, in words that help: the commit, the path and the line; never the secret itself.

use super::git::{Git, GitError};
use super::history;
use super::inspect::{Inspector, Kind, Problem, is_known};
use super::objects::Issue;
use super::publish::Published;
use crate::scan::{Budget, Finding};

/// The size of the texts in which a line is looked for, in bytes.
const MAX_LOCATED: usize = 4 << 20;
/// How many lines a finding may have for its first one to be looked for.
const MAX_LINES: usize = 64;
/// How many digits of an id are shown.
const SHORT: usize = 10;

/// Whether the upstream has had the same token at the same path. Then it is no news to it. One of the bottle's own
/// secrets is refused all the same.
///
/// # Errors
/// git fails.
pub(super) async fn is_old(
    git: &Git,
    inspector: &Inspector,
    published: &Published,
    issue: &Issue,
) -> Result<bool, GitError> {
    let Problem::Secret(finding) = &issue.problem else { return Ok(false) };
    if is_known(finding) || issue.kind != Kind::Blob {
        return Ok(false);
    }
    let versions = history::versions(git, &published.edges, &issue.path).await?;
    let (inspector, finding) = (inspector.clone(), finding.clone());
    let compare = move || versions.iter().any(|version| holds(&inspector, &finding, version));
    Ok(crate::task::blocking(compare).await.unwrap_or(false))
}

fn holds(inspector: &Inspector, finding: &Finding, text: &[u8]) -> bool {
    inspector.findings(text, &mut Budget::of(text.len())).is_ok_and(|found| found.contains(finding))
}

/// The first line of a finding in a text, from 1; `None` if it is in no line as it stands.
fn line(inspector: &Inspector, finding: &Finding, text: &[u8]) -> Option<usize> {
    if text.len() > MAX_LOCATED || !holds(inspector, finding, text) {
        return None;
    }
    let ends: Vec<usize> = memchr::memchr_iter(b'\n', text).map(|at| at + 1).chain([text.len()]).collect();
    // The shortest beginning that holds it ends with its last line.
    let last = ends.partition_point(|&end| !holds(inspector, finding, &text[..end])).min(ends.len() - 1);
    let start = |number: usize| number.checked_sub(1).map_or(0, |before| ends[before]);
    // From there back, the shortest end that holds it begins with its first line.
    let mut first = last;
    while !holds(inspector, finding, &text[start(first)..ends[last]]) {
        if first == 0 || last - first == MAX_LINES {
            return None;
        }
        first -= 1;
    }
    Some(first + 1)
}

/// Where an issue is.
///
/// # Errors
/// git fails.
pub(super) async fn place(
    git: &Git,
    inspector: &Inspector,
    published: &Published,
    issue: &Issue,
) -> Result<String, GitError> {
    let short = |id: &str| id.chars().take(SHORT).collect::<String>();
    match issue.kind {
        Kind::Commit => return Ok(format!("commit {} (its message, authors or headers)", short(&issue.id))),
        Kind::Tag => return Ok(format!("tag object {}", short(&issue.id))),
        Kind::Blob | Kind::Tree => {}
    }
    let origin = history::origin(git, &published.commits, &issue.id).await?;
    let path =
        origin.as_ref().map_or_else(|| issue.path.clone(), |(_, path)| String::from_utf8_lossy(path).into_owned());
    let commit = origin.map_or_else(|| "a new commit".to_owned(), |(commit, _)| format!("commit {}", short(&commit)));
    if issue.kind == Kind::Tree {
        let folder = if path.is_empty() { "the root folder" } else { &path };
        return Ok(format!("a file name in {folder}, {commit}"));
    }
    let mut number = None;
    if let Problem::Secret(finding) = &issue.problem {
        let limit = MAX_LOCATED as u64;
        if let Ok(content) = git.run(&["cat-file", "blob", &issue.id], Vec::new(), limit).await {
            let (inspector, finding) = (inspector.clone(), finding.clone());
            let search = move || line(&inspector, &finding, &content);
            number = crate::task::blocking(search).await.unwrap_or_default();
        }
    }
    Ok(number.map_or_else(|| format!("{path}, {commit}"), |number| format!("{path} line {number}, {commit}")))
}

#[cfg(test)]
mod tests {
    use super::super::config::Known;
    use super::*;
    use crate::scan::{Dlp, KnownSecret};

    #[test]
    fn a_finding_is_in_its_first_line() {
        let secret = "correct-horse-battery-staple";
        let known = KnownSecret { value: secret.to_owned(), hosts: Vec::new() };
        let known = Known { secrets: vec![known], placeholders: vec![] };
        let inspector = Inspector::new(&Dlp::default(), &known).unwrap();
        for before in [0, 1, 2, 7, 100] {
            let text = format!("{}key = {secret}\n{}", "a line\n".repeat(before), "more\n".repeat(before));
            let found = inspector.findings(text.as_bytes(), &mut Budget::unbounded()).unwrap();
            assert_eq!(line(&inspector, &found[0], text.as_bytes()), Some(before + 1));
        }
    }
}
