//! A launch from its first object to the last undo, whatever happens in between.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Cancel;
use crate::lua::{Program, Vm};
use crate::primitive::{Bottle, Event, Files, release, workspace};
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
    /// The workspace as the agent left it, where it had one.
    pub workspace: Option<Files>,
}

/// Runs a recipe, releases the agent, waits for its end, and unwinds: in every case.
pub async fn carry_out(bottle: &Arc<Bottle>, program: &Program, cancel: &Cancel) -> Outcome {
    let vm = Vm::new(bottle, program);
    let ended = match &vm {
        Err(failure) => Err(failure.clone()),
        Ok(vm) => tokio::select! {
            ended = launch(bottle, vm) => ended,
            () = cancel.reached(1) => Err(Failure::new(Class::Cancelled, "cancelled")),
        },
    };
    let (exit_code, workspace, failure) = match ended {
        Ok((code, workspace)) => (code, workspace, None),
        Err(failure) => (None, None, Some(failure)),
    };
    if let (Ok(vm), Some(failure)) = (&vm, &failure) {
        tokio::select! {
            () = vm.on_failure(failure) => {}
            () = cancel.reached(2) => {}
        }
    }
    tokio::select! {
        () = bottle.flush_audit() => {}
        () = cancel.reached(2) => {}
    }
    let undo = unwind_or_leave(bottle, vm.as_ref().ok(), cancel).await;
    Outcome { exit_code, failure, undo, workspace }
}

/// Undoes everything; a second request does it at once, without the script's functions, a third leaves it.
async fn unwind_or_leave(bottle: &Arc<Bottle>, vm: Option<&Vm>, cancel: &Cancel) -> Vec<UndoRow> {
    let defers = defers(bottle, vm);
    let undo = tokio::select! {
        rows = undo(bottle, PATIENCE, defers) => rows,
        () = cancel.reached(2) => tokio::select! {
            rows = undo(bottle, Duration::ZERO, BTreeMap::new()) => rows,
            () = cancel.reached(3) => Vec::new(),
        },
    };
    bottle.session.record_undo(&undo);
    undo
}

/// Undoes everything that a script made, outside a launch.
pub async fn unwind_all(bottle: &Arc<Bottle>, vm: &Vm) -> Vec<UndoRow> {
    undo(bottle, PATIENCE, defers(bottle, Some(vm))).await
}

/// The steps of the teardown that are no objects, by their places.
fn defers(bottle: &Arc<Bottle>, vm: Option<&Vm>) -> BTreeMap<u64, Defer> {
    let mut defers = vm.map(Vm::take_defers).unwrap_or_default();
    for (seq, name, end) in bottle.take_children() {
        let run = async move {
            end.await;
            Ok(())
        };
        defers.insert(seq, Defer { kind: "bottle", name, run: Box::pin(run) });
    }
    defers
}

async fn launch(bottle: &Arc<Bottle>, vm: &Vm) -> Result<(Option<i64>, Option<Files>), Failure> {
    let Some(agent) = vm.run(&bottle.plan).await? else {
        bottle.session.effects.settle().await?;
        bottle.wait_children().await?;
        return Ok((None, None));
    };
    release(bottle, &agent).await?;
    let code = agent.exit_code().await?;
    bottle.events.tell(Event::Ended { code });
    let left = workspace::collect(bottle, &agent).await?;
    Ok((Some(code), left))
}

async fn undo(bottle: &Bottle, patience: Duration, defers: BTreeMap<u64, Defer>) -> Vec<UndoRow> {
    let session = &bottle.session;
    let settled = session.effects.stop(patience).await;
    let quiet = if settled { Duration::ZERO } else { QUIET };
    unwind(&session.engine, &session.id, &session.owner, quiet, defers).await
}
