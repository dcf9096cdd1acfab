//! The holder: the background process that owns one bottle, from the first object to the last undo.
//!
//! It outlives its clients. It claims the bottle's directory, runs the recipe, sends events to clients, writes the
//! audit file and unwinds. If it dies, the reaper unwinds. Its input comes from this user's clients only, over a
//! socket in a private directory; what an agent can cause reaches it as events, whose number and size are bounded
//! ([`hub`], [`wire`]).

mod ask;
mod cancel;
mod claim;
mod credentials;
mod draft;
mod evidence;
mod hub;
mod last_words;
mod launch;
mod mounted;
mod nested;
mod sources;
mod spawn;
mod store;
mod thread;
mod wire;

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use futures_util::FutureExt;
use tokio::net::UnixStream;

pub use ask::{approve_push, ask_policy, ask_requests, ask_to_build, renew_credentials, restart_sidecar, served_in};
pub use cancel::Cancel;
pub use draft::{Draft, Drafts};
pub use hub::reach;
pub use launch::{LaunchOutcome, carry_out, unwind_all};
pub use mounted::check_mount;
pub use nested::in_memory;
pub use sources::{Sources, Unresolved};
pub use spawn::{ROLE, host_env, spawn};
pub use wire::{Executed, FromHolder, Launch, Receiver, Report, RequestAction, Times, ToHolder, Welcome, Wire, split};

use crate::credential::Credential;
use crate::engine::choice::{connect, connect_unbounded, is_local};
use crate::engine::{Engine, Filter};
use crate::plan::{Keep, WorkspaceMode};
use crate::primitive::workspace::{SEED_FILE, before};
use crate::primitive::{
    Bottle, Event, Events, HomeSource, HostContext, MAX_BURST, Nesting, WorkspaceSource, images_on_engine,
};
use crate::session::exit_record::{self, ExitRecord};
use crate::session::kept_workspace::{home_volume, workspace_volume};
use crate::session::{BottleImages, Class, Condition, Failure, KeptWorkspace, Session, StateDir, crash, gc};
use crate::workspace::{Seed, patch_text};
use cancel::FINAL;
use claim::Claim;
use evidence::{Evidence, millis, note};
use hub::Hub;
use last_words::{LastWords, panicked};
use nested::Nested;
use store::Store;
use thread::{cannot_begin, on_own_thread};

/// Runs the holder. Standard input is the socket to its client.
///
/// # Errors
/// The client's first message is not a launch.
pub async fn run() -> anyhow::Result<()> {
    crash::note_panics(ROLE);
    let stream = UnixStream::from_std(spawn::client_socket()?)?;
    let (mut from, to) = split(stream);
    let Some(ToHolder::Launch(launch)) = from.next().await? else {
        anyhow::bail!("the client's first message is not a launch")
    };
    let started = Instant::now();
    let times = Arc::new(Mutex::new(Times::default()));
    let (evidence, hub) = (Evidence::default(), Hub::default());
    hub.join(to.clone());
    hub.set_terminal(launch.plan.agent.terminal);
    let (sender, written, all) = (times.clone(), evidence.clone(), hub.clone());
    let events = Events::new(move |event| {
        let at = started.elapsed();
        note(&sender, &event, at);
        if let Event::Audit(event) = &event {
            written.event(event);
        }
        all.tell(millis(at), event);
    });
    let words = LastWords { evidence: evidence.clone(), hub: hub.clone(), runtime: tokio::runtime::Handle::current() };
    let last = words.clone();
    crate::lua::on_runaway(move |failure| last.say(failure));
    let cancel = Arc::new(Cancel::with_signals());
    let (seen, all) = (evidence.clone(), hub.clone());
    let looks = crate::task::spawn(async move {
        seen.look(|text| all.tell(millis(started.elapsed()), Event::Alarm(format!("warning: {text}")))).await;
    });
    let (id, state) = (launch.plan.bottle.clone(), launch.state.clone());
    let bottle = Arc::default();
    let (all, made, stop) = (hub.clone(), Arc::clone(&bottle), cancel.clone());
    let hears = crate::task::spawn(async move { all.hear(from, &to, &made, &stop, true).await });
    let held = AssertUnwindSafe(hold(*launch, events, &evidence, &hub, &bottle, &cancel)).catch_unwind();
    let held = tokio::select! {
        held = held => held,
        () = cancel.reached(FINAL) => crash::end_process(Class::Cancelled.exit_code()),
    };
    looks.abort();
    hears.abort();
    let mut report = match held {
        Ok(report) => report,
        Err(panic) => {
            words.say(&panicked(&id, panic.as_ref(), &crash::path(&state, &id)));
            crash::end_process(Class::Internal.exit_code())
        }
    };
    report.evidence = evidence.close();
    report.times = *crate::sync::lock(&times);
    report.audit_dropped = hub.dropped();
    report.times.gone = Some(millis(started.elapsed()));
    crash::close(&state, &id);
    hub.finish(&report).await;
    Ok(())
}

