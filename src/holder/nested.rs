//! Bottles that a recipe launches: each a session of its own, with its own directory and reaper.
//!
//! The parent's denials, secrets and upstream proxy apply inside, too. A project's scripts cannot use a nested bottle
//! to reach more than the launch that they take part in, unless the user's manifest defines an agent that may.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::OnceCell;

use super::ask::WITHIN;
use super::claim::Claim;
use super::credentials::{Outer, held_inside};
use super::draft::{Draft, Drafts};
use super::sources::Sources;
use super::store::Store;
use super::thread::cannot_begin;
use super::{Cancel, LaunchOutcome, carry_out};
use crate::credential::Credential;
use crate::engine::{Engine, EngineDetails, Output};
use crate::layout::agent::{DEFAULT_HOME, WORKSPACE};
use crate::lua::{Program, built_in_recipe};
use crate::plan::{AgentTemplate, ImagePlan, Keep, LaunchPlan, WorkspacePlan, settle};
use crate::policy::{EgressEngine, EgressSpec};
use crate::primitive::workspace::before;
use crate::primitive::{Bottle, ChildOutcome, ChildRequest, Event, Events, HostContext, Launcher, Nesting};
use crate::session::{Class, Failure, Session};
use crate::workspace::{self, Seed, Snapshot, TemporaryFile, patch_text};

/// Maximum size of an agent's captured output, in bytes.
const MAX_OUTPUT: usize = 1 << 20;
/// How long to wait for the agent's last output after its end.
const LAST_OUTPUT: Duration = Duration::from_secs(2);

/// Launches nested bottles.
pub(super) struct Nested {
    engine: Arc<dyn Engine>,
    store: Store,
    program: Program,
    drafts: Drafts,
    /// Reads the credentials that the outer bottle does not have.
    sources: Arc<Sources>,
    /// The engine's host, requested by the first bottle.
    details: OnceCell<EngineDetails>,
}

/// Launches bottles that are not recorded, on an engine that lives in this process.
pub fn in_memory(engine: Arc<dyn Engine>, owner: &str, program: &Program, drafts: &Drafts) -> Arc<dyn Launcher> {
    let sources = Arc::new(Sources::new(BTreeMap::new()));
    Arc::new(Arc::new(Nested::new(engine, Store::Memory(owner.to_owned()), program, drafts, sources)))
}

impl Launcher for Arc<Nested> {
    fn launch(
        &self,
        parent: Arc<Bottle>,
        order: ChildRequest,
    ) -> BoxFuture<'static, Result<Arc<ChildOutcome>, Failure>> {
        let nested = self.clone();
        async move { Box::pin(nested.carry(&parent, order)).await.map(Arc::new) }.boxed()
    }
}

impl Nested {
    pub(super) fn new(
        engine: Arc<dyn Engine>,
        store: Store,
        program: &Program,
        drafts: &Drafts,
        sources: Arc<Sources>,
    ) -> Self {
        let (program, drafts) = (program.clone(), drafts.clone());
        Self { engine, store, program, drafts, sources, details: OnceCell::new() }
    }

    /// What the bottle holds of its credentials; in memory nothing, and no command is run.
    async fn credentials(
        &self,
        parent: &Arc<Bottle>,
        plan: &LaunchPlan,
        draft: &Draft,
    ) -> Result<Vec<Credential>, Failure> {
        if plan.credentials.is_empty() || matches!(self.store, Store::Memory(_)) {
            return Ok(Vec::new());
        }
        let (parent, plans, given) = (parent.clone(), plan.credentials.clone(), draft.credentials.clone());
        let sources = self.sources.clone();
        let read = crate::task::blocking(move || {
            let outer = Outer { plans: &parent.plan.credentials, held: &parent.credentials() };
            held_inside(outer, &plans, &given, &sources)
        });
        read.await.map_err(|error| Failure::new(Class::Internal, format!("read credentials: {error}")))?
    }

