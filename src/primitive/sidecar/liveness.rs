//! Watches whether sidecars of any role live and respond: waits for the container's end and, for those with a control
//! channel, sends an empty command every few seconds. Changes are reported, audited and shown at once. The
//! consequences depend on the role (see [`crate::primitive::proof::watcher`] for egress). Nothing restarts by itself;
//! [`super::restart`] does it on request.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::watch;

use crate::audit::{self, Details, Subject};
use crate::host;
use crate::primitive::away::outlast;
use crate::primitive::bottle::Bottle;
use crate::primitive::channel::control::ControlChannel;
use crate::primitive::channel::health::{Health, why_not};
use crate::primitive::event::Event;
use crate::sync::lock;

/// How often it is asked, and how long a response may take. Together with [`crate::primitive::channel::health::WHY`]
/// this is less than the ten seconds within which the operator must be informed.
const EVERY: Duration = Duration::from_secs(2);
const DEADLINE: Duration = Duration::from_secs(6);

/// Watches a sidecar with a control channel until it has ended or the bottle is torn down.
pub(in crate::primitive) async fn look_after(bottle: Arc<Bottle>, name: String, channel: Arc<ControlChannel>) {
    let mut ended = channel.health.subscribe();
    let mut addresses = Vec::new();
    loop {
        let seen = tokio::select! {
            biased;
            () = bottle.session.effects.cancelled() => return,
            Ok(health) = ended.wait_for(|health| matches!(health, Health::Died(_))) => health.clone(),
            seen = async {
                tokio::time::sleep(EVERY).await;
                tell_addresses(&bottle, &channel, &mut addresses).await;
                ask(&bottle, &channel).await
            } => seen,
        };
        if !is_there(&bottle, &name, &channel.id) {
            return;
        }
        let before = std::mem::replace(&mut *lock(&channel.told), seen.clone());
        channel.health.send_if_modified(|health| {
            let news = !matches!(health, Health::Died(_)) && *health != seen;
            if news {
                *health = seen.clone();
            }
            news
        });
        tell(&bottle, &name, &before, &seen);
        if matches!(seen, Health::Died(_)) {
            return;
        }
    }
}

/// Tells a sidecar that keeps away from this machine which addresses it has, when they are others: networks of containers come
/// and go, and so do addresses of a network.
async fn tell_addresses(bottle: &Bottle, channel: &ControlChannel, told: &mut Vec<IpAddr>) {
    if !channel.role.is_proxy {
        return;
    }
    let Ok(found) = host::own_addresses() else { return };
    if found != *told
        && let Some(update) = (channel.role.host_addresses)(found.clone())
        && channel.update(bottle.session.engine.as_ref(), update).await.is_ok()
    {
        *told = found;
    }
}

/// Waits for the end of a sidecar without a control channel, and reports it.
pub(in crate::primitive) async fn await_end(bottle: Arc<Bottle>, name: String, id: String) {
    let engine = bottle.session.engine.clone();
    let (again, _) = watch::channel(0);
    let ended = async {
        match engine.container_wait(&id, true).await {
            Ok(code) => Ok(code),
            Err(error) => outlast(engine.as_ref(), &id, error, &again).await,
        }
    };
    tokio::select! {
        biased;
        () = bottle.session.effects.cancelled() => return,
        _ = ended => {}
    }
    if is_there(&bottle, &name, &id) {
        let seen = why_not(engine.as_ref(), &id).await;
        tell(&bottle, &name, &Health::Up, &seen);
    }
}

/// Whether a sidecar should still be running: neither its script nor the teardown has ended it.
fn is_there(bottle: &Bottle, name: &str, id: &str) -> bool {
    let closed = bottle.inventory.sidecars().iter().any(|sidecar| sidecar.name == name && sidecar.life.is_closed());
    let stopped = bottle.inventory.is_stopped(id);
    !closed && !stopped && bottle.session.effects.cancelled().now_or_never().is_none()
}

async fn ask(bottle: &Arc<Bottle>, channel: &ControlChannel) -> Health {
    let asked = tokio::time::timeout(DEADLINE, channel.ping(bottle.session.engine.as_ref()));
    if asked.await.is_ok_and(|answered| answered) {
        return Health::Up;
    }
    why_not(bottle.session.engine.as_ref(), &channel.id).await
}

fn tell(bottle: &Bottle, name: &str, before: &Health, seen: &Health) {
    let Some(code) = seen.news(before) else { return };
    let (decision, words) = match seen.why() {
        Some(why) => ("alarm", why.to_owned()),
        None => ("note", "answers again".to_owned()),
    };
    bottle.condition(|condition| {
        match seen.why() {
            Some(why) => condition.sidecars.insert(name.to_owned(), why.to_owned()),
            None => condition.sidecars.remove(name),
        };
    });
    bottle.audit(name, decision, code, format!("{name} {words}"));
    let lost = match seen {
        Health::Died(_) => format!(
            "\nhint: decisions that it had counted and not reported are lost; `bottler sidecar restart {} {name}` restarts it",
            bottle.session.id
        ),
        _ => String::new(),
    };
    let level = if decision == "alarm" { "error" } else { "note" };
    bottle.events.tell(Event::Alarm(format!("{level}: {}: {name} {words}{lost}", bottle.session.id)));
}

impl Bottle {
    /// The health of a sidecar. Without a control channel it counts as up.
    pub(in crate::primitive) fn health(&self, sidecar: &str) -> watch::Receiver<Health> {
        let channel = self.channels.get(sidecar);
        channel.map_or_else(|| watch::Sender::new(Health::Up).subscribe(), |channel| channel.health.subscribe())
    }

    /// Whether a sidecar with a control channel responds now.
    pub(in crate::primitive) async fn answers(self: &Arc<Self>, sidecar: &str) -> bool {
        let channel = self.channels.get(sidecar);
        match channel {
            Some(channel) => ask(self, &channel).await == Health::Up,
            None => true,
        }
    }

    /// Records in the audit log what happened to a sidecar, or to the agent because of one.
    pub(in crate::primitive) fn audit(&self, sidecar: &str, decision: &str, code: &str, reason: String) {
        self.events.tell(Event::Audit(audit::Event {
            time: audit::now(),
            count: 1,
            kind: Details {
                subject: Subject::Sidecar,
                sidecar: sidecar.to_owned(),
                bottle: self.session.id.clone(),
                client: String::new(),
                decision: decision.to_owned(),
                code: code.to_owned(),
                reason,
                form: String::new(),
                method: String::new(),
                destination: String::new(),
            },
        }));
    }
}
