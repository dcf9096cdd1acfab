//! The holder: the background process that owns one bottle, from the first object to the last undo.

mod cancel;
mod spawn;
mod wire;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::net::UnixStream;

pub use spawn::{ROLE, spawn};
pub use wire::{FromHolder, Launch, Receiver, Report, Times, ToHolder, Wire, split};

use crate::engine::Engine;
use crate::engine::docker::DockerEngine;
use crate::lua::Vm;
use crate::primitive::{Bottle, Event, Events, release};
use crate::session::{
    Class, Defer, Failure, Outcome, Record, Session, SessionDir, StateDir, UndoRow, gc, reaper, unwind,
};
use cancel::Cancel;

/// How long effects under way may take to end when the bottle is cancelled.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the session must look empty when a call may still be under way.
const QUIET: Duration = Duration::from_millis(500);

/// The holder's whole life: standard input is the socket to its client.
///
/// # Errors
/// The client says nothing that can be understood.
pub async fn run() -> anyhow::Result<()> {
    let stream = UnixStream::from_std(spawn::client_socket()?)?;
    let (mut from, to) = split(stream);
    let Some(ToHolder::Launch(launch)) = from.next().await? else {
        anyhow::bail!("the client did not say what to launch")
    };
    let started = Instant::now();
    let times = Arc::new(Mutex::new(Times::default()));
    let (queue, sender) = (to.clone(), times.clone());
    let events = Events::new(move |event| {
        let at = started.elapsed();
        note(&sender, &event, at);
        queue.send(&FromHolder::Event { at: millis(at), event });
    });
    let cancel = Cancel::default();
    let mut report = hold(*launch, events, &mut from, &cancel).await;
    if cancel.is_final() {
        // The reaper, which sees our end, does the rest.
        return Ok(());
    }
    report.times = *times.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    report.times.gone = Some(millis(started.elapsed()));
    to.send(&FromHolder::Finished(Box::new(report)));
    to.close().await;
    Ok(())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn note(times: &Mutex<Times>, event: &Event, at: Duration) {
    let mut times = times.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    match event {
        Event::SidecarsUp => times.sidecars_up = Some(millis(at)),
        Event::Released => times.released = Some(millis(at)),
        Event::Ended { .. } => times.ended = Some(millis(at)),
        _ => {}
    }
}

async fn hold(launch: Launch, events: Events, from: &mut Receiver<ToHolder>, cancel: &Cancel) -> Report {
    let mut report = Report { bottle: launch.plan.bottle.clone(), ..Report::default() };
    let (state, dir) = match claim(&launch) {
        Ok(claimed) => claimed,
        Err(failure) => {
            report.failure = Some(failure);
            return report;
        }
    };
    let switch = match reaper::start(&state, &dir, &launch.plan.bottle, &launch.endpoint) {
        Ok(switch) => switch,
        Err(error) => {
            report.failure = Some(Failure::new(Class::Internal, format!("start the reaper: {error}")));
            let _ = dir.remove();
            return report;
        }
    };
    match open(&launch, &state, &dir, cancel).await {
        Ok((engine, session)) => live(&launch, session, &engine, events, from, cancel, &mut report).await,
        Err(failure) => report.failure = Some(failure),
    }
    if cancel.is_final() {
        // Leaves the switch armed.
        std::mem::forget(switch);
        return report;
    }
    let left = report.undo.iter().any(|row| matches!(row.outcome, Outcome::Failed(_)) && row.kind != "defer");
    if !left && let Err(error) = dir.remove() {
        report
            .failure
            .get_or_insert_with(|| Failure::new(Class::Internal, format!("remove {}: {error}", dir.path.display())));
    }
    switch.disarm();
    report
}

/// Takes the bottle's directory, first collecting what died before.
fn claim(launch: &Launch) -> Result<(StateDir, SessionDir), Failure> {
    let internal = |error: std::io::Error| Failure::new(Class::Internal, format!("open the state directory: {error}"));
    let state = StateDir::at(&launch.state).map_err(internal)?;
    let id = &launch.plan.bottle;
    let dir = state.claim(id).map_err(internal)?.ok_or_else(|| {
        Failure::new(Class::Name, format!("launch {id}: a bottle of this name is running"))
            .hint("choose another --name, or see `bottler ps`")
    })?;
    let launched = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    let record =
        Record { id: id.clone(), endpoint: launch.endpoint.clone(), agent: launch.plan.agent.name.clone(), launched };
    dir.write_record(&record).map_err(internal)?;
    Ok((state, dir))
}

async fn open(
    launch: &Launch,
    state: &StateDir,
    dir: &SessionDir,
    cancel: &Cancel,
) -> Result<(Arc<dyn Engine>, Session), Failure> {
    let engine: Arc<dyn Engine> = Arc::new(DockerEngine::connect(&launch.endpoint)?);
    tokio::select! {
        info = engine.info() => drop(info?),
        () = cancel.reached(1) => return Err(Failure::new(Class::Cancelled, "cancelled")),
    }
    let id = &launch.plan.bottle;
    let bottles = state.bottles().unwrap_or_default();
    if bottles.iter().any(|other| other != id && !state.is_alive(other)) {
        // What cannot be collected now is left to `gc`, which says why; it does not stop this launch.
        let _ = gc::collect(&engine, &launch.endpoint, state, false).await;
    }
    let session = Session::new(id, &state.owner, engine.clone(), &dir.path).map_err(|error| {
        Failure::new(Class::Internal, format!("create the journal in {}: {error}", dir.path.display()))
    })?;
    Ok((engine, session))
}

/// Launches, waits for the agent's end, and unwinds: in every case.
async fn live(
    launch: &Launch,
    session: Session,
    engine: &Arc<dyn Engine>,
    events: Events,
    from: &mut Receiver<ToHolder>,
    cancel: &Cancel,
    report: &mut Report,
) {
    let (id, owner) = (session.id.clone(), session.owner.clone());
    let bottle = Bottle::new(session, launch.plan.clone(), events.clone(), launch.endpoint.starts_with("unix://"));
    let body = async {
        let vm = Vm::new(&bottle);
        let outcome = match &vm {
            Err(failure) => Err(failure.clone()),
            Ok(vm) => tokio::select! {
                outcome = launched(launch, &bottle, vm, &events) => outcome,
                () = cancel.reached(1) => Err(Failure::new(Class::Cancelled, "cancelled")),
            },
        };
        match outcome {
            Ok(code) => report.exit_code = code,
            Err(failure) => report.failure = Some(failure),
        }
        let defers = vm.as_ref().map(Vm::take_defers).unwrap_or_default();
        report.undo = tokio::select! {
            rows = undo(&bottle, engine, &id, &owner, PATIENCE, defers) => rows,
            () = cancel.reached(2) => tokio::select! {
                rows = undo(&bottle, engine, &id, &owner, Duration::ZERO, BTreeMap::new()) => rows,
                () = cancel.reached(3) => Vec::new(),
            },
        };
        bottle.session.record_undo(&report.undo);
    };
    tokio::select! {
        () = body => {}
        () = listen(from, &bottle, cancel) => {}
    }
}

async fn launched(launch: &Launch, bottle: &Arc<Bottle>, vm: &Vm, events: &Events) -> Result<Option<i64>, Failure> {
    let Some(agent) = vm.run(&launch.script, &launch.plan).await? else {
        bottle.session.effects.settle().await?;
        return Ok(None);
    };
    release(bottle, &agent).await?;
    let code = agent.exit_code().await?;
    events.tell(Event::Ended { code });
    Ok(Some(code))
}

async fn undo(
    bottle: &Bottle,
    engine: &Arc<dyn Engine>,
    id: &str,
    owner: &str,
    patience: Duration,
    defers: BTreeMap<u64, Defer>,
) -> Vec<UndoRow> {
    let settled = bottle.session.effects.stop(patience).await;
    let quiet = if settled { Duration::ZERO } else { QUIET };
    unwind(engine, id, owner, quiet, defers).await
}

/// Hears the client, for ever: when it is gone, that counts as a first signal.
async fn listen(from: &mut Receiver<ToHolder>, bottle: &Bottle, cancel: &Cancel) {
    loop {
        match from.next().await {
            Ok(Some(ToHolder::Attached)) => bottle.attached(),
            Ok(Some(ToHolder::Cancel)) => cancel.raise(),
            Ok(Some(ToHolder::Launch(_))) => {}
            Ok(None) | Err(_) => {
                cancel.at_least(1);
                return std::future::pending().await;
            }
        }
    }
}