    async fn carry(self: &Arc<Self>, parent: &Arc<Bottle>, order: ChildRequest) -> Result<ChildOutcome, Failure> {
        let draft = self.drafts.get(&order.agent)?;
        let reaches = parent.reaches().await;
        if parent.host().bounded {
            let is_the_users = self.drafts.0.contains_key(&order.agent);
            check_bounded(&order, &draft.plan, &reaches, is_the_users, &parent.session.id)?;
        }
        let name = order.options.recipe.clone().unwrap_or_else(|| draft.recipe.clone());
        let recipe = built_in_recipe(&name)
            .ok_or_else(|| Failure::new(Class::Input, format!("bottle: there is no built-in recipe {name:?}")))?;
        let mut plan = plan(&parent.plan, &reaches, &draft.plan, &order);
        let details = self.details.get_or_try_init(|| self.engine.details()).await?;
        settle(&mut plan, details)
            .map_err(|(why, hint)| Failure::new(Class::Input, format!("bottle {:?}: {why}", order.agent)).hint(hint))?;
        if !self.drafts.0.contains_key(&order.agent)
            && let Ok(template) = AgentTemplate::built_in(&order.agent)
        {
            plan.credentials =
                Outer { plans: &parent.plan.credentials, held: &parent.host().credentials }.of_template(&template);
        }
        let credentials = self.credentials(parent, &plan, &draft).await?;
        let claim = self.store.claim(&order)?;
        let session = Session::new(&order.id, self.store.owner(), self.engine.clone());
        if let Some(claim) = &claim {
            write_files(claim, &plan, parent)?;
        }
        let output = Arc::new(AgentOutput::default());
        let host = HostContext {
            staging: claim.as_ref().map(|claim| claim.dir.path.clone()),
            workspace: order.workspace.clone(),
            home: None,
            agent_env: draft.env,
            credentials,
            collect: true,
            ..parent.host().clone()
        };
        let nesting = Nesting::inside(parent, Arc::new(self.clone()));
        let bottle = Arc::new(Bottle::new(session, plan, events(parent, &order.id, &output), host, nesting));
        parent.note_inner(&bottle);
        let _ = output.bottle.set(Arc::downgrade(&bottle));
        let cancel = Arc::new(Cancel::default());
        let program = self.program.with(recipe);
        let (carried, stop) = (bottle.clone(), cancel.clone());
        let carried = async move { carry_out(&carried, &program, &stop).await };
        let carried = async {
            let outcome = self.store.run(carried).await;
            outcome.unwrap_or_else(|error| LaunchOutcome::of(cannot_begin(&error)))
        };
        let outcome = tokio::select! {
            outcome = carried => outcome,
            never = raise(&order, &cancel) => match never {},
        };
        if let Some(claim) = claim {
            claim.give_back(&outcome.undo, outcome.kept.is_some())?;
        }
        if let Some(failure) = outcome.failure {
            return Err(failure);
        }
        let failed = |error: std::io::Error| {
            Failure::new(Class::Internal, format!("read the workspace of {}: {error}", order.id))
        };
        let (mut patch, mut workspace) = (String::new(), None);
        let after = outcome.workspace.map(Arc::new);
        if let (Some(seed), Some(after)) = (bottle.seed_now().await, &after) {
            let before = before(seed.clone()).await?;
            patch = patch_text(&before, after).map_err(failed)?;
            if let Some(staging) = &parent.host().staging
                && seed.archive().is_some()
            {
                match hand_off(seed, before, after, staging, &order.id).await {
                    Ok(seed) => workspace = Some(Arc::new(seed)),
                    // Hand over its files nevertheless.
                    Err(error) => parent
                        .events
                        .tell(Event::Log(format!("{}: its history cannot be handed on: {error}", order.id))),
                }
            }
        }
        if let (None, Some(after)) = (&workspace, &after)
            && bottle.seed_now().await.is_some()
        {
            let (files, not_held) = after.load_files().map_err(failed)?;
            if !not_held.is_empty() {
                let names = not_held.join(", ");
                parent.events.tell(Event::Log(format!(
                    "{}: not given to the recipe, their names are not UTF-8: {names}",
                    order.id
                )));
            }
            workspace = Some(Arc::new(Seed::Files(files)));
        }
        let exit_code = outcome.exit_code.unwrap_or_default();
        let CapturedOutput { output, errors } = output.take().await;
        if exit_code != 0 {
            for line in last_lines(&errors) {
                parent.events.tell(Event::Log(format!("{}: {line}", order.id)));
            }
        }
        Ok(ChildOutcome { exit_code, output, errors, patch, workspace })
    }
}

/// Writes a workspace as its agent left it, with its history, to a file of the bottle that launched it.
async fn hand_off(
    seed: Arc<Seed>,
    before: Arc<Snapshot>,
    after: &Arc<Snapshot>,
    staging: &Path,
    id: &str,
) -> std::io::Result<Seed> {
    let (after, staging, archive) = (after.clone(), staging.to_owned(), staging.join(format!("{id}.tar")));
    let made = crate::task::blocking(move || {
        let from = seed.archive().ok_or_else(|| std::io::Error::other("it is not an archive"))?;
        workspace::hand_off(from, &before, &after, &staging, TemporaryFile::at(archive))
    });
    made.await.map_err(std::io::Error::other)?.map(Seed::Temporary)
}

