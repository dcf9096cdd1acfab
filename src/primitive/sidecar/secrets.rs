//! Secrets and credentials that sidecars receive: at the release, and when a host did not accept the value of a credential. Its
//! source is read once more then, and egress gets an answer in any case, because requests wait for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::policy::Credentials;
use crate::primitive::bottle::Bottle;
use crate::session::{Class, Failure};
use crate::sidecar::egress::ROLE;

/// Sends the bottle's secrets and credentials to the sidecars that need them, and waits until these use them.
pub(in crate::primitive) async fn tell_secrets(bottle: &Arc<Bottle>) -> Result<(), Failure> {
    let (secrets, credentials) = (bottle.secrets.all(), bottle.credentials());
    for (name, channel) in bottle.channels.all() {
        let are_sent = !secrets.is_empty() || channel.role.waits_for_secrets;
        let secrets = if are_sent { (channel.role.secrets)(secrets.clone()) } else { None };
        let credentials = if credentials.is_empty() { None } else { (channel.role.credentials)(credentials.clone()) };
        for (what, update) in [("secrets", secrets), ("credentials", credentials)] {
            let Some(update) = update else { continue };
            let taken = channel.update(bottle.session.engine.as_ref(), update).await;
            taken.map_err(|why| Failure::new(Class::Operation, format!("tell sidecar {name} the {what}: {why}")))?;
        }
    }
    Ok(())
}

/// Renews a credential. `sidecar` is who reported it.
pub(super) async fn renew(bottle: &Arc<Bottle>, sidecar: &str, name: &str) {
    let told = |decision, code, why: String| bottle.audit(sidecar, decision, code, why);
    let id = &bottle.session.id;
    match read(bottle, name).await {
        Ok(value) if bottle.held.renew(name, &value) => {
            bottle.secrets.add(&value);
            told("allow", "credential_renewed", format!("the credential {name} has a new value"));
        }
        Ok(_) => told(
            "warn",
            "credential_rejected",
            format!(
                "a host did not accept the credential {name}, and its source has no other value; if it has one later, \
                 `bottler credentials renew {id} {name}` reads it"
            ),
        ),
        Err(why) => told(
            "warn",
            "credential_rejected",
            format!(
                "a host did not accept the credential {name}, and no other value was read: {why}; `bottler credentials \
                 renew {id} {name}` reads it, and may ask you"
            ),
        ),
    }
    if let Err(failure) = tell_secrets(bottle).await {
        told("alarm", "credential_rejected", failure.message);
    }
}

impl Bottle {
    /// Gives credentials the values that a user's command has read, by name; returns the names of those that were others
    /// before. Requests in progress keep the previous ones.
    ///
    /// # Errors
    /// There is no such credential, egress could not use a value, or does not take it.
    pub async fn renew_credentials(
        self: &Arc<Self>,
        values: &BTreeMap<String, String>,
    ) -> Result<Vec<String>, Failure> {
        let failed = |why: String| Failure::new(Class::Input, format!("{}: renew credentials: {why}", self.session.id));
        let mut held = self.held.all();
        for (name, value) in values {
            let Some(one) = held.iter_mut().find(|held| held.name == *name) else {
                return Err(failed(format!("it has no credential {name:?}")));
            };
            one.value.clone_from(value);
        }
        Credentials::new(held).map_err(|error| failed(error.to_string()))?;
        let mut changed = Vec::new();
        for (name, value) in values {
            if self.held.renew(name, value) {
                self.secrets.add(value);
                changed.push(name.clone());
            }
        }
        tell_secrets(self).await?;
        for name in &changed {
            let why = format!("the credential {name} has a new value, by a command of the user");
            self.audit(ROLE, "note", "credential_renewed", why);
        }
        Ok(changed)
    }
}

async fn read(bottle: &Arc<Bottle>, name: &str) -> Result<String, String> {
    let plan = bottle.plan.credentials.iter().find(|plan| plan.name == name).cloned();
    let (Some(plan), Some(renew)) = (plan, bottle.host.renew.clone()) else {
        return Err("it has no source here".to_owned());
    };
    let read = crate::task::blocking(move || renew(&plan)).await;
    read.unwrap_or_else(|error| Err(error.to_string()))
}
