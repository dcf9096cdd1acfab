//! The steps that all primitives share: check what a project's hooks may do, announce an object, start the effect that creates it,
//! and undo it.

use std::sync::Arc;

use super::state::Bottle;
use crate::engine::Resources;
use crate::engine::labels::{Identity, Kind};
use crate::policy::AllowSpec;
use crate::primitive::event::{Event, StepState};
use crate::primitive::handle::Lifecycle;
use crate::session::{Class, Condition, Failure, Pending, ScriptLocation};
use crate::sync::lock;

/// How many objects one bottle may create, also counting removed ones.
const MAX_MADE: usize = 5000;

impl Bottle {
    /// With a project's hooks, refuses what the user's plan does not allow.
    pub(in crate::primitive) fn check_allowed(
        &self,
        entry: &AllowSpec,
        bad: impl Fn(String) -> Failure,
    ) -> Result<(), Failure> {
        if self.host.bounded && !self.plan.egress.allow.contains(entry) {
            let host = entry.host();
            let why = format!("allow: {host} is not allowed by this launch, and a project's hooks cannot widen it");
            return Err(bad(why).hint(format!("bottler run --allow {host}")));
        }
        Ok(())
    }

    /// Refuses resources without limits; with a project's hooks, also more than the user's plan gives the agent.
    pub(in crate::primitive) fn check_resources(&self, wanted: &Resources) -> Result<(), String> {
        wanted.check().map_err(|why| format!("resources.{why}"))?;
        if self.host.bounded && !wanted.is_within(&self.plan.agent.resources) {
            return Err("resources are beyond the plan's, and a project's hooks cannot widen them".to_owned());
        }
        Ok(())
    }

    /// Refuses the name of an existing sidecar.
    pub(in crate::primitive) fn check_sidecar_name(&self, name: &str) -> Result<(), Failure> {
        if self.inventory.open_sidecars().iter().any(|other| other.name == name) {
            let message = format!("sidecar_start {name:?}: there is a sidecar of this name already");
            return Err(Failure::new(Class::Input, message));
        }
        Ok(())
    }

    /// The engine's name for an object of this bottle.
    pub(in crate::primitive) fn name(&self, part: &str) -> String {
        format!("{}-{part}", self.session.id)
    }

    /// Announces an object that is about to be created; returns its labels and its life.
    pub(in crate::primitive) fn begin(
        &self,
        kind: Kind,
        part: &str,
        name: &str,
        at: Option<&ScriptLocation>,
    ) -> Result<(Identity, Arc<Lifecycle>), Failure> {
        let identity = self.intend(kind, name, at)?;
        let title = if part.is_empty() { kind.word().to_owned() } else { format!("{} {part}", kind.word()) };
        let life = Arc::new(Lifecycle::new(identity.seq, title, at));
        Ok((identity, life))
    }

    /// Announces an object that is about to be created; returns its labels.
    pub(in crate::primitive) fn intend(
        &self,
        kind: Kind,
        name: &str,
        at: Option<&ScriptLocation>,
    ) -> Result<Identity, Failure> {
        self.intend_at(self.session.next_seq(), kind, name, at)
    }

    /// The same for an object whose place in program order was reserved before.
    pub(in crate::primitive) fn intend_at(
        &self,
        seq: u64,
        kind: Kind,
        name: &str,
        at: Option<&ScriptLocation>,
    ) -> Result<Identity, Failure> {
        if self.session.is_torn_down(u64::MAX) {
            return Err(Failure::new(
                Class::Input,
                format!("make {} {name}: the bottle is being torn down", kind.word()),
            )
            .hint("a defer or on_teardown undoes; it makes nothing new")
            .at(at));
        }
        let part = name.strip_prefix(&self.session.id).unwrap_or(name).trim_start_matches('-');
        if !self.inventory.announce(format!("{} {part}", kind.word()).trim_end().to_owned(), MAX_MADE) {
            let message = format!("make {} {name}: this bottle has made {MAX_MADE} things already", kind.word());
            return Err(Failure::new(Class::Input, message).at(at));
        }
        let identity = self.session.identity_at(seq, kind);
        self.events.tell(Event::Made { seq: identity.seq, kind, name: name.to_owned(), at: at.cloned() });
        Ok(identity)
    }

    /// Starts an effect that is shown as a step. Its failure names the line of the script.
    pub(in crate::primitive) fn effect<T, F>(
        self: &Arc<Self>,
        step: String,
        at: Option<&ScriptLocation>,
        work: F,
    ) -> Pending<T>
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
                // Effects that depend on the failed one fail, too; only the first failure is reported.
                Err(_) if bottle.progress.note_failed() => StepState::Failed,
                Err(_) => StepState::Abandoned,
            };
            bottle.events.step(&step, state);
            outcome
        })
    }

    /// Undoes an object now, in a task of its own. Only the first call has an effect.
    pub(in crate::primitive) fn undo<F>(
        self: &Arc<Self>,
        life: &Lifecycle,
        at: Option<&ScriptLocation>,
        work: F,
    ) -> Pending<()>
    where
        F: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        life.close(at, || self.effect(format!("remove {}", life.title), at, work))
    }

    /// Changes what `ps` and `inspect` show of the bottle.
    pub(in crate::primitive) fn condition(&self, change: impl FnOnce(&mut Condition)) {
        let mut condition = lock(&self.condition);
        change(&mut condition);
        let Some(directory) = &self.host.staging else { return };
        if let Err(error) = condition.write(directory) {
            self.events.tell(Event::Log(format!("warning: `bottler ps` may show what was: {error}")));
        }
    }
}