/// The last lines of an agent's output.
fn last_lines(text: &[u8]) -> Vec<String> {
    const SHOWN: usize = 10;
    let text = String::from_utf8_lossy(text).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(SHOWN)..].iter().map(|line| (*line).to_owned()).collect()
}

/// Refuses a template for which nobody has defined an agent, if it would reach hosts that the launch does not.
fn check_reach(agent: &str, own: &LaunchPlan, parent: &EgressSpec) -> Result<(), Failure> {
    if let Some(repository) = own.egress.git.iter().find(|repository| !parent.git.contains(repository)) {
        let why = format!(
            "bottle {agent:?}: it pushes to {}, which this launch does not, and a project's hooks cannot widen it",
            repository.url
        );
        return Err(Failure::new(Class::Input, why).hint("add the repository to `git` of the bottle that is launched"));
    }
    let Some(entry) = own.egress.allow.iter().find(|entry| !parent.allow.contains(entry)) else { return Ok(()) };
    let host = entry.host();
    let why = format!(
        "bottle {agent:?}: it reaches {host}, which this launch does not, and a project's hooks cannot widen it"
    );
    Err(Failure::new(Class::Input, why).hint(format!("bottler run --allow {host}")))
}

/// Checks that what a project's scripts launch reaches no more than the launch that they take part in.
fn check_bounded(
    order: &ChildRequest,
    own: &LaunchPlan,
    reaches: &EgressSpec,
    is_the_users: bool,
    parent: &str,
) -> Result<(), Failure> {
    if !is_the_users {
        check_reach(&order.agent, own, reaches)?;
    }
    check_allowed(order, reaches, parent)
}

/// Refuses hosts that a project's scripts allow in a nested bottle if this bottle's policy no longer allows them.
fn check_allowed(order: &ChildRequest, reaches: &EgressSpec, parent: &str) -> Result<(), Failure> {
    let Some(entry) = order.options.allow.iter().find(|entry| !reaches.allow.contains(entry)) else { return Ok(()) };
    let host = entry.host();
    let why = format!("bottle {:?}: allow: {host} is no longer allowed by this launch", order.agent);
    Err(Failure::new(Class::Input, why).hint(format!("bottler policy allow {parent} {host}")))
}

/// Writes the files that commands read in the bottle's directory.
fn write_files(claim: &Claim, plan: &LaunchPlan, parent: &Bottle) -> Result<(), Failure> {
    note_outermost(&claim.dir.path, parent);
    claim.write_plan(plan)
}

/// Records which holder serves policy changes for this bottle. Without the file they fail; the launch goes on.
fn note_outermost(directory: &Path, parent: &Bottle) {
    let Some(around) = &parent.host().staging else { return };
    let outermost = std::fs::read_to_string(around.join(WITHIN)).unwrap_or_else(|_| parent.session.id.clone());
    let _ = std::fs::write(directory.join(WITHIN), outermost);
}

async fn raise(order: &ChildRequest, cancel: &Cancel) -> std::convert::Infallible {
    order.stop.cancelled().await;
    cancel.raise();
    std::future::pending().await
}

fn plan(parent: &LaunchPlan, reaches: &EgressSpec, own: &LaunchPlan, order: &ChildRequest) -> LaunchPlan {
    let options = &order.options;
    let allow = own.egress.allow.iter().chain(&reaches.allow).chain(&options.allow).cloned().collect();
    let mut plan = own.clone();
    // Denials, known secrets and the upstream proxy apply inside, too.
    plan.egress = EgressSpec { allow, git: own.egress.git.clone(), ..reaches.clone() };
    if own.egress.engine != EgressEngine::default() {
        plan.egress.engine = own.egress.engine;
        plan.egress.image.clone_from(&own.egress.image);
    }
    plan.egress.deny.extend(own.egress.deny.iter().filter(|entry| !reaches.deny.contains(entry)).cloned());
    plan.bottle.clone_from(&order.id);
    plan.pinned = false;
    plan.limits = own.limits.or(parent.limits);
    // The recipe gives it its workspace and takes it back.
    (plan.workspace, plan.keep) = (None, Keep::Never);
    if let Some(prompt) = &options.prompt {
        plan.prompt = Some(prompt.clone());
        plan.provision.prompt = Some(prompt.clone());
    }
    if let Some(image) = &options.image {
        plan.image = ImagePlan::of(image);
    }
    plan.agent.command = options.command.clone().unwrap_or(plan.agent.command);
    plan.agent.env.extend(options.env.clone());
    plan.agent.terminal = false;
    plan.agent.resources = parent.agent.resources;
    plan.params.clone_from(&parent.params);
    if order.workspace.is_some() {
        plan.workspace = Some(WorkspacePlan::given());
        WORKSPACE.clone_into(&mut plan.agent.workdir);
        identify(parent, &mut plan);
    } else if own.workspace.is_some() {
        DEFAULT_HOME.clone_into(&mut plan.agent.workdir);
    }
    plan
}

