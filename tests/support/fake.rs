//! Launches on the fake engine, in this process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use bottler::engine::fake::FakeEngine;
use bottler::engine::labels::{Identity, Kind};
use bottler::engine::{ContainerSpec, Engine, Resources};
use bottler::holder::{Cancel, Drafts, LaunchOutcome, carry_out, in_memory};
use bottler::lua::{Program, Script, built_in_recipe};
use bottler::plan::{AgentTemplate, LaunchPlan, resolve};
use bottler::policy::EgressSpec;
use bottler::primitive::{
    Bottle, Event, Events, HostContext, MAX_BURST, Nesting, images_on_engine, placeholder_images,
};
use bottler::session::{Session, unwind};

pub const ID: &str = "probe-t3st5";
pub const OWNER: &str = "owner";

pub fn plan() -> LaunchPlan {
    resolve(
        ID,
        false,
        "probe",
        &AgentTemplate::built_in("probe").unwrap(),
        Some("a prompt".into()),
        EgressSpec::default(),
    )
}

pub fn recipe(source: &str) -> Script {
    Script { name: "test.lua".into(), source: source.into() }
}

pub fn built_in(name: &str) -> Script {
    built_in_recipe(name).unwrap()
}

/// A launch in progress.
pub struct Launch {
    pub engine: FakeEngine,
    pub cancel: Cancel,
    pub logs: Arc<Mutex<Vec<String>>>,
    /// How long a script may compute.
    pub burst: Duration,
    folder: tempfile::TempDir,
}

impl Launch {
    pub fn new() -> Self {
        Self::on(FakeEngine::default())
    }

    pub fn on(engine: FakeEngine) -> Self {
        Self {
            engine,
            cancel: Cancel::default(),
            logs: Arc::default(),
            burst: MAX_BURST,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub async fn run(&self, script: &Script, plan: LaunchPlan) -> LaunchOutcome {
        self.run_program(&Program::of(script.clone()), plan).await
    }

    /// A bottle on this launch's engine. No client waits for the agent's output. In a rehearsal no image is built.
    pub fn bottle(&self, program: &Program, plan: LaunchPlan, rehearsal: bool) -> Arc<Bottle> {
        let engine: Arc<dyn Engine> = Arc::new(self.engine.clone());
        let images = if rehearsal { placeholder_images() } else { images_on_engine(None) };
        let bounded = !program.project.is_empty();
        let host = HostContext { bounded, burst: self.burst, ..HostContext::bare(images) };
        let nesting = Nesting::outermost(Some(in_memory(engine.clone(), OWNER, program, &Drafts::default())));
        let session = Session::new(ID, OWNER, engine);
        let logs = self.logs.clone();
        let events = Events::new(move |event| {
            if let Event::Log(text) = event {
                logs.lock().unwrap().push(text);
            }
        });
        let bottle = Arc::new(Bottle::new(session, plan, events, host, nesting));
        bottle.attached();
        bottle
    }

    /// What the holder does at the end of its launch.
    pub async fn unwind(&self, bottle: &Bottle) {
        bottle.session.effects.stop(Duration::from_secs(5)).await;
        unwind(&bottle.session.engine, ID, OWNER, Duration::ZERO, BTreeMap::new(), &[]).await;
    }

    pub async fn run_program(&self, program: &Program, plan: LaunchPlan) -> LaunchOutcome {
        carry_out(&self.bottle(program, plan, false), program, &self.cancel).await
    }
}

/// Polls a future a number of times, and lets other tasks run in between; returns whether it completed.
pub async fn poll_times<F: Future + Unpin>(mut future: F, times: usize) -> bool {
    for _ in 0..times {
        let polled = std::future::poll_fn(|context| Poll::Ready(std::pin::Pin::new(&mut future).poll(context))).await;
        if polled.is_ready() {
            return true;
        }
        tokio::task::yield_now().await;
    }
    false
}

/// Runs a recipe on a fresh fake engine.
pub async fn run(source: &str) -> (Launch, LaunchOutcome) {
    let launch = Launch::new();
    let outcome = launch.run(&recipe(source), plan()).await;
    (launch, outcome)
}

/// A container of another owner.
pub fn stranger(name: &str) -> ContainerSpec {
    let resources = Resources { cpus: 1.0, memory: 1, pids: 1 };
    let identity = Identity {
        session: "theirs".into(),
        owner: "them".into(),
        seq: 1,
        kind: Kind::Agent,
        role: None,
        uses: [].into(),
    };
    ContainerSpec::closed(name.to_owned(), "theirs".into(), Vec::new(), String::new(), resources, identity)
}
