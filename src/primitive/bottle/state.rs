//! A bottle: what the primitives of one launch share. Each part has its own file, methods and lock.

use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;

use super::addresses::Allocator;
use super::build_base::BuildBase;
use super::channels::Channels;
use super::host::HostContext;
use super::images::ImageCache;
use super::inventory::Inventory;
use super::policies::Policies;
use super::progress::Progress;
use super::questions::Questions;
use super::recording::Recording;
use super::requests::Desk;
use super::secrets::{HeldCredentials, Secrets};
use super::turn::LaunchTurn;
use crate::plan::LaunchPlan;
use crate::primitive::event::Events;
use crate::primitive::handle::{ChildOutcome, ChildRequest};
use crate::session::exit_record::OutputChunk;
use crate::session::queue::at_once;
use crate::session::{Condition, Failure, Pending, Session};
use crate::sync::lock;
use crate::workspace::Seed;

/// A bottle: what the primitives of one launch share.
pub struct Bottle {
    /// Its session.
    pub session: Session,
    /// Its plan.
    pub plan: LaunchPlan,
    /// The receivers of its events.
    pub events: Events,
    pub(in crate::primitive) host: HostContext,
    pub(in crate::primitive) nesting: Nesting,
    pub(in crate::primitive) inventory: Inventory,
    pub(in crate::primitive) channels: Channels,
    pub(in crate::primitive) images: ImageCache,
    pub(in crate::primitive) addresses: Allocator,
    pub(in crate::primitive) secrets: Secrets,
    pub(in crate::primitive) held: HeldCredentials,
    pub(in crate::primitive) policies: Policies,
    pub(in crate::primitive) questions: Questions,
    pub(in crate::primitive) turn: LaunchTurn,
    pub(in crate::primitive) progress: Progress,
    pub(in crate::primitive) recording: Recording,
    pub(in crate::primitive) desk: Arc<Desk>,
    /// What a build begins with, once the agent's container is created.
    pub(in crate::primitive) build_base: OnceLock<BuildBase>,
    /// What is wrong with it now.
    pub(in crate::primitive) condition: Mutex<Condition>,
    /// The initial content of its workspace, once it was read.
    pub(in crate::primitive) seed: OnceLock<Pending<Arc<Seed>>>,
}

/// Launches bottles inside a bottle: the holder.
pub trait Launcher: Send + Sync {
    /// Launches a bottle, waits for its end, and removes everything of it.
    fn launch(
        &self,
        parent: Arc<Bottle>,
        order: ChildRequest,
    ) -> BoxFuture<'static, Result<Arc<ChildOutcome>, Failure>>;
}

/// The bottles around a bottle, and those inside it.
pub struct Nesting {
    pub(in crate::primitive) launcher: Option<Arc<dyn Launcher>>,
    pub(in crate::primitive) outer: Option<Weak<Bottle>>,
    /// How many bottles are around this one.
    pub(in crate::primitive) depth: usize,
    inner: Mutex<Vec<Weak<Bottle>>>,
    /// How many of its own bottles are launched at a time.
    slots: Arc<Semaphore>,
}

impl Nesting {
    /// A bottle in no other one, which launches others where a launcher is given.
    pub fn outermost(launcher: Option<Arc<dyn Launcher>>) -> Self {
        Self { launcher, outer: None, depth: 0, inner: Mutex::default(), slots: Arc::new(Semaphore::new(at_once())) }
    }

    /// A bottle that another one launches.
    pub fn inside(outer: &Arc<Bottle>, launcher: Arc<dyn Launcher>) -> Self {
        let (depth, outer) = (outer.nesting.depth + 1, Some(Arc::downgrade(outer)));
        Self { outer, depth, ..Self::outermost(Some(launcher)) }
    }
}

impl Bottle {
    /// A bottle that has nothing yet.
    pub fn new(session: Session, plan: LaunchPlan, events: Events, host: HostContext, nesting: Nesting) -> Self {
        let addresses = Allocator::new(&session.id, host.local);
        let secrets = Secrets::default();
        for value in host.agent_env.values() {
            secrets.add(value);
        }
        for credential in &host.credentials {
            // Egress puts the value in after the scan; in any other request it is refused.
            secrets.add(&credential.value);
        }
        Self {
            held: HeldCredentials::new(host.credentials.clone()),
            session,
            plan,
            events,
            host,
            nesting,
            inventory: Inventory::default(),
            channels: Channels::default(),
            images: ImageCache::default(),
            addresses,
            secrets,
            policies: Policies::default(),
            questions: Questions::default(),
            turn: LaunchTurn::default(),
            progress: Progress::new(),
            recording: Recording::default(),
            desk: Arc::default(),
            build_base: OnceLock::new(),
            condition: Mutex::default(),
            seed: OnceLock::new(),
        }
    }

    /// The host's side of its launch.
    pub fn host(&self) -> &HostContext {
        &self.host
    }

    /// Whether another bottle launched it.
    pub fn is_inner(&self) -> bool {
        self.nesting.outer.is_some()
    }

    /// Waits for this bottle's turn to be launched. The turn ends at the release, and when the launch waits for something else than
    /// the engine.
    pub async fn wait_turn(&self) {
        let outer = self.nesting.outer.as_ref().and_then(Weak::upgrade);
        let slots = outer.map(|outer| outer.nesting.slots.clone());
        self.turn.wait(slots, self.host.turns.as_deref(), &self.events).await;
    }

    /// The announced objects, in order, as in `network outside`, `agent`.
    pub fn announced(&self) -> Vec<String> {
        self.inventory.announced()
    }

    /// Whether an agent's command has been started.
    pub fn is_released(&self) -> bool {
        self.progress.is_released()
    }

    /// The end of the agent's output, if it has run, and the reason if it is incomplete. Waits this long for the end of the log.
    pub async fn last_output(&self, patience: Duration) -> (Vec<OutputChunk>, Option<String>) {
        self.recording.finish(patience).await
    }

    /// Notes a secret. From the release of the agent on, egress refuses requests that contain it in any form.
    pub fn keep_secret(&self, secret: &str) {
        self.secrets.add(secret);
    }

    /// How many secrets it has noted.
    pub fn secrets(&self) -> usize {
        self.secrets.len()
    }

    /// Notes that the client is attached to the agent's output.
    pub fn attached(&self) {
        self.progress.note_attached();
    }

    /// Notes whether its script is computing. When it waits, the set of sidecars that share a volume with an egress is complete.
    pub fn note_script(&self, computes: bool) {
        self.progress.set_scripted(computes);
        if !computes {
            self.inventory.sidecars().iter().for_each(|sidecar| sidecar.pairs.close());
        }
    }

    /// Notes that a script stops a container itself.
    pub fn note_stopped(&self, container: &str) {
        self.inventory.note_stopped(container);
    }

    /// Notes a bottle that was launched inside this one.
    pub fn note_inner(&self, bottle: &Arc<Self>) {
        let mut inner = lock(&self.nesting.inner);
        inner.retain(|bottle| bottle.strong_count() > 0);
        inner.push(Arc::downgrade(bottle));
    }

    /// The bottles inside this one.
    pub(in crate::primitive) fn inner(&self) -> Vec<Arc<Self>> {
        lock(&self.nesting.inner).iter().filter_map(Weak::upgrade).collect()
    }

    /// This bottle, or one inside it, by its id.
    pub fn find(self: &Arc<Self>, id: &str) -> Option<Arc<Self>> {
        if self.session.id == id {
            return Some(self.clone());
        }
        self.inner().iter().find_map(|bottle| bottle.find(id))
    }
}
