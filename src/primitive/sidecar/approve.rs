//! Pushes that the git gate has refused: those that may be released, and the operator's approval. The gate checks it against what it
//! has refused; the holder audits it, and answers the agent's request for it.

use std::sync::Arc;

use crate::primitive::bottle::Bottle;
use crate::primitive::channel::control::ControlChannel;
use crate::primitive::supervise;
use crate::session::{Class, Failure};
use crate::sidecar::git_gate::{Approval, Ask, Offer};
use crate::sidecar::{Action, CommandOutcome};

impl Bottle {
    /// Approves a refused push. A request of the agent for it is answered, too.
    ///
    /// # Errors
    /// There is no gate, it does not answer, or it has refused no push under this id.
    pub async fn approve_push(self: &Arc<Self>, approval: Approval) -> Result<(), Failure> {
        self.release_push(&approval).await?;
        supervise::push_released(self, &approval).await;
        Ok(())
    }

    /// Has the gate let a refused push pass.
    pub(in crate::primitive) async fn release_push(self: &Arc<Self>, approval: &Approval) -> Result<(), Failure> {
        let what = format!("approve {} of {}", approval.id, self.session.id);
        let bad = |class, why: &str| Failure::new(class, format!("{what}: {why}"));
        let (name, channel) = self.gate().map_err(|why| bad(Class::Input, why))?;
        let update = (channel.role.approve)(approval.clone()).ok_or_else(|| bad(Class::Internal, "no update"))?;
        let taken = channel.update(self.session.engine.as_ref(), update).await;
        taken.map_err(|why| {
            bad(Class::Input, &why)
                .hint(format!("`bottler git requests {}` lists what may be approved", self.session.id))
        })?;
        let scope = if approval.once { "for one push" } else { "until the bottle ends" };
        self.audit(&name, "allow", "git_push_approved", format!("the operator approved {} {scope}", approval.id));
        Ok(())
    }

    /// The pushes that the gate has refused and that may be released, the latest last; or why they are not known.
    pub(in crate::primitive) async fn refused_pushes(&self) -> Result<Vec<Offer>, String> {
        let (_, channel) = self.gate()?;
        let ask = serde_json::to_value(Ask::Offers).map_err(|error| error.to_string())?;
        match channel.command(self.session.engine.as_ref(), Action::Ask(ask)).await {
            Some(CommandOutcome::Answer(offers)) => serde_json::from_value(offers).map_err(|error| error.to_string()),
            Some(CommandOutcome::Refused(why)) => Err(format!("the git gate: {why}")),
            Some(CommandOutcome::Done) | None => Err("the git gate does not answer".to_owned()),
        }
    }

    fn gate(&self) -> Result<(String, Arc<ControlChannel>), &'static str> {
        let found = self.channels.all().into_iter().find(|(_, channel)| channel.role.takes_approvals);
        found.ok_or("it has no git gate: `git: […]` in its bottle")
    }
}
