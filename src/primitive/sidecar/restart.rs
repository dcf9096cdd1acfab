//! `bottler sidecar restart`: restarts a dead built-in sidecar in its container, with its last configuration and the
//! current policy and secrets.
//!
//! Rules:
//! * Only a sidecar whose death was reported is restarted, and only on request.
//! * An egress starts with the bottle's secrets and policy: at no moment does it allow what it would have refused
//!   before. Its CA is the one that the agent trusts.
//! * A paused agent continues only after a passed proof (see [`crate::primitive::proof::watcher`]), which follows
//!   when this reports egress as up.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::bring_up::{come_up, hear, register};
use super::start::{READY, config};
use super::{host_service, liveness};
use crate::primitive::bottle::Bottle;
use crate::primitive::channel::health::Health;
use crate::primitive::event::Event;
use crate::primitive::supervise::publish;
use crate::session::{Class, Failure};
use crate::sidecar::Resume;
use crate::sync::lock;

impl Bottle {
    /// Restarts a dead sidecar, and waits until it is ready.
    ///
    /// # Errors
    /// There is none of that name, it is running, or it does not become ready.
    pub async fn restart_sidecar(self: &Arc<Self>, name: &str) -> Result<(), Failure> {
        let (context, name) = (self.clone(), name.to_owned());
        let restarted = self.effect(format!("restart {name}"), None, async move { restart(&context, &name).await });
        restarted.get().await
    }
}

async fn restart(bottle: &Arc<Bottle>, name: &str) -> Result<(), Failure> {
    let bad = |why: &str| Failure::new(Class::Input, format!("restart sidecar {name} of {}: {why}", bottle.session.id));
    let all = bottle.inventory.open_sidecars();
    let sidecar =
        all.iter().find(|sidecar| sidecar.name == name).ok_or_else(|| bad("there is no sidecar of this name"))?;
    let inputs =
        sidecar.inputs.as_ref().ok_or_else(|| bad("it is an ordinary image, which may have lost its state"))?;
    let channel = bottle.channels.get(name).ok_or_else(|| bad("it has not started yet"))?;
    let _one = channel.restarting.lock().await;
    if !matches!(*lock(&channel.told), Health::Died(_)) {
        return Err(bad("it has not died").hint("`bottler ps` shows which sidecars have died"));
    }
    let again = Resume { last_line: channel.read.load(Ordering::Acquire) };
    let come = come_up(bottle, name, &channel.id, Some(again), config(bottle, inputs, true), READY).await;
    let (_, read, talk) = come.map_err(|failure| failure.hint("try again, or end the bottle: `bottler stop`"))?;
    channel.reopen(talk.input, read).await;
    hear(bottle, name, talk.lines, &channel);
    host_service::keep_open(bottle, name, &channel);
    // It has lost its registrations, and its own egress may not know it any more.
    let others = all.iter().filter_map(|other| other.inputs.as_ref());
    let registrations = others.filter_map(|inputs| inputs.registration());
    for (egress, registration) in registrations.filter(|(egress, of)| *egress == name || of.name == name) {
        if let Err(failure) = register(bottle, egress, registration).await {
            // A partial restart does not count, so that it can be tried again.
            bottle.session.engine.container_stop(&channel.id, Duration::from_secs(1)).await?;
            return Err(failure);
        }
    }
    if channel.role.shows_policy {
        // It has lost the configuration that it shows. Requests are not lost: they are kept here.
        publish(bottle).await?;
    }
    bottle.condition(|condition| drop(condition.sidecars.remove(name)));
    bottle.audit(name, "note", "sidecar_restarted", format!("{name} was restarted"));
    bottle.events.tell(Event::Alarm(format!("note: {}: {name} was restarted", bottle.session.id)));
    *lock(&channel.told) = Health::Up;
    channel.health.send_replace(Health::Up);
    crate::task::spawn(liveness::look_after(bottle.clone(), name.to_owned(), channel.clone()));
    Ok(())
}
