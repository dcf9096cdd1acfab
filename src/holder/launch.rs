//! A launch from its first object to the last undo, whatever happens in between.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Cancel;
use crate::lua::{Script, Vm};
use crate::primitive::{Bottle, Event, release};
use crate::session::{Class, Defer, Failure, UndoRow, unwind};

/// How long effects under way may take to end when the bottle is cancelled.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the session must look empty when a call may still be under way.
const QUIET: Duration = Duration::from_millis(500);

/// How a launch ended.
#[derive(Debug)]
pub struct Outcome {
    /// The agent's exit code, where its command ran.
    pub exit_code: Option<i64>,
    /// Why it failed, where it did.
    pub failure: Option<Failure>,
    /// What was undone, the latest first.
    pub undo: Vec<UndoRow>,
}

/// Runs a recipe, releases the agent, waits for its end, and unwinds: in every case.
pub async fn carry_out(bottle: &Arc<Bottle>, script: &Script, cancel: &Cancel) -> Outcome {
    let vm = Vm::new(bottle);
    let ended = match &vm {
        Err(failure) => Err(failure.clone()),
        Ok(vm) => tokio::select! {
            ended = launch(bottle, script, vm) => ended,
            () = cancel.reached(1) => Err(Failure::new(Class::Cancelled, "cancelled")),
        },
    };
    let (exit_code, failure) = match ended {
        Ok(code) => (code, None),
        Err(failure) => (None, Some(failure)),
    };
    let defers = vm.as_ref().map(Vm::take_defers).unwrap_or_default();
    let undo = tokio::select! {
        rows = undo(bottle, PATIENCE, defers) => rows,
        () = cancel.reached(2) => tokio::select! {
            rows = undo(bottle, Duration::ZERO, BTreeMap::new()) => rows,
            () = cancel.reached(3) => Vec::new(),
        },
    };
    bottle.session.record_undo(&undo);
    Outcome { exit_code, failure, undo }
}

async fn launch(bottle: &Arc<Bottle>, script: &Script, vm: &Vm) -> Result<Option<i64>, Failure> {
    let Some(agent) = vm.run(script, &bottle.plan).await? else {
        bottle.session.effects.settle().await?;
        return Ok(None);
    };
    release(bottle, &agent).await?;
    let code = agent.exit_code().await?;
    bottle.events.tell(Event::Ended { code });
    Ok(Some(code))
}

async fn undo(bottle: &Bottle, patience: Duration, defers: BTreeMap<u64, Defer>) -> Vec<UndoRow> {
    let session = &bottle.session;
    let settled = session.effects.stop(patience).await;
    let quiet = if settled { Duration::ZERO } else { QUIET };
    unwind(&session.engine, &session.id, &session.owner, quiet, defers).await
}
