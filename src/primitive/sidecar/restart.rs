//! `bottler sidecar restart`: a dead built-in sidecar is started again, in its container, with its last configuration and what is
//! enforced and known by now.
//!
//! Rules:
//! * Only what has died, and was told, is started again; nothing is by itself.
//! * An egress begins with the bottle's secrets and policy: at no moment does it let through what it would not have before its end.
//!   Its CA is the one that the agent trusts.
//! * A paused agent is released by a green proof alone (see [`crate::primitive::proof::watcher`]), which this asks for by saying that
//!   egress is up.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::bring_up::{come_up, hear, register};
use super::liveness;
use super::start::{READY, config};
use crate::primitive::bottle::Bottle;
use crate::primitive::channel::health::Health;
use crate::primitive::event::Event;
use crate::session::{Class, Failure};
use crate::sidecar::Resume;
use crate::sync::lock;

impl Bottle {
    /// Starts a dead sidecar again, and waits until it serves.
    ///
    /// # Errors
    /// There is none of that name, it lives, or it does not get ready.
    pub async fn restart_sidecar(self: &Arc<Self>, name: &str) -> Result<(), Failure> {
        let (context, name) = (self.clone(), name.to_owned());
        let restarted = self.effect(format!("restart {name}"), None, async move { restart(&context, &name).await });
        restarted.get().await
    }
}

async fn restart(bottle: &Arc<Bottle>, name: &str) -> Result<(), Failure> {
    let bad = |why: &str| Failure::new(Class::Input, format!("restart sidecar {name} of {}: {why}", bottle.session.id));
    let all = bottle.inventory.open_sidecars();
    let sidecar = all.iter().find(|sidecar| sidecar.name == name).ok_or_else(|| bad("there is none of this name"))?;
    let inputs =
        sidecar.inputs.as_ref().ok_or_else(|| bad("it is an ordinary image, which may have lost what it held"))?;
    let channel = bottle.channels.get(name).ok_or_else(|| bad("it has not come up yet"))?;
    let _one = channel.restarting.lock().await;
    if !matches!(*lock(&channel.told), Health::Died(_)) {
        return Err(bad("it has not died").hint("`bottler ps` shows what has"));
    }
    let again = Resume { last_line: channel.read.load(Ordering::Acquire) };
    let come = come_up(bottle, name, &channel.id, Some(again), config(bottle, inputs, true), READY).await;
    let (_, read, talk) =
        come.map_err(|failure| failure.hint("it can be tried again; or end the bottle: `bottler stop`"))?;
    channel.reopen(talk.input, read).await;
    hear(bottle, name, talk.lines, &channel);
    // It has forgotten who was there; and an egress does not know that this one is there again.
    let others = all.iter().filter_map(|other| other.inputs.as_ref());
    let registrations = others.filter_map(|inputs| inputs.registration());
    for (egress, registration) in registrations.filter(|(egress, of)| *egress == name || of.name == name) {
        if let Err(failure) = register(bottle, egress, registration).await {
            // Half of it is none: it can be tried again.
            bottle.session.engine.container_stop(&channel.id, Duration::from_secs(1)).await?;
            return Err(failure);
        }
    }
    bottle.condition(|condition| drop(condition.sidecars.remove(name)));
    bottle.audit(name, "note", "sidecar_restarted", format!("{name} was started again"));
    bottle.events.tell(Event::Alarm(format!("note: {}: {name} was started again", bottle.session.id)));
    *lock(&channel.told) = Health::Up;
    channel.health.send_replace(Health::Up);
    tokio::spawn(liveness::look_after(bottle.clone(), name.to_owned(), channel.clone()));
    Ok(())
}
