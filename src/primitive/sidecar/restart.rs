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
use super::health::Health;
use super::liveness;
use super::start::{READY, Sidecar, config};
use crate::primitive::{Bottle, Event};
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
    let living = |sidecar: &&Arc<Sidecar>| !sidecar.life.is_closed();
    let all: Vec<Arc<Sidecar>> = lock(&bottle.sidecars).iter().filter(living).cloned().collect();
    let sidecar = all.iter().find(|sidecar| sidecar.name == name).ok_or_else(|| bad("there is none of this name"))?;
    let begun =
        sidecar.begun.as_ref().ok_or_else(|| bad("it is an ordinary image, which may have lost what it held"))?;
    let line = lock(&bottle.lines).get(name).cloned().ok_or_else(|| bad("it has not come up yet"))?;
    let _one = line.restarting.lock().await;
    if !matches!(*lock(&line.told), Health::Died(_)) {
        return Err(bad("it has not died").hint("`bottler ps` shows what has"));
    }
    let again = Resume { last_line: line.read.load(Ordering::Acquire) };
    let come = come_up(bottle, name, &line.id, Some(again), config(bottle, begun, true), READY).await;
    let (_, read, talk) =
        come.map_err(|failure| failure.hint("it can be tried again; or end the bottle: `bottler stop`"))?;
    line.reopen(talk.input, read).await;
    hear(bottle, name, talk.lines, &line);
    // It has forgotten who was there; and an egress does not know that this one is there again.
    let others = all.iter().filter_map(|other| other.begun.as_ref());
    let registrations = others.filter_map(|begun| begun.registration());
    for (egress, registration) in registrations.filter(|(egress, of)| *egress == name || of.name == name) {
        if let Err(failure) = register(bottle, egress, registration).await {
            // Half of it is none: it can be tried again.
            bottle.session.engine.container_stop(&line.id, Duration::from_secs(1)).await?;
            return Err(failure);
        }
    }
    bottle.condition(|condition| drop(condition.sidecars.remove(name)));
    bottle.audit(name, "note", "sidecar_restarted", format!("{name} was started again"));
    bottle.events.tell(Event::Alarm(format!("note: {}: {name} was started again", bottle.session.id)));
    *lock(&line.told) = Health::Up;
    line.health.send_replace(Health::Up);
    tokio::spawn(liveness::look_after(bottle.clone(), name.to_owned(), line.clone()));
    Ok(())
}
