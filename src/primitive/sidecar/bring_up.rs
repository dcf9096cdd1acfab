//! How a sidecar's container comes up: attached, started, configured over its standard input, ready when it says so.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::AsyncWrite;
use tokio::sync::watch;

use super::ctl;
use super::liveness::{self, Health};
use crate::policy::Enforced;
use crate::primitive::away::back;
use crate::primitive::stream::{Lines, Silence, Talk, write_json};
use crate::primitive::{Bottle, Event};
use crate::session::{Class, Failure};
use crate::sidecar::ctl::Answer;
use crate::sidecar::ctl::Question;
use crate::sidecar::egress::Update;
use crate::sidecar::{Applied, Message, Ready, Told};
use crate::sync::lock;

/// How long a sidecar may take for what it is told later.
const UPDATE: Duration = Duration::from_secs(10);

/// How long it may take to tell what it has decided, at the end.
const FLUSH: Duration = Duration::from_secs(1);

/// Lines of a container's log that are read when it has ended too early.
const LAST_LINES: usize = 20;

/// The way back into a sidecar.
pub(in crate::primitive) struct Line {
    /// Its container.
    pub(in crate::primitive) id: String,
    /// Its standard input, until a connection breaks: then that has ended, and it is asked by an exec.
    input: tokio::sync::Mutex<Option<Pin<Box<dyn AsyncWrite + Send>>>>,
    /// Held from a question until its answer: answers have no names. How often something was asked over standard input.
    turn: tokio::sync::Mutex<u64>,
    /// How many updates it has taken.
    updates: watch::Sender<u64>,
    /// What became of the policy that it was told last.
    policy: watch::Sender<Option<Applied>>,
    /// How it is.
    pub(in crate::primitive) health: watch::Sender<Health>,
    /// What of that was told.
    pub(in crate::primitive) told: Mutex<Health>,
}

impl Line {
    fn new(id: &str, input: Pin<Box<dyn AsyncWrite + Send>>) -> Self {
        Self {
            id: id.to_owned(),
            input: tokio::sync::Mutex::new(Some(input)),
            turn: tokio::sync::Mutex::default(),
            updates: watch::Sender::new(0),
            policy: watch::Sender::new(None),
            health: watch::Sender::new(Health::Up),
            told: Mutex::default(),
        }
    }
}

