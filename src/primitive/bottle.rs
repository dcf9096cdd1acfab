//! A bottle in the making: what its primitives share.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::agent::recording;
use super::image::build::Built;
use super::network::address::Allocator;
use super::sidecar::line::Line;
use super::sidecar::{bring_up, policy};
use super::{Child, Event, Events, Launcher, Network, Sidecar, Source, StepState};
use crate::engine::Resources;
use crate::plan::LaunchPlan;
use crate::policy::AllowSpec;
use crate::scan::KnownSecret;
use crate::session::queue::{self, at_once};
use crate::session::{Class, Condition, Failure, Pending, Phase, ScriptLocation, Session, Slot};
use crate::sync::lock;
use crate::workspace::Seed;

/// A bottle in the making: what the primitives of one launch share.
pub struct Bottle {
    /// Its session.
    pub session: Session,
    /// Its plan.
    pub plan: LaunchPlan,
    /// Where progress goes.
    pub events: Events,
    pub(super) addresses: Allocator,
    pub(super) sidecars: Mutex<Vec<Arc<Sidecar>>>,
    pub(super) networks: Mutex<Vec<Arc<Network>>>,
    pub(super) images: Mutex<BTreeMap<String, Pending<Arc<Built>>>>,
    pub(super) children: Mutex<Vec<Arc<Child>>>,
    /// What must not leave by egress, but to hosts that it is for.
    pub(super) secrets: Mutex<Vec<KnownSecret>>,
    /// The ways back into built-in sidecars.
    pub(super) lines: Mutex<BTreeMap<String, Arc<Line>>>,
    pub(super) policies: policy::Policies,
    /// Containers that a script has stopped.
    pub(super) stopped: Mutex<BTreeSet<String>>,
    /// What is wrong with it now.
    pub(super) condition: Mutex<Condition>,
    pub(super) questions: Mutex<BTreeMap<u64, oneshot::Sender<Option<String>>>>,
    pub(super) next_question: AtomicU64,
    pub(super) attached: watch::Sender<bool>,
    pub(super) failed: AtomicBool,
    pub(super) released: AtomicBool,
    pub(super) recording: recording::Recording,
    pub(super) setting: Setting,
    /// Held while it is launched.
    turn: Mutex<Option<Held>>,
    /// How many of its own bottles are launched at a time.
    pub(super) room: Arc<Semaphore>,
    pub(super) made: Mutex<Vec<String>>,
    pub(super) seed: OnceLock<Pending<Arc<Seed>>>,
}

/// What surrounds a bottle.
#[derive(Clone)]
pub struct Setting {
    /// Whether the engine runs on this very host, so that the host's routes and addresses concern it.
    pub local: bool,
    /// Where results are saved; nowhere when absent.
    pub directory: Option<PathBuf>,
    /// The bottle's own directory, where it has one.
    pub staging: Option<PathBuf>,
    /// Where the agent's workspace comes from, if it has one of its own.
    pub workspace: Option<Source>,
    /// Variables whose values only the agent is told.
    pub env: BTreeMap<String, String>,
    /// Whether the workspace is read at the agent's end.
    pub collect: bool,
    /// Who launches further bottles.
    pub launcher: Option<Arc<dyn Launcher>>,
    /// How many bottles are around this one.
    pub depth: usize,
    /// Whether a project's hooks take part: then nothing is allowed beyond the plan, which is the user's.
    pub bounded: bool,
    /// Where turns are waited for, with every other bottle of this state directory; nowhere when absent.
    pub turns: Option<PathBuf>,
    /// The bottle that this one was launched in, where it is one of another's.
    pub outer: Option<std::sync::Weak<Bottle>>,
    /// How many of one bottle's own bottles are launched at a time, where this is one of them.
    pub room: Option<Arc<Semaphore>>,
    /// Whether nothing is real: then no image is made of the running executable.
    pub rehearsal: bool,
    /// What an upstream proxy is shown, as `name:password`: no part of the plan, which scripts see.
    pub proxy_credentials: Option<String>,
    /// Variables of commands that scripts run on the host.
    pub host_env: BTreeMap<String, String>,
    /// How long a script may compute between two waits, in processor time.
    pub burst: Duration,
    /// Held while an image is built: bottles that begin together do not build the same one twice.
    pub building: Arc<tokio::sync::Mutex<()>>,
}

