//! Judges what a push publishes: has every object inspected, compares paths with the protected ones, and explains what
//! was found, and what the operator can do.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::commands::Request;
use super::gate::{Gate, Operation, Served};
use super::inspect::{Inspector, Kind, Problem, is_known};
use super::objects::{self, Issue};
use super::publish::Published;
use super::quarantine::Quarantine;
use super::terms::Refusal;
use super::{approvals, history, trace};

/// How many findings are explained; the others are of the same kind.
const EXPLAINED: usize = 10;
/// How many reasons are listed.
const NAMED: usize = 10;

/// Why a push is not carried out.
pub(super) struct Denied {
    /// Reasons of single references; the others share the fate of these.
    pub(super) refs: BTreeMap<String, Refusal>,
    /// The reason of all references, if there is one.
    pub(super) all: Option<Refusal>,
    /// Further lines for people.
    pub(super) lines: Vec<String>,
}

impl Denied {
    /// All references, for one reason.
    pub(super) fn all(code: &'static str, reason: impl Into<String>) -> Self {
        Self { refs: BTreeMap::new(), all: Some(Refusal::new(code, reason)), lines: Vec::new() }
    }

    /// One reference; the others share its fate.
    pub(super) fn of(name: &str, code: &'static str, reason: impl Into<String>) -> Self {
        let refs = BTreeMap::from([(name.to_owned(), Refusal::new(code, reason))]);
        Self { refs, all: None, lines: Vec::new() }
    }
}

/// Inspects every object that is published, and every path that a new commit changes. Returns what passes because the
/// operator has approved it.
///
/// # Errors
/// Why nothing of the push is carried out.
pub(super) async fn inspect(
    gate: &Arc<Gate>,
    served: &Arc<Served>,
    quarantine: &Quarantine,
    published: &Published,
    inspector: &Inspector,
    request: &Request,
) -> Result<Vec<String>, Denied> {
    let git = &quarantine.git;
    let (issues, changes) = tokio::join!(
        objects::inspect(git, &published.objects, inspector, &served.terms),
        history::changes(git, &published.commits),
    );
    let failed = |error: String| Denied::all("git_gate_failed", format!("the push could not be inspected: {error}"));
    let issues = issues.map_err(|error| match error {
        objects::ObjectsError::TooLarge { .. } => Denied::all("git_file_too_large", error.to_string()),
        other => failed(other.to_string()),
    })?;
    let changes = changes.map_err(|error| failed(error.to_string()))?;
    let protected: Vec<_> = changes.iter().filter(|(_, path)| served.terms.protects(path)).collect();
    let mut verdict = Verdict::default();
    for (commit, path) in protected {
        let key = approvals::path(&served.name, commit, path);
        let path = String::from_utf8_lossy(path);
        let reason = format!("commit {} changes {path}, which is protected", &commit[..10.min(commit.len())]);
        verdict.judge(gate, served, ("git_path_protected", reason), Some(key));
    }
    let mut explained = 0;
    for issue in &issues {
        if explained == EXPLAINED {
            // What is not looked at any more cannot be approved.
            verdict.is_final = true;
            break;
        }
        if passes(gate, served, quarantine, published, inspector, issue).await.map_err(&failed)? {
            continue;
        }
        explained += 1;
        let place = trace::place(git, inspector, published, issue).await.map_err(|error| failed(error.to_string()))?;
        let key = match &issue.problem {
            Problem::Secret(finding) if !is_known(finding) => {
                Some(approvals::token(&served.name, &finding.to_string()))
            }
            _ => None,
        };
        verdict.judge(gate, served, explain(issue, &place), key);
    }
    let Verdict { first, mut lines, keys, is_final, released } = verdict;
    let Some(mut refusal) = first else { return Ok(released) };
    // A path or a name may itself hold a secret.
    if let Some(hidden) = hide(inspector, &refusal.reason) {
        refusal.reason = hidden;
    }
    lines = lines.into_iter().map(|line| hide(inspector, &line).unwrap_or(line)).collect();
    let names = request.commands.iter().map(|command| hide(inspector, &command.name).unwrap_or(command.name.clone()));
    let id = (!is_final).then(|| gate.approvals.offer(&served.name, names.collect(), lines.clone(), keys));
    let left_out = lines.len().saturating_sub(NAMED);
    lines.truncate(NAMED);
    if left_out > 0 {
        lines.push(format!("… and {left_out} more"));
    }
    lines.push("Take it out of every commit that is pushed, not only of the last one, then push again.".to_owned());
    if let Some(id) = id {
        let bottle = &gate.bottle;
        lines.push(format!("Or the operator can release this push: bottler git approve {bottle} {id}"));
    }
    Err(Denied { refs: BTreeMap::new(), all: Some(refusal), lines })
}

