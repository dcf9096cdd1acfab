//! Carries out a launch, from the first object to the last undo, whatever happens in between.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Cancel;
use crate::lua::{Program, Vm};
use crate::plan::Keep;
use crate::primitive::{Bottle, Event, WorkspaceSource, release, watch, workspace};
use crate::session::exit_record::OutputChunk;
use crate::session::kept_workspace::home_volume;
use crate::session::queue::acquire_teardown;
use crate::session::{BottleImages, Class, Defer, Failure, KeptWorkspace, UndoRow, unwind};
use crate::workspace::{Fetched, Snapshot, changes, outstanding};

/// How long running effects may take to end when the bottle is cancelled.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the session must stay empty if an engine call may still be running.
const QUIET: Duration = Duration::from_millis(500);

/// How a launch ended.
#[derive(Debug)]
pub struct LaunchOutcome {
    /// The agent's exit code, if its command ran.
    pub exit_code: Option<i64>,
    /// Why the launch failed, if it did.
    pub failure: Option<Failure>,
    /// What was undone, the latest first.
    pub undo: Vec<UndoRow>,
    /// The workspace as the agent left it, if it had one.
    pub workspace: Option<Snapshot>,
    /// The kept workspace, if any.
    pub kept: Option<KeptWorkspace>,
    /// The end of the agent's output.
    pub output: Vec<OutputChunk>,
}

impl LaunchOutcome {
    /// The outcome of a launch that could not begin.
    pub(super) fn of(failure: Failure) -> Self {
        Self {
            exit_code: None,
            failure: Some(failure),
            undo: Vec::new(),
            workspace: None,
            kept: None,
            output: Vec::new(),
        }
    }
}

