//! Brings a sidecar's container up: attaches, starts it, sends the configuration over its standard input, and waits
//! for its ready message. Then listens to it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;

use super::secrets::renew;
use super::sign::sign;
use super::{host_service, liveness};
use crate::policy::EnforcedPolicy;
use crate::primitive::away::back;
use crate::primitive::bottle::Bottle;
use crate::primitive::channel::control::ControlChannel;
use crate::primitive::channel::health::{Health, why_not};
use crate::primitive::channel::stream::{JsonChannel, Lines, NoAnswer, write_json};
use crate::primitive::event::Event;
use crate::primitive::roles::{NoticeEffect, RoleProfile};
use crate::primitive::supervise;
use crate::session::{Class, Failure};
use crate::sidecar::egress::Registration;
use crate::sidecar::{Action, CommandOutcome, Message, OutputLine, Resume};

/// How long it may take to report its last decisions at the end.
const FLUSH: Duration = Duration::from_secs(1);

/// How many lines of a container's log are read if it ends too early.
const LAST_LINES: usize = 20;

/// A line from a sidecar of any role.
type AnyMessage = OutputLine<Message<Value, Value, Value>>;

/// Starts a created container, sends its configuration, and waits for its ready message, which it returns. A sidecar
/// with a `role` is listened to as long as it lives; an ordinary image sends nothing more.
pub(in crate::primitive) async fn bring_up(
    bottle: &Arc<Bottle>,
    name: &str,
    id: &str,
    config: impl Future<Output = Result<Value, Failure>>,
    patience: Duration,
    role: Option<&'static RoleProfile>,
) -> Result<Arc<Value>, Failure> {
    let (ready, n, talk) = come_up(bottle, name, id, None, config, patience).await?;
    if let Some(role) = role {
        let channel = Arc::new(ControlChannel::new(id, role, talk.input, n));
        bottle.channels.insert(name, channel.clone());
        hear(bottle, name, talk.lines, &channel);
        host_service::keep_open(bottle, name, &channel);
        crate::task::spawn(liveness::look_after(bottle.clone(), name.to_owned(), channel));
    } else {
        crate::task::spawn(liveness::await_end(bottle.clone(), name.to_owned(), id.to_owned()));
    }
    Ok(Arc::new(ready))
}

/// Starts listening to a sidecar that is up.
pub(in crate::primitive) fn hear(bottle: &Arc<Bottle>, name: &str, lines: Lines, channel: &Arc<ControlChannel>) {
    crate::task::spawn(listen(bottle.clone(), name.to_owned(), lines, channel.clone()));
}

/// Starts a container, attached, and sends its configuration. Returns the ready message, that line's number, and the
/// streams.
pub(in crate::primitive) async fn come_up(
    bottle: &Arc<Bottle>,
    name: &str,
    id: &str,
    again: Option<Resume>,
    config: impl Future<Output = Result<Value, Failure>>,
    patience: Duration,
) -> Result<(Value, u64, JsonChannel), Failure> {
    let engine = &bottle.session.engine;
    let streams = engine.container_attach(id).await?;
    engine.container_start(id).await?;
    let config = config.await?;
    let mut talk = JsonChannel::new(streams);
    if let Some(again) = again {
        // A container that is gone does not become ready either.
        let _ = write_json(&mut talk.input, &again).await;
    }
    let why = match talk.ask::<AnyMessage>(&config, patience).await {
        Ok(OutputLine { n, message: Message::Ready(ready) }) => return Ok((ready, n, talk)),
        Err(NoAnswer::Late(patience)) => format!("it was not ready within {} s", patience.as_secs()),
        Ok(_) | Err(NoAnswer::Ended) => {
            // The attached stream may end before the last output has arrived. The log contains it, once the container
            // has ended.
            if talk.lines.errors.trim().is_empty()
                && tokio::time::timeout(FLUSH, engine.container_wait(id, true)).await.is_ok()
                && let Ok(log) = engine.container_logs(id, Some(LAST_LINES), false).await
            {
                let mut log = Lines::new(log);
                let _ = tokio::time::timeout(FLUSH, async { while log.next().await.is_some() {} }).await;
                talk.lines.errors = log.errors;
            }
            "it ended before it was ready".to_owned()
        }
    };
    Err(talk.failure(&format!("start sidecar {name}"), why))
}

