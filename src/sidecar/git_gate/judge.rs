//! Judges what a push publishes: has every object inspected, compares paths with the protected ones, and explains what
//! was found.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;

use super::commands::Request;
use super::early::Inspected;
use super::gate::{Gate, Operation, Served};
use super::inspect::{Inspector, Kind, Problem, is_known};
use super::lfs::Object;
use super::objects::{self, Issue};
use super::publish::Published;
use super::quarantine::Quarantine;
use super::terms::Refusal;
use super::{approvals, history, trace};

/// Of how many findings the line and the commit are looked for.
const EXPLAINED: usize = 10;
/// How many reasons the client is told.
const NAMED: usize = 10;
/// How many findings are compared with what the upstream has had. Further ones are news.
const COMPARED: usize = 300;

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

/// Inspects every object that is published and not in `early`, and every path that a new commit changes. Returns what passes because the
/// operator has approved it.
///
/// # Errors
/// Why nothing of the push is carried out.
pub(super) async fn inspect(
    gate: &Arc<Gate>,
    served: &Arc<Served>,
    quarantine: &Quarantine,
    (published, early): (&Published, &Inspected),
    inspector: &Inspector,
    request: &Request,
) -> Result<Vec<String>, Denied> {
    let git = &quarantine.git;
    let protects = |path: &[u8]| served.terms.protects(path);
    let (issues, protected) = tokio::join!(
        objects::inspect(git, &published.objects, inspector, &served.terms, early),
        history::changes(git, &published.commits, protects, approvals::MOST + 1),
    );
    let failed = |error: String| Denied::all("git_gate_failed", format!("the push could not be inspected: {error}"));
    let issues = issues.map_err(|error| match error {
        objects::ObjectsError::TooLarge { .. } => Denied::all("git_file_too_large", error.to_string()),
        other => failed(other.to_string()),
    })?;
    let protected = protected.map_err(|error| failed(error.to_string()))?;
    let mut verdict = Verdict::default();
    for (commit, path) in &protected {
        let key = approvals::path(&served.name, commit, path);
        let reason = format!("commit {commit} changes {}, which is protected", String::from_utf8_lossy(path));
        verdict.judge(gate, served, ("git_path_protected", reason), Some(key));
    }
    let mut compared = 0;
    for issue in &issues {
        if verdict.lines.len() >= approvals::MOST {
            // What is not looked at any more cannot be approved.
            verdict.is_final = true;
            break;
        }
        compared += 1;
        let passing = passes(gate, served, quarantine, published, inspector, issue, compared <= COMPARED);
        if passing.await.map_err(&failed)? {
            continue;
        }
        let key = key(served, &issue.problem);
        let place = if verdict.lines.len() < EXPLAINED {
            trace::place(git, inspector, published, issue).await.map_err(|error| failed(error.to_string()))?
        } else {
            issue.path.clone()
        };
        verdict.judge(gate, served, explain(issue, &place), key);
    }
    let refs = request.commands.iter().map(|command| command.name.clone()).collect();
    let advice = "Take it out of every commit that is pushed, not only of the last one, then push again.";
    verdict.end(gate, served, inspector, refs, advice)
}

