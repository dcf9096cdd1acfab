//! Recipes rehearsed on an engine in memory: what they would make, where, and how it would be undone.

mod tests_of;
mod transcript;

use std::sync::{Arc, Mutex};

pub use tests_of::{Case, run_tests};
pub use transcript::{Transcript, Undone};

use crate::engine::Engine;
use crate::engine::fake::{FakeEngine, Fault};
use crate::holder::{Cancel, Drafts, LaunchOutcome, carry_out, in_memory};
use crate::lua::Program;
use crate::plan::{AgentTemplate, Keep, LaunchPlan, ProvisionPlan, resolve};
use crate::policy::EgressSpec;
use crate::primitive::{Bottle, Event, Events, Question, Setting, Source};
use crate::session::{Failure, Session, UndoRow};
use crate::workspace::{Seed, WorkspaceFile};

/// The id of a rehearsed bottle.
pub const ID: &str = "rehearsal-00000";
const OWNER: &str = "nobody";
/// Events that a transcript is made of: a script may say something for ever.
const MAX_EVENTS: usize = 100_000;

/// A rehearsal that has ended.
pub struct Rehearsal {
    /// What it would make and undo.
    pub transcript: Transcript,
    /// Why it failed, where it did.
    pub failure: Option<Failure>,
    /// What was undone.
    pub undo: Vec<UndoRow>,
    /// What is left on the engine: nothing, or there is a bug in bottler.
    pub left: Vec<String>,
    /// Whether what was to fail was reached.
    pub struck: bool,
}

/// The plan of a rehearsal: that of a launch with a prompt.
pub fn plan(agent: &str, template: &AgentTemplate) -> LaunchPlan {
    let egress = EgressSpec { allow: template.hosts.clone(), ..EgressSpec::default() };
    resolve(ID, false, agent, template, Some("a prompt".into()), egress)
}

/// The same of an agent that is defined: nothing of the host takes part.
pub fn plan_of(plan: LaunchPlan) -> LaunchPlan {
    let prompt = Some("a prompt".to_owned());
    let provision = ProvisionPlan { prompt: prompt.clone(), ..plan.provision };
    LaunchPlan { bottle: ID.to_owned(), prompt, provision, workspace: None, keep: Keep::Never, ..plan }
}

/// Rehearses a recipe, which may launch `drafts`. `fail_at` is a thing or an operation, and which call of it fails, from 1.
pub async fn rehearse(
    program: &Program,
    plan: LaunchPlan,
    fail_at: Option<(&str, usize)>,
    drafts: &Drafts,
) -> Rehearsal {
    let engine = FakeEngine::with_any_image();
    if let Some((target, nth)) = fail_at {
        engine.strike(target, nth, Fault::FailsBefore);
    }
    let events = Arc::new(Mutex::new(Vec::new()));
    let bottle = bottle(&engine, program, plan, &events, drafts);
    let outcome: LaunchOutcome = carry_out(&bottle, program, &Cancel::default()).await;
    let events = std::mem::take(&mut *crate::sync::lock(&events));
    Rehearsal {
        transcript: Transcript::new(ID, events, &outcome.undo),
        failure: outcome.failure,
        undo: outcome.undo,
        left: engine.left(),
        struck: engine.has_struck(),
    }
}

fn bottle(
    engine: &FakeEngine,
    program: &Program,
    plan: LaunchPlan,
    events: &Arc<Mutex<Vec<Event>>>,
    drafts: &Drafts,
) -> Arc<Bottle> {
    let engine: Arc<dyn Engine> = Arc::new(engine.clone());
    let readme = WorkspaceFile::Regular { content: b"a file\n".to_vec(), executable: false };
    let seed = Arc::new(Seed::Files([("README".to_owned(), readme)].into()));
    let workspace = plan.workspace.as_ref().map(|_| Source::Given(seed));
    let setting = Setting {
        workspace,
        launcher: Some(in_memory(engine.clone(), OWNER, program, drafts)),
        bounded: !program.project.is_empty(),
        rehearsal: true,
        ..Setting::bare()
    };
    let session = Session::new(ID, OWNER, engine);
    let events = events.clone();
    Arc::new_cyclic(|this: &std::sync::Weak<Bottle>| {
        let this = this.clone();
        let events = Events::new(move |event| {
            if let (Event::Ask { id, what, .. }, Some(bottle)) = (&event, this.upgrade()) {
                bottle.answer(*id, Some(if *what == Question::Confirm { "y".into() } else { "an answer".into() }));
            }
            let mut events = crate::sync::lock(&events);
            if events.len() < MAX_EVENTS {
                events.push(event);
            }
        });
        let bottle = Bottle::bare(session, plan, events, setting);
        bottle.attached();
        bottle
    })
}

/// The failure of a test or a rehearsal that left something behind.
fn left_behind(left: &[String]) -> Failure {
    Failure::new(crate::session::Class::Internal, format!("not undone on the engine in memory: {}", left.join(", ")))
}