async fn hold(
    launch: Launch,
    events: Events,
    evidence: &Evidence,
    hub: &Hub,
    made: &Arc<OnceLock<Arc<Bottle>>>,
    cancel: &Arc<Cancel>,
) -> Report {
    let mut report = Report { bottle: launch.plan.bottle.clone(), ..Report::default() };
    let taken = StateDir::at(&launch.state)
        .map_err(|error| Failure::new(Class::Internal, format!("open the state directory: {error}")))
        .and_then(|state| {
            mounted::check(&launch, state.path())?;
            let credentials = credentials::held(&launch.plan.credentials, &launch.credentials)?;
            let claim = claim(&state, &launch)?;
            Condition::forget(&claim.dir.path);
            // Do not launch without an audit file.
            evidence.begin(&launch, &state)?;
            Ok((state, claim, credentials))
        });
    let (state, claim, credentials) = match taken {
        Ok(taken) => taken,
        Err(failure) => {
            report.failure = Some(failure);
            return report;
        }
    };
    let (mut kept, mut output) = (launch.resume, Vec::new());
    exit_record::forget(&state, &launch.plan.bottle);
    let places = mounted::look(&launch).await;
    match open(&launch, &state, &claim, cancel, &events).await {
        Ok(session) => {
            let (outcome, bottle) =
                live(&launch, &state, &claim, credentials, session, events, hub, made, cancel).await;
            (report.exit_code, report.failure, report.undo) = (outcome.exit_code, outcome.failure, outcome.undo);
            kept = outcome.kept.is_some();
            if !kept && let Err(error) = BottleImages::remove(bottle.session.engine.as_ref(), &claim.dir.path).await {
                // The directory stays, by which the next collection finds them.
                kept = true;
                let why = format!("remove the images that were built for {}: {error:#}", report.bottle);
                report.failure.get_or_insert(Failure::new(Class::Operation, why));
            }
            (report.kept, output) = (outcome.kept, outcome.output);
            if launch.patch
                && let (Some(seed), Some(left)) = (bottle.seed_now().await, &outcome.workspace)
            {
                let text = before(seed).await.and_then(|before| {
                    let text = patch_text(&before, left);
                    text.map_err(|error| Failure::new(Class::Internal, format!("write the patch: {error}")))
                });
                match text {
                    Ok(text) => report.patch = Some(text),
                    Err(failure) => drop(report.failure.get_or_insert(failure)),
                }
            }
        }
        Err(failure) => report.failure = Some(failure),
    }
    report.executed = mounted::new_since(&launch, places).await;
    // Before the directory disappears: whoever waits for that reads the exit record next.
    if let Err(error) = remember(&state, &launch, &report, output) {
        let message = format!("record how {} ended: {error}", report.bottle);
        report.failure.get_or_insert(Failure::new(Class::Internal, message));
    }
    if let Err(failure) = claim.give_back(&report.undo, kept) {
        report.failure.get_or_insert(failure);
    }
    report
}