/// Forwards a sidecar's decisions as long as it lives. Each line is forwarded once, including lines written while
/// nobody was connected.
async fn listen(bottle: Arc<Bottle>, name: String, mut lines: Lines, channel: Arc<ControlChannel>) {
    let life = channel.life();
    loop {
        while let Some(OutputLine { n, message }) = lines.next_json::<AnyMessage>().await {
            let last = channel.read.load(Ordering::Acquire);
            if n <= last {
                continue;
            }
            if n > last + 1 {
                // Written while nobody was connected, and already gone from the engine's log, which is bounded; or
                // not a valid line.
                let missing = n - last - 1;
                bottle.audit(
                    &name,
                    "alarm",
                    "lines_lost",
                    format!("{missing} lines of {name}, decisions among them, were not read"),
                );
            }
            channel.read.store(n, Ordering::Release);
            match message {
                Message::Audit(event) => {
                    bottle.desk.note_denial(&event);
                    bottle.events.tell(Event::Audit(*event));
                }
                Message::Acknowledged(acknowledged) => channel.acknowledge(acknowledged),
                Message::Notice(notice) => match (channel.role.noticed)(notice) {
                    Some(NoticeEffect::Spent(grant)) => {
                        let (bottle, name) = (bottle.clone(), name.clone());
                        crate::task::spawn(async move { bottle.spent(&name, grant).await });
                    }
                    Some(NoticeEffect::Need(credential)) => {
                        let (bottle, name) = (bottle.clone(), name.clone());
                        crate::task::spawn(async move { renew(&bottle, &name, &credential).await });
                    }
                    Some(NoticeEffect::Asked(call)) => {
                        let bottle = bottle.clone();
                        crate::task::spawn(async move { supervise::asked(&bottle, *call).await });
                    }
                    Some(NoticeEffect::Sign(wanted)) => {
                        let (bottle, name, channel) = (bottle.clone(), name.clone(), channel.clone());
                        crate::task::spawn(async move { sign(&bottle, &name, &channel, wanted).await });
                    }
                    None => {}
                },
                Message::Ready(_) => {}
            }
        }
        if !channel.close(life).await {
            return;
        }
        lines = loop {
            tokio::select! {
                again = reopen(&bottle, &channel.id) => if let Some(again) = again {
                    if channel.life() != life {
                        return;
                    }
                    break again;
                },
                () = bottle.session.effects.cancelled() => return,
            }
            if channel.life() != life {
                return;
            }
            let seen = why_not(bottle.session.engine.as_ref(), &channel.id).await;
            if matches!(seen, Health::Died(_)) {
                channel.health.send_replace(seen);
                return;
            }
        };
    }
}

/// Reconnects to a sidecar's output through its log after a broken connection; `None` if it has ended.
async fn reopen(bottle: &Bottle, id: &str) -> Option<Lines> {
    let engine = &bottle.session.engine;
    let state = back(engine.as_ref(), id).await.ok()?;
    if state.exit_code.is_some() {
        return None;
    }
    Some(Lines::new(engine.container_logs(id, None, true).await.ok()?))
}

/// Registers a sidecar that is ready with an egress, and waits until the agent can reach it there.
pub(in crate::primitive) async fn register(
    bottle: &Arc<Bottle>,
    egress: &str,
    registration: Registration,
) -> Result<(), Failure> {
    let name = registration.name.clone();
    let failed = |why: &str| Failure::new(Class::Operation, format!("register sidecar {name} with {egress}: {why}"));
    let channel = bottle.channels.get(egress).ok_or_else(|| failed("it does not run"))?;
    let update = (channel.role.register)(registration).ok_or_else(|| failed("it is not an egress"))?;
    channel.update(bottle.session.engine.as_ref(), update).await.map_err(|why| failed(&why))
}

impl Bottle {
    /// Asks all sidecars to report the decisions that they have only counted so far.
    pub async fn flush_audit(&self) {
        let channels = self.channels.all();
        let flushed = channels.values().map(|channel| channel.command(self.session.engine.as_ref(), Action::Flush));
        // A sidecar that does not respond is gone or hangs, and is about to be removed.
        let _ = tokio::time::timeout(FLUSH, join_all(flushed)).await;
    }
}

/// Sends a policy to an egress, and to its dialer before it, and waits for the responses: `Some` reason if one refuses.
///
/// # Errors
/// There is no response, so it is unknown whether the policy is enforced.
pub(in crate::primitive) async fn enforce(
    bottle: &Arc<Bottle>,
    name: &str,
    policy: &EnforcedPolicy,
) -> Result<Option<String>, String> {
    let sidecars = bottle.inventory.open_sidecars();
    let inputs = sidecars.iter().find(|sidecar| sidecar.name == name).and_then(|egress| egress.inputs.as_ref());
    if let Some(dialer) = inputs.and_then(|inputs| inputs.dialer.as_ref())
        && let Some(refused) = enforce_at(bottle, &dialer.name, policy).await?
    {
        return Ok(Some(refused));
    }
    enforce_at(bottle, name, policy).await
}

async fn enforce_at(bottle: &Arc<Bottle>, name: &str, policy: &EnforcedPolicy) -> Result<Option<String>, String> {
    let channel = bottle.channels.get(name);
    let channel = channel.ok_or_else(|| format!("{name} does not run"))?;
    let update = (channel.role.policy)(Box::new(policy.clone())).ok_or_else(|| format!("{name} enforces no policy"))?;
    match channel.command(bottle.session.engine.as_ref(), Action::Update(update)).await {
        Some(CommandOutcome::Refused(why)) => Ok(Some(why)),
        Some(CommandOutcome::Done | CommandOutcome::Answer(_)) => Ok(None),
        None => Err(format!("{name} does not answer")),
    }
}
