//! The holder: the background process that owns one bottle, from the first object to the last undo.

mod cancel;
mod claim;
mod launch;
mod nested;
mod spawn;
mod wire;

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::net::UnixStream;

pub use cancel::Cancel;
pub use launch::{Outcome, carry_out, unwind_all};
pub use nested::in_memory;
pub use spawn::{ROLE, spawn};
pub use wire::{FromHolder, Launch, Receiver, Report, Times, ToHolder, Wire, split};

use crate::audit;
use crate::engine::Engine;
use crate::engine::docker::DockerEngine;
use crate::primitive::{Bottle, Event, Events, Setting, workspace};
use crate::session::{Class, Failure, Session, StateDir, gc};
use claim::Claim;
use nested::{Home, Nested};

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
    let dropped = Arc::new(AtomicU64::new(0));
    let (queue, sender, counter) = (to.clone(), times.clone(), dropped.clone());
    let evidence = Evidence::default();
    let written = evidence.clone();
    let events = Events::new(move |event| {
        let at = started.elapsed();
        note(&sender, &event, at);
        if let Event::Audit(event) = &event {
            written.event(event);
        }
        if matches!(event, Event::Audit(_)) && queue.is_full() {
            counter.fetch_add(1, Ordering::Relaxed);
            return;
        }
        queue.send(&FromHolder::Event { at: millis(at), event: Box::new(event) });
    });
    let cancel = Cancel::with_signals();
    let mut report = hold(*launch, events, &evidence, &mut from, &cancel).await;
    if cancel.is_final() {
        // The reaper, which sees our end, does the rest.
        return Ok(());
    }
    report.evidence = evidence.close();
    report.times = *crate::sync::lock(&times);
    report.audit_dropped = dropped.load(Ordering::Relaxed);
    report.times.gone = Some(millis(started.elapsed()));
    to.send(&FromHolder::Finished(Box::new(report)));
    to.close().await;
    Ok(())
}

/// The audit file of this launch.
#[derive(Clone, Default)]
struct Evidence(Arc<Mutex<Option<audit::Writer>>>);

impl Evidence {
    fn begin(&self, launch: &Launch) -> Result<(), Failure> {
        let writer = audit::Writer::begin(&launch.state, &launch.plan.bottle)
            .map_err(|error| Failure::new(Class::Internal, format!("begin the audit file: {error}")))?;
        *crate::sync::lock(&self.0) = Some(writer);
        Ok(())
    }

    fn event(&self, event: &crate::sidecar::Event) {
        // A full disk stops no teardown; that the file ends early is seen by its head.
        let _ = crate::sync::lock(&self.0).as_mut().map(|writer| writer.event(event));
    }

    fn close(&self) -> Option<audit::Closed> {
        crate::sync::lock(&self.0).take()?.close().ok()
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn note(times: &Mutex<Times>, event: &Event, at: Duration) {
    let mut times = crate::sync::lock(times);
    match event {
        Event::SidecarsUp => times.sidecars_up = Some(millis(at)),
        Event::Released => times.released = Some(millis(at)),
        Event::Ended { .. } => times.ended = Some(millis(at)),
        _ => {}
    }
}

async fn hold(
    launch: Launch,
    events: Events,
    evidence: &Evidence,
    from: &mut Receiver<ToHolder>,
    cancel: &Cancel,
) -> Report {
    let mut report = Report { bottle: launch.plan.bottle.clone(), ..Report::default() };
    let taken = StateDir::at(&launch.state)
        .map_err(|error| Failure::new(Class::Internal, format!("open the state directory: {error}")))
        .and_then(|state| {
            let claim = Claim::take(&state, &launch.endpoint, &launch.plan.bottle, &launch.plan.agent.name)?;
            // A launch without its evidence is none.
            evidence.begin(&launch)?;
            Ok((state, claim))
        });
    let (state, claim) = match taken {
        Ok(taken) => taken,
        Err(failure) => {
            report.failure = Some(failure);
            return report;
        }
    };
    match open(&launch, &state, &claim, cancel).await {
        Ok(session) => {
            let outcome = live(&launch, &state, session, events, from, cancel).await;
            (report.exit_code, report.failure, report.undo) = (outcome.exit_code, outcome.failure, outcome.undo);
            if let (Some(before), Some(after)) = (&launch.workspace, &outcome.workspace) {
                report.patch = Some(workspace::patch(before, after));
            }
        }
        Err(failure) => report.failure = Some(failure),
    }
    if cancel.is_final() {
        claim.abandon();
        return report;
    }
    if let Err(failure) = claim.give_back(&report.undo) {
        report.failure.get_or_insert(failure);
    }
    report
}

/// Opens the engine, first collecting what died before.
async fn open(launch: &Launch, state: &StateDir, claim: &Claim, cancel: &Cancel) -> Result<Session, Failure> {
    let engine: Arc<dyn Engine> = Arc::new(DockerEngine::connect(&launch.endpoint)?);
    tokio::select! {
        info = engine.info() => drop(info?),
        () = cancel.reached(1) => return Err(Failure::new(Class::Cancelled, "cancelled")),
    }
    let id = &launch.plan.bottle;
    if claim.dir.reused {
        // A dead bottle of this very name: its objects would be taken for this one's.
        gc::unwind_dead(&engine, id, &state.owner).await;
    }
    let bottles = state.bottles().unwrap_or_default();
    if bottles.iter().any(|other| other != id && !state.is_alive(other)) {
        // What cannot be collected now is left to `gc`, which says why; it does not stop this launch.
        let _ = gc::collect(&engine, &launch.endpoint, state, false).await;
    }
    claim.session(state, engine, id)
}

/// Carries the launch out while hearing the client.
async fn live(
    launch: &Launch,
    state: &StateDir,
    session: Session,
    events: Events,
    from: &mut Receiver<ToHolder>,
    cancel: &Cancel,
) -> Outcome {
    let nested = Nested {
        engine: session.engine.clone(),
        home: Home::State(state.clone(), launch.endpoint.clone()),
        program: launch.program.clone(),
    };
    let setting = Setting {
        local: launch.endpoint.starts_with("unix://"),
        directory: Some(launch.directory.clone()),
        workspace: launch.workspace.clone().map(Arc::new),
        launcher: Some(Arc::new(Arc::new(nested))),
        depth: 0,
        bounded: !launch.program.project.is_empty(),
        rehearsal: false,
        proxy_credentials: launch.proxy_credentials.clone(),
        building: Arc::default(),
    };
    let bottle = Bottle::new(session, launch.plan.clone(), events, setting);
    tokio::select! {
        outcome = carry_out(&bottle, &launch.program, cancel) => outcome,
        never = listen(from, &bottle, cancel) => match never {},
    }
}

/// Hears the client, for ever: when it is gone, that counts as a first signal.
async fn listen(from: &mut Receiver<ToHolder>, bottle: &Bottle, cancel: &Cancel) -> Infallible {
    loop {
        match from.next().await {
            Ok(Some(ToHolder::Attached)) => bottle.attached(),
            Ok(Some(ToHolder::Answer { id, answer })) => bottle.answer(id, answer),
            Ok(Some(ToHolder::Cancel)) => cancel.raise(),
            Ok(Some(ToHolder::Launch(_))) => {}
            Ok(None) | Err(_) => {
                cancel.at_least(1);
                return std::future::pending().await;
            }
        }
    }
}