/// Writes the bottle's exit record.
fn remember(
    state: &StateDir,
    launch: &Launch,
    report: &Report,
    output: Vec<exit_record::OutputChunk>,
) -> std::io::Result<()> {
    let id = launch.plan.bottle.clone();
    let ended = ExitRecord {
        launched: state.record(&id).map_or_else(exit_record::now, |record| record.launched),
        id,
        agent: launch.plan.agent.name.clone(),
        exit_code: report.exit_code,
        failure: report.failure.as_ref().map(|failure| failure.message.clone()),
        failure_code: report.failure.as_ref().map(|failure| failure.class.exit_code()),
        ended: exit_record::now(),
    };
    exit_record::write(state, &ended, output)
}

/// Whether the workspace may be kept. One that was kept before stays kept, whatever the plan says now.
fn may_keep(launch: &Launch) -> bool {
    launch.resume || launch.plan.keep != Keep::Never
}

/// The source of the agent's home, if that is kept with the workspace.
fn home(launch: &Launch) -> Option<HomeSource> {
    (launch.plan.copies_workspace() && may_keep(launch)).then_some(match (launch.resume, launch.fresh_home) {
        (false, _) => HomeSource::New,
        (true, false) => HomeSource::Kept,
        (true, true) => HomeSource::Fresh,
    })
}

/// Claims the bottle's directory. Refuses to launch over a kept bottle.
fn claim(state: &StateDir, launch: &Launch) -> Result<Claim, Failure> {
    let (plan, id) = (&launch.plan, &launch.plan.bottle);
    if !launch.resume && !state.is_alive(id) && KeptWorkspace::of_dead(state, id).is_some() {
        return Err(Failure::new(Class::Name, format!("launch {id}: a bottle of this name is kept"))
            .hint(format!("bottler resume {id}, or bottler rm {id}")));
    }
    let copied = plan.copies_workspace();
    if launch.resume && !copied {
        let why = "its plan no longer has a copy of a folder, and the kept work would be lost";
        return Err(Failure::new(Class::Input, format!("resume {id}: {why}"))
            .hint(format!("workspace: {{mode: copy}}, or bottler pull {id} and bottler rm {id}")));
    }
    let mut record = Claim::record(id, &launch.endpoint, &plan.agent.name);
    record.keeps = (copied && may_keep(launch)).then(|| workspace_volume(id));
    record.keeps_home = home(launch).map(|_| home_volume(id));
    record.invocation.clone_from(&launch.invocation);
    let claim = Claim::take(state, &record)?;
    claim.write_plan(plan)?;
    Ok(claim)
}

/// Connects to the engine, and first collects dead bottles.
async fn open(
    launch: &Launch,
    state: &StateDir,
    claim: &Claim,
    cancel: &Cancel,
    events: &Events,
) -> Result<Session, Failure> {
    let connect = if launch.plan.best_effort_bounds { connect_unbounded } else { connect };
    let engine: Arc<dyn Engine> = connect(&launch.endpoint)?;
    let owned = Filter::Owner(state.owner.clone());
    let objects = tokio::select! {
        (info, objects) = async { tokio::join!(engine.info(), engine.list(&owned)) } => {
            info?;
            objects.unwrap_or_default()
        }
        () = cancel.reached(1) => return Err(cancelled()),
    };
    let id = &launch.plan.bottle;
    if claim.dir.reused {
        // If a dead bottle had this name, its objects would be taken for this one's.
        let kept = launch.resume.then(|| KeptWorkspace::of_dead(state, id)).flatten();
        let volumes = kept.map(|kept| kept.volumes()).unwrap_or_default();
        gc::unwind_dead(&engine, id, &state.owner, &volumes).await;
        if launch.fresh_image {
            let removed = BottleImages::remove(engine.as_ref(), &claim.dir.path).await;
            removed.map_err(|error| Failure::new(Class::Operation, format!("remove the image of {id}: {error:#}")))?;
        }
    }
    let bottles = state.bottles().unwrap_or_default();
    // Objects without a directory, too: the engine may have completed a call after their bottle was removed.
    let dead = |other: &String| other != id && !state.is_alive(other);
    if bottles.iter().any(dead) || objects.iter().any(|object| dead(&object.identity.session)) {
        // A failed collection does not stop this launch; `gc` reports why it fails.
        let collected = tokio::select! {
            collected = gc::collect(&engine, &launch.endpoint, state, false) => collected,
            // The next launch collects the rest: a removal can be interrupted and repeated.
            () = cancel.reached(1) => return Err(cancelled()),
        };
        let troubles = match collected {
            Ok(collection) => collection.troubles,
            Err(error) => vec![format!("{error:#}")],
        };
        for trouble in troubles {
            events.tell(Event::Log(format!("left over: {trouble}")));
        }
    }
    Ok(Session::new(id, &state.owner, engine))
}

