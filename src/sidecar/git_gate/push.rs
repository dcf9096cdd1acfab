//! Decides about a push that has arrived, and carries it out: all of it, or nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::commands::{Command, Request, ZERO};
use super::conversation::{Conversation, Service};
use super::forward::{self, ForwardError, Listed};
use super::gate::{Gate, Operation, Served};
use super::inspect::{Inspector, Kind, Problem, is_known};
use super::objects::{self, Issue};
use super::publish::{Published, publish};
use super::quarantine::Quarantine;
use super::receive::Push;
use super::ref_name::branch;
use super::report::Answer;
use super::terms::Refusal;
use super::{approvals, history, trace};

/// How many findings are explained; the others are of the same kind.
const EXPLAINED: usize = 10;
/// How many reasons are listed.
const NAMED: usize = 10;

/// Why a push is not carried out.
struct Denied {
    /// Reasons of single references; the others share the fate of these.
    refs: BTreeMap<String, Refusal>,
    /// The reason of all references, if there is one.
    all: Option<Refusal>,
    /// Further lines for people.
    lines: Vec<String>,
}

impl Denied {
    fn all(code: &'static str, reason: impl Into<String>) -> Self {
        Self { refs: BTreeMap::new(), all: Some(Refusal::new(code, reason)), lines: Vec::new() }
    }

    fn of(name: &str, code: &'static str, reason: impl Into<String>) -> Self {
        let refs = BTreeMap::from([(name.to_owned(), Refusal::new(code, reason))]);
        Self { refs, all: None, lines: Vec::new() }
    }
}

/// What became of each reference.
type Outcomes = BTreeMap<String, Result<(), String>>;

/// Decides, carries out, and answers.
pub(super) async fn decide(gate: &Arc<Gate>, served: &Arc<Served>, push: Push, answer: &Answer) {
    let names: Vec<String> = push.request.commands.iter().map(|command| command.name.clone()).collect();
    if names.is_empty() {
        return;
    }
    let request = push.request.clone();
    let done = answer.while_waiting(carry_out(gate, served, push, answer)).await;
    match done {
        Ok(outcomes) => {
            let outcome = |name: &String| {
                let outcome = outcomes.get(name).cloned();
                outcome.unwrap_or_else(|| Err("the upstream does not say what became of it".to_owned()))
            };
            let outcomes: Vec<_> = names.iter().map(|name| (name.clone(), outcome(name))).collect();
            remember(served, &request, &outcomes);
            for (name, outcome) in &outcomes {
                let (decision, code, reason) = match outcome {
                    Ok(()) => ("allow", "allowed", name.clone()),
                    Err(why) => ("refuse", "git_upstream_refused", format!("{name}: the upstream refuses: {why}")),
                };
                gate.record(served, &Operation { method: "push", decision, code, reason });
            }
            answer.finish(Ok(()), &outcomes).await;
        }
        Err(denied) => {
            let reason = |name: &String| {
                let own = denied.refs.get(name).or(denied.all.as_ref()).map(|refusal| refusal.reason.clone());
                own.unwrap_or_else(|| "another reference of this push is refused".to_owned())
            };
            answer.say("bottler refused this push; nothing of it was sent.").await;
            for line in &denied.lines {
                answer.say(line).await;
            }
            for (name, refusal) in denied.refs.iter().map(|(name, refusal)| (name.as_str(), refusal)) {
                let reason = format!("{name}: {}", refusal.reason);
                gate.record(served, &Operation { method: "push", decision: "refuse", code: refusal.code, reason });
            }
            if let Some(refusal) = &denied.all {
                let reason = format!("{}: {}", names.join(", "), refusal.reason);
                gate.record(served, &Operation { method: "push", decision: "refuse", code: refusal.code, reason });
            }
            let outcomes: Vec<_> = names.iter().map(|name| (name.clone(), Err(reason(name)))).collect();
            answer.finish(Ok(()), &outcomes).await;
        }
    }
}

fn remember(served: &Served, request: &Request, outcomes: &[(String, Result<(), String>)]) {
    let done = |command: &&Command| outcomes.iter().any(|(name, outcome)| *name == command.name && outcome.is_ok());
    let of = |which: fn(&Command) -> bool| {
        let commands = request.commands.iter().filter(done).filter(move |command| which(command));
        commands.map(|command| command.name.as_str()).collect::<Vec<_>>()
    };
    served.change_own(&of(Command::creates), &of(Command::deletes));
}

