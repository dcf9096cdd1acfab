//! Pauses the agent because of egress: from the moment when egress dies or does not respond, until it responds *and*
//! a proof passes. That proof is made from a container beside the agent, which is still paused.

use std::sync::Arc;

use super::prove;
use crate::primitive::agent::Agent;
use crate::primitive::bottle::Bottle;
use crate::primitive::channel::health::Health;
use crate::primitive::event::Event;
use crate::session::Failure;

/// The state of a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::primitive) enum PauseState {
    /// It is paused.
    Paused,
    /// It should be paused, but pausing failed.
    Unpaused,
}

/// The next action of the watch.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::primitive) enum PauseAction {
    /// None.
    Never,
    /// Pause the agent, if it runs, for this reason.
    Pause(String),
    /// Prove the bottle from beside, and resume the agent if the proof passes.
    Prove,
    /// Prove the bottle as usual, while the agent runs.
    Look,
}

/// The next action, from the state of the pause and the health of egress.
pub(in crate::primitive) fn step(held: Option<PauseState>, egress: &Health) -> PauseAction {
    match (held, egress.why()) {
        // Even if someone has resumed the agent meanwhile.
        (_, Some(why)) => PauseAction::Pause(why.to_owned()),
        (Some(PauseState::Paused), None) => PauseAction::Prove,
        (Some(PauseState::Unpaused), None) => PauseAction::Look,
        (None, None) => PauseAction::Never,
    }
}

/// Pauses the agent if it runs, and reports it.
pub(in crate::primitive) async fn pause(
    bottle: &Arc<Bottle>,
    agent: &Agent,
    held: Option<PauseState>,
    why: &str,
) -> Option<PauseState> {
    let name = &agent.egress.name;
    let engine = &bottle.session.engine;
    let id = agent.container().await.ok()?;
    let paused = match engine.container_inspect(&id).await {
        // It has ended, or is paused already. If somebody else paused it, only they resume it.
        Ok(state) if state.status != "running" => return held,
        Ok(_) => engine.container_pause(&id, true).await,
        Err(error) => Err(error),
    };
    let hint = format!("hint: `bottler stop {}` ends it", bottle.session.id);
    if let Err(error) = paused {
        if held.is_none() {
            let text = format!("the agent COULD NOT BE PAUSED: {error}; bottler tries again");
            bottle.audit(name, "alarm", "agent_not_paused", format!("{name} {why}; {text}"));
            bottle.events.tell(Event::Alarm(format!("error: {}: {text}\n{hint}", bottle.session.id)));
        }
        return Some(PauseState::Unpaused);
    }
    let why = format!("{name} {why}");
    bottle.audit(name, "alarm", "agent_paused", why.clone());
    bottle.condition(|condition| condition.paused = Some(why.clone()));
    bottle.events.tell(Event::Alarm(format!(
        "error: {}: the agent is PAUSED: {why}; it continues when {name} answers and a proof passes\n{hint}",
        bottle.session.id
    )));
    bottle.events.tell(Event::Paused(Some(why)));
    Some(PauseState::Paused)
}

/// Proves the bottle while the agent is paused; returns the failed attempts.
///
/// # Errors
/// The proof cannot be made.
pub(in crate::primitive) async fn prove(bottle: &Arc<Bottle>, agent: &Agent) -> Result<Vec<String>, Failure> {
    prove::beside(bottle, agent).await
}

/// Resumes the agent after a passed proof, and reports it. Returns whether that succeeded.
pub(in crate::primitive) async fn resume(bottle: &Arc<Bottle>, agent: &Agent) -> bool {
    let Ok(id) = agent.container().await else { return false };
    // Recorded first, so that it precedes the agent's next decisions in the audit log.
    let name = &agent.egress.name;
    bottle.audit(name, "note", "agent_resumed", format!("{name} answers, and the proof passed"));
    if let Err(error) = bottle.session.engine.container_pause(&id, false).await {
        bottle.audit(name, "alarm", "agent_not_resumed", error.to_string());
        return false;
    }
    bottle.condition(|condition| condition.paused = None);
    bottle.events.tell(Event::Alarm(format!(
        "note: {}: the agent continues: {name} answers, and the proof passed",
        bottle.session.id
    )));
    bottle.events.tell(Event::Paused(None));
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_paused_while_egress_is_not_there_and_goes_on_by_a_proof_alone() {
        let silent = || Health::Silent("does not answer".into());
        let pause = || PauseAction::Pause("does not answer".into());
        for held in [None, Some(PauseState::Unpaused), Some(PauseState::Paused)] {
            assert_eq!(step(held, &silent()), pause(), "{held:?}");
            assert_eq!(step(held, &Health::Died("died".into())), PauseAction::Pause("died".into()), "{held:?}");
        }
        assert_eq!(step(None, &Health::Up), PauseAction::Never);
        assert_eq!(step(Some(PauseState::Paused), &Health::Up), PauseAction::Prove);
        assert_eq!(step(Some(PauseState::Unpaused), &Health::Up), PauseAction::Look);
    }
}