/// Carries out the launch, and accepts clients meanwhile.
#[expect(clippy::too_many_arguments, reason = "a launch has as many sides")]
async fn live(
    launch: &Launch,
    state: &StateDir,
    claim: &Claim,
    credentials: Vec<Credential>,
    session: Session,
    events: Events,
    hub: &Hub,
    made: &Arc<OnceLock<Arc<Bottle>>>,
    cancel: &Arc<Cancel>,
) -> (LaunchOutcome, Arc<Bottle>) {
    let store = Store::State(state.clone(), launch.endpoint.clone());
    let sources = Arc::new(Sources::new(launch.host_env.clone()));
    let nested = Nested::new(session.engine.clone(), store, &launch.program, &launch.drafts, sources.clone());
    let directory = claim.dir.path.clone();
    // Without a socket nobody can attach, but the launch goes on.
    let listener = hub::listen(&directory).ok();
    let host = HostContext {
        local: is_local(&launch.endpoint),
        directory: Some(launch.directory.clone()),
        workspace: source(launch, &directory),
        home: home(launch),
        staging: Some(directory),
        agent_env: launch.env.clone(),
        credentials,
        renew: Some(credentials::renewing(sources)),
        collect: launch.patch || may_keep(launch),
        bounded: !launch.program.project.is_empty(),
        turns: Some(state.path().to_owned()),
        proxy_credentials: launch.proxy_credentials.clone(),
        command_env: launch.host_env.clone(),
        burst: MAX_BURST,
        images: images_on_engine(Some(state.path().to_owned())),
    };
    let nesting = Nesting::outermost(Some(Arc::new(Arc::new(nested))));
    let bottle = Bottle::new(session, launch.plan.clone(), events, host, nesting);
    let bottle = made.get_or_init(|| Arc::new(bottle)).clone();
    let (carried, program, stop) = (bottle.clone(), launch.program.clone(), cancel.clone());
    let carried = on_own_thread(async move { carry_out(&carried, &program, &stop).await });
    let outcome = tokio::select! {
        outcome = carried => outcome.unwrap_or_else(|error| LaunchOutcome::of(cannot_begin(&error))),
        never = hub.serve(listener, made, cancel) => match never {},
    };
    (outcome, bottle)
}

fn cancelled() -> Failure {
    Failure::new(Class::Cancelled, "cancelled")
}

/// The source of the workspace, if the agent gets a copy.
fn source(launch: &Launch, directory: &std::path::Path) -> Option<WorkspaceSource> {
    let plan = launch.plan.workspace.as_ref().filter(|plan| plan.mode == WorkspaceMode::Copy)?;
    if launch.resume {
        return Some(WorkspaceSource::KeptWorkspace(Arc::new(Seed::Archive(directory.join(SEED_FILE)))));
    }
    let root = plan.source.clone()?;
    Some(WorkspaceSource::Folder { root, exclude: plan.exclude.clone(), staging: directory.to_owned() })
}