/// Inspects an object of Git LFS, as a file of a push is. It has no path, so that nothing was there before. Returns what
/// passes because the operator has approved it.
///
/// # Errors
/// Why it is not sent.
pub(super) async fn lfs(
    gate: &Arc<Gate>,
    served: &Arc<Served>,
    inspector: &Inspector,
    object: &Object,
    content: &Bytes,
) -> Result<Vec<String>, Denied> {
    let (searching, terms, searched) = (inspector.clone(), served.terms.clone(), content.clone());
    // A secret may be split over the strings of a JSON file, whatever it is called.
    let is_json = matches!(content.trim_ascii_start().first(), Some(b'{' | b'['));
    let name = if is_json { "object.json" } else { "" };
    let problems = crate::task::blocking(move || searching.inspect(Kind::Blob, name, &searched, &terms)).await;
    let failed = |error: tokio::task::JoinError| {
        Denied::all("git_gate_failed", format!("the object could not be inspected: {error}"))
    };
    let path = format!("the LFS object {}", object.short());
    let mut verdict = Verdict::default();
    for problem in problems.map_err(failed)? {
        if verdict.lines.len() >= approvals::MOST {
            verdict.is_final = true;
            break;
        }
        let issue = Issue { id: object.oid.clone(), kind: Kind::Blob, path: path.clone(), problem };
        if let Problem::Secret(finding) = &issue.problem
            && !inspector.refuses(finding)
        {
            let reason = format!("{finding} in {path}: its rule only warns");
            gate.record(served, &Operation { method: "push", decision: "warn", code: "secret_found", reason });
            continue;
        }
        let key = key(served, &issue.problem);
        verdict.judge(gate, served, explain(&issue, &path), key);
    }
    let advice = "Take it out of the file, amend the commits that have it, and push again.";
    verdict.end(gate, served, inspector, vec![path], advice)
}

/// What an approval would release a problem by, if one can.
fn key(served: &Served, problem: &Problem) -> Option<String> {
    match problem {
        Problem::Secret(finding) if !is_known(finding) => Some(approvals::token(&served.name, &finding.to_string())),
        _ => None,
    }
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
    /// Whether there is something that no approval releases.
    is_final: bool,
    /// What passes because it was approved.
    released: Vec<String>,
}

impl Verdict {
    /// `key` is what an approval would release it by, if one can.
    fn judge(&mut self, gate: &Gate, served: &Served, (code, reason): (&'static str, String), key: Option<String>) {
        match key {
            Some(key) if gate.approvals.allows(&key) => {
                let reason = format!("approved by the operator: {reason}");
                gate.record(served, &Operation { method: "push", decision: "warn", code, reason });
                self.released.push(key);
                return;
            }
            Some(key) => self.keys.push(key),
            None => self.is_final = true,
        }
        self.lines.push(reason.clone());
        self.first.get_or_insert(Refusal::new(code, reason));
    }

    /// The end: what passes, or the refusal, which the operator may be offered.
    fn end(
        mut self,
        gate: &Gate,
        served: &Served,
        inspector: &Inspector,
        refs: Vec<String>,
        advice: &str,
    ) -> Result<Vec<String>, Denied> {
        let Some(mut refusal) = self.first else {
            // Nothing is left out without a reason; this is for who changes the code above.
            return if self.is_final {
                Err(Denied::all("git_gate_failed", "not all was judged"))
            } else {
                Ok(self.released)
            };
        };
        // A path or a name may itself hold a secret. What is not shown cannot be approved.
        if let Some(hidden) = hide(inspector, &refusal.reason) {
            refusal.reason = hidden;
        }
        for line in &mut self.lines {
            if let Some(hidden) = hide(inspector, line) {
                *line = hidden;
                self.is_final = true;
            }
        }
        let is_offered = !self.is_final && self.keys.len() <= approvals::MOST;
        let mut lines: Vec<String> = self.lines.iter().take(NAMED).cloned().collect();
        let left_out = self.lines.len() - lines.len();
        if left_out > 0 {
            lines.push(format!("… and {left_out} more"));
        }
        lines.push(advice.to_owned());
        if is_offered {
            let id = gate.approvals.offer(&served.name, refs, self.lines, self.keys);
            lines.push(if gate.asks {
                let call = json!({ "repository": served.name, "operation": id, "reason": "…" });
                format!("Or ask the operator to release it: call the tool git_request of the MCP server supervise with {call}")
            } else {
                format!("Or the operator can release this push: bottler git approve {} {id}", gate.bottle)
            });
        }
        Err(Denied { refs: BTreeMap::new(), all: Some(refusal), lines })
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
    compare: bool,
) -> Result<bool, String> {
    let Problem::Secret(finding) = &issue.problem else { return Ok(false) };
    let warns = !inspector.refuses(finding);
    let old = trace::is_old(&quarantine.git, inspector, published, issue);
    let old = compare && !warns && old.await.map_err(|error| error.to_string())?;
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
