//! The primitives, without Lua: each checks what it is asked, records its intent, starts its effect and gives a handle.

mod address;
mod agent;
mod event;
mod exec;
mod image;
mod network;
mod release;
mod self_image;
mod sidecar;
mod stream;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;

pub use agent::{Agent, AgentOptions, run_agent};
pub use event::{Event, Events, StepState};
pub use exec::{ExecOptions, ExecResult, exec};
pub use image::{Image, ImageOptions, build_image};
pub use network::{Network, NetworkOptions, network_create};
pub use release::{ProvisionFile, ProvisionOptions, provision, release};
pub use sidecar::{Role, Sidecar, SidecarOptions, sidecar_start};

use crate::plan::LaunchPlan;
use crate::session::{Class, Failure, Pending, Place, Session};
use crate::sync::lock;
use address::Allocator;

/// A bottle in the making: what the primitives of one launch share.
pub struct Bottle {
    /// Its session.
    pub session: Session,
    /// Its plan.
    pub plan: LaunchPlan,
    /// Where progress goes.
    pub events: Events,
    addresses: Allocator,
    sidecars: Mutex<Vec<Arc<Sidecar>>>,
    networks: Mutex<Vec<Arc<Network>>>,
    self_image: Mutex<Option<Pending<String>>>,
    attached: watch::Sender<bool>,
    failed: AtomicBool,
    local: bool,
}

/// How long the client may take to attach to the agent's output before the command starts without it.
const ATTACH: Duration = Duration::from_secs(10);

impl Bottle {
    /// A bottle that has nothing yet. `local` says that the engine runs on this very host, so that the host's routes
    /// and addresses concern it.
    pub fn new(session: Session, plan: LaunchPlan, events: Events, local: bool) -> Arc<Self> {
        let addresses = Allocator::new(&session.id, local);
        Arc::new(Self {
            session,
            plan,
            events,
            addresses,
            sidecars: Mutex::default(),
            networks: Mutex::default(),
            self_image: Mutex::default(),
            attached: watch::Sender::new(false),
            failed: AtomicBool::new(false),
            local,
        })
    }

    /// Says that whoever wants the agent's output is attached to it.
    pub fn attached(&self) {
        self.attached.send_replace(true);
    }

    async fn wait_attached(&self) {
        let mut attached = self.attached.subscribe();
        // After that long nobody is listening, and the agent's work is worth more than its output.
        let _ = tokio::time::timeout(ATTACH, attached.wait_for(|attached| *attached)).await;
    }

    /// The name on the engine of a thing of this bottle.
    fn name(&self, part: &str) -> String {
        format!("{}-{part}", self.session.id)
    }

    /// Starts an effect that is shown as a step, and whose failure names the script line that asked for it.
    fn effect<T, F>(self: &Arc<Self>, step: String, at: Option<&Place>, work: F) -> Pending<T>
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

/// Refuses a part of a name that an engine or a host file would not take.
fn check_name(what: &str, name: &str) -> Result<(), Failure> {
    if crate::session::valid_name(name) {
        Ok(())
    } else {
        Err(Failure::new(Class::Input, format!("{what}: {name:?} cannot be a name"))
            .hint("lower-case letters, digits and hyphens, a letter first, at most 40"))
    }
}
