//! Decides about a push that has arrived, and carries it out: all of it, or nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::advertised::Listed;
use super::commands::{Command, Request};
use super::conversation::Conversation;
use super::gate::{Gate, Operation, Served};
use super::judge::{Denied, inspect};
use super::outcome::ForwardError;
use super::publish::{Published, publish};
use super::quarantine::Quarantine;
use super::receive::Push;
use super::report::Answer;
use super::terms::Refusal;
use super::{forward, history};
use crate::git_ref::branch;

/// How long a push may take after it has arrived.
const LONGEST: Duration = Duration::from_mins(30);

/// What became of each reference.
type Outcomes = BTreeMap<String, Result<(), String>>;

/// Decides, carries out, and answers.
pub(super) async fn decide(gate: &Arc<Gate>, served: &Arc<Served>, push: Push, answer: &Answer) {
    let names: Vec<String> = push.request.commands.iter().map(|command| command.name.clone()).collect();
    if names.is_empty() {
        return;
    }
    let request = push.request.clone();
    let work = tokio::time::timeout(LONGEST, carry_out(gate, served, push, answer));
    let done = answer.while_waiting(work).await;
    let late = |_| Err(Denied::all("git_gate_failed", format!("it took more than {} minutes", LONGEST.as_secs() / 60)));
    match done.unwrap_or_else(late) {
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
    let unpack = async {
        let Some((quarantine, unpacking)) = push.pack else { return Ok(None) };
        let early = quarantine.finish(unpacking).await.map_err(|error| {
            let refusal = error.refusal();
            Denied::all(refusal.code, refusal.reason)
        })?;
        Ok::<_, Denied>(Some((quarantine, early)))
    };
    let quarantine = unpack.await?;
    let Some(mut opening) = push.opening else {
        return Err(Denied::all("git_gate_failed", "the upstream was not asked"));
    };
    let failed = |why| Denied::all("git_upstream_failed", served.mirror.error(why).to_string());
    let (mut conversation, listed) = opening.done().await.map_err(failed)?;
    compare(&push.request, &listed)?;
    let Some((quarantine, early)) = quarantine else {
        return send(&mut conversation, &listed, &push.request, None, answer).await;
    };
    let published = published(&quarantine, &push.request, &listed, served.terms.force).await?;
    // Not earlier: secrets may have become known while the push arrived and the upstream was asked.
    let Some(inspector) = gate.inspector() else {
        return Err(Denied::all("git_not_ready", "the bottle has not been released yet"));
    };
    let released = inspect(gate, served, &quarantine, (&published, &early), &inspector, &push.request).await?;
    let spent = gate.approvals.spend(&released).map_err(|why| Denied::all("git_not_approved", why))?;
    let pack = Some((&quarantine, &published));
    let outcome = send(&mut conversation, &listed, &push.request, pack, answer).await;
    if !matches!(&outcome, Ok(outcomes) if outcomes.values().any(Result::is_ok)) {
        gate.approvals.give_back(spent);
    }
    outcome
}

/// Refuses what was made against other values than those of the upstream, before it is inspected.
fn compare(request: &Request, listed: &Listed) -> Result<(), Denied> {
    let mut refs = BTreeMap::new();
    for command in &request.commands {
        if listed.value(&command.name) != command.old {
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
    let published = publish(&quarantine.git, &new, &listed.ids()).await;
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