async fn carry_out(gate: &Arc<Gate>, served: &Arc<Served>, push: Push, answer: &Answer) -> Result<Outcomes, Denied> {
    if !push.refused.is_empty() {
        let mut denied = Denied { refs: BTreeMap::new(), all: None, lines: Vec::new() };
        for (name, refusal) in push.refused {
            match name {
                Some(name) => drop(denied.refs.insert(name, refusal)),
                None => denied.all = Some(refusal),
            }
        }
        return Err(denied);
    }
    let Some(inspector) = gate.inspector() else {
        return Err(Denied::all("git_not_ready", "the bottle has not been released yet"));
    };
    // The upstream is asked while git unpacks.
    let unpack = async {
        let Some((quarantine, unpacking)) = push.pack else { return Ok(None) };
        quarantine.finish(unpacking).await.map_err(|error| {
            let refusal = error.refusal();
            Denied::all(refusal.code, refusal.reason)
        })?;
        Ok::<_, Denied>(Some(quarantine))
    };
    let (quarantine, opened) = tokio::join!(unpack, open(served));
    let quarantine = quarantine?;
    let (mut conversation, listed) = opened.map_err(|why| Denied::all("git_upstream_failed", why))?;
    compare(&push.request, &listed)?;
    let Some(quarantine) = quarantine else {
        return send(&mut conversation, &listed, &push.request, None, answer).await;
    };
    let published = published(&quarantine, &push.request, &listed, served.terms.force).await?;
    let released = inspect(gate, served, &quarantine, &published, &inspector, &push.request).await?;
    let pack = Some((&quarantine, &published));
    let outcomes = send(&mut conversation, &listed, &push.request, pack, answer).await?;
    if outcomes.values().any(Result::is_ok) {
        gate.approvals.spend(&released);
    }
    Ok(outcomes)
}

async fn open(served: &Served) -> Result<(Conversation, Listed), String> {
    let opened = served.target.open(Service::ReceivePack).await;
    let mut conversation = opened.map_err(|error| format!("the upstream cannot be reached: {error:#}"))?;
    let listed = forward::listed(&mut conversation).await.map_err(|error| error.to_string())?;
    Ok((conversation, listed))
}

/// Refuses what was made against other values than those of the upstream, before it is inspected.
fn compare(request: &Request, listed: &Listed) -> Result<(), Denied> {
    let mut refs = BTreeMap::new();
    for command in &request.commands {
        let there = listed.refs.get(&command.name).map_or(ZERO, String::as_str);
        if there != command.old {
            let reason = "fetch first: the upstream has changed since";
            refs.insert(command.name.clone(), Refusal::new("git_stale", reason));
        }
    }
    if refs.is_empty() { Ok(()) } else { Err(Denied { refs, all: None, lines: Vec::new() }) }
}

async fn published(
    quarantine: &Quarantine,
    request: &Request,
    listed: &Listed,
    force: bool,
) -> Result<Published, Denied> {
    let commands = request.commands.iter().filter(|command| !command.deletes());
    let new: Vec<_> = commands.clone().map(|command| (command.new.as_str(), branch(&command.name).is_some())).collect();
    let published = publish(&quarantine.git, &new, &listed.ids).await;
    let published = published.map_err(|error| Denied::all("git_incomplete", error.to_string()))?;
    for command in commands.filter(|command| !force && !command.creates()) {
        let forward = history::contains(&quarantine.git, &command.old, &command.new).await;
        if !matches!(forward, Ok(true)) {
            let reason =
                "non-fast-forward: it does not contain what the upstream has, and force is off for this repository";
            return Err(Denied::of(&command.name, "git_force_refused", reason));
        }
    }
    Ok(published)
}

/// Inspects every object that is published, and every path that a new commit changes. Returns what passes because the
/// operator has approved it.
async fn inspect(
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

async fn send(
    conversation: &mut Conversation,
    listed: &Listed,
    request: &Request,
    pack: Option<(&Quarantine, &Published)>,
    answer: &Answer,
) -> Result<Outcomes, Denied> {
    let pack = pack.map(|(quarantine, published)| (&quarantine.git, published));
    let sent = forward::send(conversation, listed, request, pack, answer).await;
    sent.map_err(|error| match error {
        ForwardError::Refused(_) | ForwardError::Lacks(_) => Denied::all("git_upstream_refused", error.to_string()),
        other => Denied::all("git_upstream_failed", other.to_string()),
    })
}
