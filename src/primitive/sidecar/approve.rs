//! The operator's approval of a push that the git gate has refused. The gate checks it against what it has refused; the
//! holder audits it.

use std::sync::Arc;

use crate::primitive::bottle::Bottle;
use crate::session::{Class, Failure};
use crate::sidecar::git_gate::Approval;

impl Bottle {
    /// Approves a refused push.
    ///
    /// # Errors
    /// There is no gate, it does not answer, or it has refused no push under this id.
    pub async fn approve_push(self: &Arc<Self>, approval: Approval) -> Result<(), Failure> {
        let what = format!("approve {} of {}", approval.id, self.session.id);
        let bad = |class, why: &str| Failure::new(class, format!("{what}: {why}"));
        let sidecars = self.channels.all();
        let found = sidecars.iter().find_map(|(name, channel)| {
            let update = (channel.role.approve)(approval.clone())?;
            Some((name, channel, update))
        });
        let (name, channel, update) =
            found.ok_or_else(|| bad(Class::Input, "it has no git gate: `git: […]` in its bottle"))?;
        let taken = channel.update(self.session.engine.as_ref(), update).await;
        taken.map_err(|why| {
            bad(Class::Input, &why)
                .hint(format!("`bottler git requests {}` lists what may be approved", self.session.id))
        })?;
        let scope = if approval.once { "for one push" } else { "until the bottle ends" };
        self.audit(name, "allow", "git_push_approved", format!("the operator approved {} {scope}", approval.id));
        Ok(())
    }
}