/// Starts a created container, gives it its configuration, and waits for the line that says ready. One that is told more
/// `later`, and tells what it decides, is listened to as long as it lives.
pub(in crate::primitive) async fn bring_up(
    bottle: &Arc<Bottle>,
    name: &str,
    id: &str,
    config: impl Future<Output = Result<serde_json::Value, Failure>>,
    patience: Duration,
    later: bool,
) -> Result<Ready, Failure> {
    let engine = &bottle.session.engine;
    let streams = engine.container_attach(id).await?;
    engine.container_start(id).await?;
    let config = config.await?;
    let mut talk = Talk::new(streams);
    let why = match talk.ask::<Told>(&config, patience).await {
        Ok(Told { n, message: Message::Ready(ready) }) => {
            if later {
                let line = Arc::new(Line::new(id, talk.input));
                lock(&bottle.told_later).insert(name.to_owned(), line.clone());
                tokio::spawn(liveness::look_after(bottle.clone(), name.to_owned(), line.clone()));
                tokio::spawn(listen(bottle.clone(), name.to_owned(), talk.lines, n, line));
            } else {
                tokio::spawn(liveness::await_end(bottle.clone(), name.to_owned(), id.to_owned()));
            }
            return Ok(ready);
        }
        Err(Silence::Late(patience)) => format!("it was not ready within {} s", patience.as_secs()),
        Ok(_) | Err(Silence::Ended) => {
            // The attached stream may end before its last words have come; the log has them, once it has ended itself.
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

/// Passes on what a sidecar decides, as long as it lives: after its line `last`, each once, also those that it tells while
/// nobody hears it.
async fn listen(bottle: Arc<Bottle>, name: String, mut lines: Lines, mut last: u64, line: Arc<Line>) {
    loop {
        while let Some(Told { n, message }) = lines.next_json().await {
            if n <= last {
                continue;
            }
            if n > last + 1 {
                // Written while nobody read, and gone from the engine's log, which is bounded; or no line of ours.
                let missing = n - last - 1;
                bottle.audit(
                    &name,
                    "alarm",
                    "lines_lost",
                    format!("{missing} lines of {name}, decisions among them, were not read"),
                );
            }
            last = n;
            match message {
                Message::Audit(event) => bottle.events.tell(Event::Audit(event)),
                Message::Updated => line.updates.send_modify(|updates| *updates += 1),
                Message::Policy(applied) => drop(line.policy.send_replace(Some(applied))),
                Message::Spent(grant) => {
                    let (bottle, name) = (bottle.clone(), name.clone());
                    tokio::spawn(async move { bottle.spent(&name, grant).await });
                }
                Message::Ready(_) => {}
            }
        }
        line.input.lock().await.take();
        lines = loop {
            tokio::select! {
                again = reopen(&bottle, &line.id) => if let Some(again) = again {
                    break again;
                },
                () = bottle.session.effects.cancelled() => return,
            }
            let seen = liveness::why_not(bottle.session.engine.as_ref(), &line.id).await;
            if matches!(seen, Health::Died(_)) {
                line.health.send_replace(seen);
                return;
            }
        };
    }
}

/// What a sidecar wrote and writes, from its log, after a connection that has broken; `None` when it has ended.
async fn reopen(bottle: &Bottle, id: &str) -> Option<Lines> {
    let engine = &bottle.session.engine;
    let state = back(engine.as_ref(), id).await.ok()?;
    if state.exit_code.is_some() {
        return None;
    }
    Some(Lines::new(engine.container_logs(id, None, true).await.ok()?))
}

/// Tells egress every secret of the bottle, and waits until it looks for them.
pub(in crate::primitive) async fn tell_secrets(bottle: &Arc<Bottle>) -> Result<(), Failure> {
    let secrets = lock(&bottle.secrets).clone();
    if secrets.is_empty() {
        return Ok(());
    }
    update(bottle, "the secrets", &Update { secrets: Some(secrets), ..Update::default() }).await
}

/// Has every decision told that was only counted so far.
pub(in crate::primitive) async fn flush_audit(bottle: &Arc<Bottle>) {
    let flush = Update { flush: true, ..Update::default() };
    // A sidecar that does not answer is gone, or hangs, and is about to be removed.
    let _ = tokio::time::timeout(FLUSH, update(bottle, "to tell its decisions", &flush)).await;
}

/// Whether a sidecar answers an empty question. While one is not answered, no further one is asked: an answer to it will do.
pub(in crate::primitive) async fn ping(bottle: &Arc<Bottle>, line: &Line) -> bool {
    let mut asked = line.turn.lock().await;
    let mut updates = line.updates.subscribe();
    let answered = *updates.borrow_and_update();
    let open = match &mut *line.input.lock().await {
        Some(_) if *asked > answered => true,
        Some(input) => {
            *asked = answered + 1;
            write_json(input, &Update::default()).await.is_ok()
        }
        None => false,
    };
    if open {
        return updates.wait_for(|updates| *updates > answered).await.is_ok();
    }
    // Its standard input has ended with a connection.
    let session = &bottle.session;
    ctl::ask(session.engine.as_ref(), &session.id, &line.id, &Question::Stats).await.is_ok()
}

async fn update(bottle: &Arc<Bottle>, what: &str, update: &Update) -> Result<(), Failure> {
    let lines = lock(&bottle.told_later).clone();
    for (name, line) in lines {
        let told = tokio::time::timeout(UPDATE, tell(bottle, &line, update)).await.ok().flatten();
        told.ok_or_else(|| Failure::new(Class::Operation, format!("tell sidecar {name} {what}: no answer")))?;
    }
    Ok(())
}

/// Tells an egress the policy that it is to enforce, and waits for its answer: why it refuses, if it does.
///
/// # Errors
/// There is no answer: whether it enforces it is not known.
pub(in crate::primitive) async fn enforce(
    bottle: &Arc<Bottle>,
    name: &str,
    policy: &Enforced,
) -> Result<Option<String>, String> {
    let line = lock(&bottle.told_later).get(name).cloned();
    let line = line.ok_or_else(|| format!("{name} does not run"))?;
    let mut applied = line.policy.subscribe();
    let update = Update { policy: Some(Box::new(policy.clone())), ..Update::default() };
    let told = async {
        tell(bottle, &line, &update).await?;
        let this = |applied: &Option<Applied>| applied.as_ref().is_some_and(|it| it.generation == policy.generation);
        applied.wait_for(this).await.ok()?.clone()
    };
    let told = tokio::time::timeout(UPDATE, told).await.ok().flatten();
    told.map(|applied| applied.refused).ok_or_else(|| format!("{name} does not answer"))
}

/// Tells one sidecar something, and waits until it has taken it; `None` where it is gone.
async fn tell(bottle: &Arc<Bottle>, line: &Line, update: &Update) -> Option<()> {
    let mut asked = line.turn.lock().await;
    let mut updates = line.updates.subscribe();
    // An answer that is owed to an earlier question is none to this.
    let before = (*updates.borrow_and_update()).max(*asked);
    *asked = before + 1;
    if let Some(input) = &mut *line.input.lock().await {
        write_json(input, update).await.ok()?;
    } else {
        // Secrets are told before the agent starts; a launch whose engine goes away meanwhile fails.
        let question = match &update.policy {
            Some(policy) => Question::Enforce(policy.clone()),
            None if update.flush => Question::Flush,
            None => return None,
        };
        let session = &bottle.session;
        if let Answer::Applied(applied) =
            ctl::ask(session.engine.as_ref(), &session.id, &line.id, &question).await.ok()?
        {
            line.policy.send_replace(Some(applied));
            return Some(());
        }
    }
    updates.wait_for(|updates| *updates > before).await.ok().map(drop)
}
