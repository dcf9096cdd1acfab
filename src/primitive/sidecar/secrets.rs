//! Secrets and credentials that sidecars receive: at the release, and when a host did not accept the value of a credential. Its
//! source is read once more then, and egress gets an answer in any case, because requests wait for it.

use std::sync::Arc;

use crate::primitive::bottle::Bottle;
use crate::session::{Class, Failure};

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
    match read(bottle, name).await {
        Ok(value) if bottle.held.renew(name, &value) => {
            bottle.secrets.add(&value);
            told("allow", "credential_renewed", format!("the credential {name} has a new value"));
        }
        Ok(_) => told(
            "warn",
            "credential_rejected",
            format!(
                "a host did not accept the credential {name}, and its source has no other value; `bottler credentials check` reads it"
            ),
        ),
        Err(why) => {
            told(
                "warn",
                "credential_rejected",
                format!("a host did not accept the credential {name}, and no other value was read: {why}"),
            );
        }
    }
    if let Err(failure) = tell_secrets(bottle).await {
        told("alarm", "credential_rejected", failure.message);
    }
}

async fn read(bottle: &Arc<Bottle>, name: &str) -> Result<String, String> {
    let plan = bottle.plan.credentials.iter().find(|plan| plan.name == name).cloned();
    let (Some(plan), Some(renew)) = (plan, bottle.host.renew.clone()) else {
        return Err("it has no source here".to_owned());
    };
    let read = tokio::task::spawn_blocking(move || renew(&plan)).await;
    read.unwrap_or_else(|error| Err(error.to_string()))
}