impl Setting {
    /// Nothing around it: a remote engine, no workspace, nothing saved, no further bottles.
    pub fn bare() -> Self {
        Self {
            local: false,
            directory: None,
            staging: None,
            workspace: None,
            env: BTreeMap::new(),
            collect: true,
            launcher: None,
            depth: 0,
            bounded: false,
            turns: None,
            outer: None,
            room: None,
            rehearsal: false,
            proxy_credentials: None,
            host_env: BTreeMap::new(),
            burst: MAX_BURST,
            building: Arc::default(),
        }
    }
}

/// A turn to be launched, until it is dropped.
enum Held {
    /// In the line of all bottles.
    InLine(#[expect(dead_code, reason = "held")] Slot),
    /// Among the bottles of one.
    InRoom(#[expect(dead_code, reason = "held")] OwnedSemaphorePermit),
}

/// How long a script may compute between two waits, in processor time.
pub const MAX_BURST: Duration = Duration::from_secs(5);
/// How long the client may take to attach to the agent's output before the command starts without it.
const ATTACH: Duration = Duration::from_secs(10);

impl Bottle {
    /// A bottle that has nothing yet.
    pub fn new(session: Session, plan: LaunchPlan, events: Events, setting: Setting) -> Arc<Self> {
        Arc::new(Self::bare(session, plan, events, setting))
    }

    /// The same, for whoever shares it.
    pub fn bare(session: Session, plan: LaunchPlan, events: Events, setting: Setting) -> Self {
        let addresses = Allocator::new(&session.id, setting.local);
        let bottle = Self {
            session,
            plan,
            events,
            addresses,
            sidecars: Mutex::default(),
            networks: Mutex::default(),
            images: Mutex::default(),
            children: Mutex::default(),
            secrets: Mutex::default(),
            lines: Mutex::default(),
            policies: policy::Policies::default(),
            stopped: Mutex::default(),
            condition: Mutex::default(),
            questions: Mutex::default(),
            next_question: AtomicU64::new(1),
            attached: watch::Sender::new(false),
            failed: AtomicBool::new(false),
            released: AtomicBool::new(false),
            recording: recording::Recording::default(),
            setting,
            turn: Mutex::default(),
            room: Arc::new(Semaphore::new(at_once())),
            made: Mutex::default(),
            seed: OnceLock::new(),
        };
        for (name, value) in &bottle.setting.env {
            let of = bottle.plan.credentials.iter().find(|credential| credential.env == *name);
            bottle.keep_credential(value, of.map_or(&[][..], |credential| &credential.hosts));
        }
        bottle
    }

    /// Waits until it is this bottle's turn to be launched. The turn is given back at the release, and by whatever waits for
    /// something else than the engine.
    pub async fn wait_turn(&self) {
        let held = match (&self.setting.room, &self.setting.turns) {
            (Some(room), _) => room.clone().acquire_owned().await.ok().map(Held::InRoom),
            (None, Some(state)) => {
                let tell = |ahead| self.events.tell(Event::Progress(format!("waits for its turn: {ahead} ahead")));
                // Without turns there is no order, and the engine copes as well as it can.
                queue::acquire(state, Phase::Launch, tell).await.ok().map(Held::InLine)
            }
            (None, None) => None,
        };
        *lock(&self.turn) = held;
    }

    /// Lets the next one be launched.
    pub(super) fn give_turn_back(&self) {
        lock(&self.turn).take();
    }

    /// How many of this bottle's own bottles are launched at a time.
    pub fn room(&self) -> Arc<Semaphore> {
        self.room.clone()
    }

    /// What was made so far, in order: `network outside`, `agent`.
    pub fn made(&self) -> Vec<String> {
        lock(&self.made).clone()
    }

    /// A bottle on an engine in memory, of which nobody hears: to look at scripts.
    pub fn in_memory() -> Arc<Self> {
        let engine = Arc::new(crate::engine::fake::FakeEngine::with_any_image());
        let session = Session::new("check-00000", "nobody", engine);
        Self::new(session, crate::plan::probe("check-00000"), Events::new(drop), Setting::bare())
    }

    /// Has every decision of the sidecars told, before they end.
    pub async fn flush_audit(self: &Arc<Self>) {
        bring_up::flush_audit(self).await;
    }

    /// Whether an agent's command has been started.
    pub fn is_released(&self) -> bool {
        self.released.load(Ordering::Acquire)
    }

    /// The last of what the agent wrote, where it has run; waits so long for the end of its log. Why that is not all, if so.
    pub async fn last_output(
        &self,
        patience: Duration,
    ) -> (Vec<crate::session::exit_record::OutputChunk>, Option<String>) {
        self.recording.finish(patience).await
    }

    /// What surrounds it.
    pub fn setting(&self) -> &Setting {
        &self.setting
    }

    /// Notes a secret: from the release of the agent on, egress lets it out in no form.
    pub fn keep_secret(&self, secret: &str) {
        self.keep_credential(secret, &[]);
    }

    /// How many secrets it has noted.
    pub fn secrets(&self) -> usize {
        lock(&self.secrets).len()
    }

    /// The same for one that is for some hosts: to those it may go.
    pub fn keep_credential(&self, secret: &str, hosts: &[String]) {
        let mut secrets = lock(&self.secrets);
        if secrets.iter().all(|known| known.value != secret) {
            secrets.push(KnownSecret { value: secret.to_owned(), hosts: hosts.to_vec() });
        }
    }

    /// Says that whoever wants the agent's output is attached to it.
    pub fn attached(&self) {
        self.attached.send_replace(true);
    }

    pub(super) async fn wait_attached(&self) {
        let mut attached = self.attached.subscribe();
        // After that long nobody is listening, and the agent's work is worth more than its output.
        let _ = tokio::time::timeout(ATTACH, attached.wait_for(|attached| *attached)).await;
    }

    /// The network that the agent is on, in a bottle that is not sealed.
    pub(super) fn inside(&self) -> Option<Arc<Network>> {
        lock(&self.networks).iter().find(|network| network.internal && !network.life.is_closed()).cloned()
    }

    /// How many ordinary images have been started.
    pub(super) fn services(&self) -> usize {
        lock(&self.sidecars).iter().filter(|sidecar| sidecar.role.is_none()).count()
    }

    /// How many built-in sidecars that serve the agent, but its proxies, have been started.
    pub(super) fn served(&self) -> usize {
        let serves = |sidecar: &&Arc<Sidecar>| sidecar.role.is_some_and(|role| role.port.is_some());
        lock(&self.sidecars).iter().filter(serves).count()
    }

    /// Where a project's hooks take part, only what the user's plan allows may be allowed.
    pub(super) fn check_allowed(&self, entry: &AllowSpec, bad: impl Fn(String) -> Failure) -> Result<(), Failure> {
        if self.setting.bounded && !self.plan.egress.allow.contains(entry) {
            let host = entry.host();
            let why = format!("allow: {host} is not allowed by this launch, and a project's hooks cannot widen it");
            return Err(bad(why).hint(format!("bottler run --allow {host}")));
        }
        Ok(())
    }

    /// Refuses resources that bound nothing; where a project's hooks take part, also more than the user's plan gives the agent.
    pub(super) fn check_resources(&self, wanted: &Resources) -> Result<(), String> {
        wanted.check().map_err(|why| format!("resources.{why}"))?;
        if self.setting.bounded && !wanted.is_within(&self.plan.agent.resources) {
            return Err("resources are beyond the plan's, and a project's hooks cannot widen them".to_owned());
        }
        Ok(())
    }

    pub(super) fn check_sidecar_name(&self, name: &str) -> Result<(), Failure> {
        if lock(&self.sidecars).iter().any(|other| other.name == name && !other.life.is_closed()) {
            let message = format!("sidecar_start {name:?}: there is a sidecar of this name already");
            return Err(Failure::new(Class::Input, message));
        }
        Ok(())
    }

    /// The name on the engine of a thing of this bottle.
    pub(super) fn name(&self, part: &str) -> String {
        format!("{}-{part}", self.session.id)
    }

    /// Starts an effect that is shown as a step, and whose failure names the script line that asked for it.
    pub(super) fn effect<T, F>(self: &Arc<Self>, step: String, at: Option<&ScriptLocation>, work: F) -> Pending<T>
    where
        T: Clone + Send + Sync + 'static,
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        let (bottle, at) = (self.clone(), at.cloned());
        self.session.effects.start(async move {
            bottle.events.step(&step, StepState::Started);
            let outcome = work.await.map_err(|failure| failure.at(at.as_ref()));
            let state = match &outcome {
                Ok(_) => StepState::Done,
                // What waited for the failed one fails with it; only the first is news.
                Err(_) if bottle.failed.swap(true, Ordering::Relaxed) => StepState::Abandoned,
                Err(_) => StepState::Failed,
            };
            bottle.events.step(&step, state);
            outcome
        })
    }
}