/// Runs a recipe, releases the agent, waits for its end, and unwinds in every case.
pub async fn carry_out(bottle: &Arc<Bottle>, program: &Program, cancel: &Cancel) -> LaunchOutcome {
    let vm = Vm::new(bottle, program);
    let ended = match &vm {
        Err(failure) => Err(failure.clone()),
        Ok(vm) => tokio::select! {
            ended = launch(bottle, vm) => ended,
            () = cancel.reached(1) => Err(Failure::new(Class::Cancelled, "cancelled")),
        },
    };
    let (exit_code, workspace, failure) = match ended {
        Ok((code, Ok(workspace))) => (code, workspace, None),
        Ok((code, Err(failure))) => (code, None, Some(failure)),
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
    let kept = keep(bottle, exit_code, workspace.as_ref()).await;
    let output = tokio::select! {
        output = output(bottle, exit_code.is_some()) => output,
        () = cancel.reached(2) => Vec::new(),
    };
    let volumes = kept.as_ref().map(KeptWorkspace::volumes).unwrap_or_default();
    let undo = unwind_or_leave(bottle, vm.as_ref().ok(), cancel, &volumes).await;
    LaunchOutcome { exit_code, failure, undo, workspace, kept, output }
}

/// Decides whether the workspace outlives the bottle. It does if the plan says so and it contains work that nobody
/// has fetched. A cancelled run counts as a failure. A workspace that cannot be read, compared or recorded is kept, and so is
/// that of a bottle for which an image was built: the operator has approved it for the next launch.
/// One that was kept before stays kept: only `pull` or `rm` ends that, no later launch and no later plan.
async fn keep(bottle: &Bottle, exit_code: Option<i64>, left: Option<&Snapshot>) -> Option<KeptWorkspace> {
    let host = bottle.host();
    let directory = host.staging.as_ref()?;
    let unknown = |why: &str| {
        let home = host.home.map(|_| home_volume(&bottle.session.id));
        KeptWorkspace::unknown(&bottle.workspace_volume(), why).with_home(home)
    };
    let resumed = matches!(host.workspace, Some(WorkspaceSource::KeptWorkspace(_)));
    let policy = if resumed { Keep::Always } else { bottle.plan.keep };
    if resumed && !bottle.is_released() {
        // An earlier launch kept it, and this one has not touched it.
        let known = KeptWorkspace::read(directory);
        return Some(known.unwrap_or_else(|| unknown("it could not be resumed")));
    }
    if !bottle.plan.copies_workspace() || policy == Keep::Never || !bottle.is_released() {
        return None;
    }
    // What cannot be read may be one.
    let has_image = BottleImages::read(directory).map_or(true, |images| images.current.is_some());
    let kept = match left {
        None if exit_code.is_some() => unknown("it could not be read"),
        None => unknown("it was interrupted"),
        Some(_) if policy == Keep::OnFailure && exit_code == Some(0) && !has_image => return None,
        Some(left) => {
            let before = match bottle.seed_now().await {
                Some(seed) => workspace::before(seed).await.ok(),
                None => None,
            };
            let why = if exit_code == Some(0) { "its changes were not pulled" } else { "the agent failed" };
            let mut kept = KeptWorkspace { size: Some(left.size), ..unknown(why) };
            // Without a comparison, all of it may be the agent's work.
            if let Some(before) = before {
                let missing = outstanding(&before, left, &Fetched::read(directory));
                match (missing.is_empty(), has_image) {
                    (true, false) => return None,
                    (true, true) => "an image was built for it".clone_into(&mut kept.why),
                    (false, _) => {}
                }
                kept.changed = Some(changes(&before, left).len());
                kept.outstanding = missing.lines();
            }
            kept
        }
    };
    if let Err(error) = kept.write(directory) {
        bottle.events.tell(Event::Log(format!("record the kept workspace in {}: {error}", directory.display())));
    }
    Some(kept)
}

/// The end of the agent's output. If the agent has not ended, it is about to be removed, so there is no waiting for
/// more.
async fn output(bottle: &Bottle, has_ended: bool) -> Vec<OutputChunk> {
    let (pieces, why) = bottle.last_output(if has_ended { PATIENCE } else { Duration::ZERO }).await;
    if let Some(why) = why.filter(|_| has_ended) {
        bottle.events.tell(Event::Log(format!("keep the agent's last output: {why}")));
    }
    pieces
}

/// Undoes everything. A second request to stop skips waiting and the script's functions; a third leaves the rest to
/// the reaper.
async fn unwind_or_leave(bottle: &Arc<Bottle>, vm: Option<&Vm>, cancel: &Cancel, kept: &[String]) -> Vec<UndoRow> {
    let defers = defers(bottle, vm);
    // Who asks twice does not wait in the queue.
    let turn = async {
        match &bottle.host().turns {
            Some(state) if !bottle.is_inner() => acquire_teardown(state).await,
            _ => None,
        }
    };
    let _turn = tokio::select! {
        turn = turn => turn,
        () = cancel.reached(2) => None,
    };
    tokio::select! {
        rows = undo(bottle, PATIENCE, defers, kept) => rows,
        () = cancel.reached(2) => tokio::select! {
            rows = undo(bottle, Duration::ZERO, BTreeMap::new(), kept) => rows,
            () = cancel.reached(3) => Vec::new(),
        },
    }
}

/// Undoes everything that a script created, outside a launch.
pub async fn unwind_all(bottle: &Arc<Bottle>, vm: &Vm) -> Vec<UndoRow> {
    undo(bottle, PATIENCE, defers(bottle, Some(vm)), &[]).await
}

/// The teardown steps that are not engine objects, by their sequence numbers.
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

/// An agent's exit code, and its workspace or why that cannot be read.
type Ended = (Option<i64>, Result<Option<Snapshot>, Failure>);

async fn launch(bottle: &Arc<Bottle>, vm: &Vm) -> Result<Ended, Failure> {
    bottle.wait_turn().await;
    let Some(agent) = vm.run(&bottle.plan).await? else {
        bottle.session.effects.settle().await?;
        bottle.wait_children().await?;
        return Ok((None, Ok(None)));
    };
    release(bottle, &agent).await?;
    let code = tokio::select! {
        code = agent.exit_code() => code?,
        never = watch(bottle, &agent) => match never {},
    };
    bottle.events.tell(Event::Ended { code });
    let left =
        if bottle.host().collect { workspace::collect(bottle, agent.workspace_volume()).await } else { Ok(None) };
    Ok((Some(code), left))
}

async fn undo(bottle: &Bottle, patience: Duration, defers: BTreeMap<u64, Defer>, kept: &[String]) -> Vec<UndoRow> {
    let session = &bottle.session;
    let settled = session.effects.stop(patience).await;
    let quiet = if settled { Duration::ZERO } else { QUIET };
    unwind(&session.engine, &session.id, &session.owner, quiet, defers, kept).await
}