/// What becomes of a push, finding by finding.
#[derive(Default)]
struct Verdict {
    /// The first reason for a refusal.
    first: Option<Refusal>,
    /// All reasons.
    lines: Vec<String>,
    /// What an approval would release.
    keys: Vec<String>,
    /// Whether something is among them that no approval releases.
    is_final: bool,
    /// What passes because it was approved.
    released: Vec<String>,
}

impl Verdict {
    /// `key` is what an approval would release it by, if one can.
    fn judge(&mut self, gate: &Gate, served: &Served, (code, reason): (&'static str, String), key: Option<String>) {
        if let Some(key) = key.clone().filter(|key| gate.approvals.allows(key)) {
            let reason = format!("approved by the operator: {reason}");
            gate.record(served, &Operation { method: "push", decision: "warn", code, reason });
            self.released.push(key);
            return;
        }
        match key {
            Some(key) => self.keys.push(key),
            None => self.is_final = true,
        }
        self.lines.push(reason.clone());
        self.first.get_or_insert(Refusal::new(code, reason));
    }
}

/// What is said instead of a line that holds a secret.
fn hide(inspector: &Inspector, line: &str) -> Option<String> {
    let found = inspector.findings(line.as_bytes(), &mut crate::scan::Budget::of(line.len()));
    match found {
        Ok(found) if found.is_empty() => None,
        _ => Some("a secret, in an object whose name holds one as well".to_owned()),
    }
}

/// Whether a finding is only reported: because of its rule, or because the upstream has had it at this path.
async fn passes(
    gate: &Gate,
    served: &Served,
    quarantine: &Quarantine,
    published: &Published,
    inspector: &Inspector,
    issue: &Issue,
) -> Result<bool, String> {
    let Problem::Secret(finding) = &issue.problem else { return Ok(false) };
    let warns = !inspector.refuses(finding);
    let old = trace::is_old(&quarantine.git, inspector, published, issue).await.map_err(|error| error.to_string())?;
    if !(warns || old) {
        return Ok(false);
    }
    let reason = if old { "the upstream has had it there" } else { "its rule only warns" };
    let reason = format!("{finding} in {}: {reason}", issue.path);
    gate.record(served, &Operation { method: "push", decision: "warn", code: "secret_found", reason });
    Ok(true)
}

fn explain(issue: &Issue, place: &str) -> (&'static str, String) {
    match &issue.problem {
        Problem::Secret(finding) => ("secret_found", format!("a secret ({finding}) in {place}")),
        Problem::Uninspectable(why) => ("git_uninspectable", format!("{place} cannot be looked into: {why}")),
        Problem::Malformed(why) => ("git_pack_refused", format!("{why}: {place}")),
        Problem::Lfs => {
            ("git_lfs_refused", format!("{place} is a pointer to Git LFS, whose content would not be inspected"))
        }
        Problem::Author(email) => {
            let what = if issue.kind == Kind::Commit { "author or committer" } else { "tagger" };
            ("git_author_refused", format!("the {what} <{email}> is not allowed here: {place}"))
        }
    }
}