/// The parent's git identity is used in the nested bottle, too.
fn identify(parent: &LaunchPlan, plan: &mut LaunchPlan) {
    let settings = format!("{DEFAULT_HOME}/.gitconfig");
    if plan.provision.files.iter().all(|file| file.path != settings) {
        plan.provision.files.extend(parent.provision.files.iter().find(|file| file.path == settings).cloned());
    }
}

/// An agent's captured output.
#[derive(Default)]
struct CapturedOutput {
    output: Vec<u8>,
    errors: Vec<u8>,
}

/// Captures an agent's output.
#[derive(Default)]
struct AgentOutput {
    bottle: OnceLock<Weak<Bottle>>,
    reading: Mutex<Option<tokio::task::JoinHandle<CapturedOutput>>>,
}

impl AgentOutput {
    /// Attaches to the agent's container, and reports it: the command does not start before that.
    fn follow(&self, container: String) {
        let Some(bottle) = self.bottle.get().and_then(Weak::upgrade) else { return };
        let reading = crate::task::spawn(async move {
            let attached = bottle.session.engine.container_attach(&container).await;
            bottle.attached();
            drop(bottle);
            let mut written = CapturedOutput::default();
            let Ok(mut streams) = attached else { return written };
            while let Some(Ok(piece)) = streams.output.next().await {
                let (kept, bytes) = match piece {
                    Output::Stdout(bytes) => (&mut written.output, bytes),
                    Output::Stderr(bytes) => (&mut written.errors, bytes),
                };
                kept.extend_from_slice(&bytes[..bytes.len().min(MAX_OUTPUT - kept.len())]);
            }
            written
        });
        *crate::sync::lock(&self.reading) = Some(reading);
    }

    async fn take(&self) -> CapturedOutput {
        let Some(reading) = crate::sync::lock(&self.reading).take() else { return CapturedOutput::default() };
        tokio::time::timeout(LAST_OUTPUT, reading).await.ok().and_then(Result::ok).unwrap_or_default()
    }
}

/// Forwards a nested bottle's events to its parent, under the bottle's id.
fn events(parent: &Arc<Bottle>, id: &str, output: &Arc<AgentOutput>) -> Events {
    let (parent, id, output) = (parent.clone(), id.to_owned(), output.clone());
    Events::new(move |event| match event {
        Event::AgentCreated { container } => output.follow(container),
        Event::Step { name, state } => parent.events.step(&format!("{id}: {name}"), state),
        Event::Log(text) => parent.events.tell(Event::Log(format!("{id}: {text}"))),
        Event::Progress(text) => parent.events.tell(Event::Progress(format!("{id}: {text}"))),
        // An alarm names the bottle itself.
        Event::Alarm(text) => parent.events.tell(Event::Alarm(text)),
        Event::Ask { id: question, .. } => {
            // Several bottles would mix up their questions; only the recipe asks.
            if let Some(bottle) = output.bottle.get().and_then(Weak::upgrade) {
                bottle.answer(question, None);
            }
        }
        Event::Request { bottle, id, kind, pending } => {
            parent.events.tell(Event::Request { bottle, id, kind, pending });
        }
        Event::Audit(event) => parent.events.tell(Event::Audit(event)),
        Event::NotTight { why, red, unpaused } => {
            parent.events.tell(Event::NotTight { why: format!("{id}: {why}"), red, unpaused });
        }
        Event::Made { .. }
        | Event::Bottle { .. }
        | Event::Hook { .. }
        | Event::SidecarsUp
        | Event::Proof(_)
        | Event::Released
        | Event::Paused(_)
        | Event::Ended { .. } => {}
    })
}
