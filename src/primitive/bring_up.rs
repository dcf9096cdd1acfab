//! How a sidecar's container comes up: attached, started, configured over its standard input, ready when it says so.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWrite;
use tokio::sync::watch;

use super::stream::{Lines, write_json};
use super::{Bottle, Event, lock};
use crate::session::{Class, Failure};
use crate::sidecar::egress::Update;
use crate::sidecar::{Message, Ready};

/// How long a sidecar may take for what it is told later.
const UPDATE: Duration = Duration::from_secs(10);

/// How long it may take to tell what it has decided, at the end.
const FLUSH: Duration = Duration::from_secs(1);

/// Lines of a container's log that are read when it has ended too early.
const LAST_LINES: usize = 20;

/// The way back into a sidecar.
pub(super) struct Line {
    input: tokio::sync::Mutex<Pin<Box<dyn AsyncWrite + Send>>>,
    /// How many updates it has taken.
    updates: watch::Sender<u64>,
}

/// Starts a created container, gives it its configuration, and waits for the line that says ready. One that is told more
/// `later` keeps its standard input.
pub(super) async fn bring_up(
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
    let mut lines = Lines::new(streams.output);
    let mut input = streams.input;
    let said = async {
        write_json(&mut input, &config).await.ok()?;
        lines.next_json::<Message>().await
    };
    match tokio::time::timeout(patience, said).await {
        Ok(Some(Message::Ready(ready))) => {
            let line = Arc::new(Line { input: tokio::sync::Mutex::new(input), updates: watch::Sender::new(0) });
            if later {
                lock(&bottle.told_later).insert(name.to_owned(), line.clone());
            }
            tokio::spawn(listen(bottle.clone(), lines, line));
            Ok(ready)
        }
        Ok(_) => {
            // The attached stream may end before its last words have come; the log has them, once it has ended itself.
            if lines.errors.trim().is_empty()
                && tokio::time::timeout(FLUSH, engine.container_wait(id, true)).await.is_ok()
                && let Ok(log) = engine.container_logs(id, LAST_LINES, false).await
            {
                let mut log = Lines::new(log);
                let _ = tokio::time::timeout(FLUSH, async { while log.next().await.is_some() {} }).await;
                lines.errors = log.errors;
            }
            Err(not_ready(name, "it ended before it was ready", &lines.errors))
        }
        Err(_) => {
            let why = format!("it was not ready within {} s", patience.as_secs());
            Err(not_ready(name, &why, &lines.errors))
        }
    }
}

fn not_ready(name: &str, why: &str, errors: &str) -> Failure {
    let failure = Failure::new(Class::Operation, format!("start sidecar {name}: {why}"));
    if errors.trim().is_empty() { failure } else { failure.cause(format!("it wrote: {}", errors.trim())) }
}

/// Passes on what a sidecar decides, as long as it lives.
async fn listen(bottle: Arc<Bottle>, mut lines: Lines, line: Arc<Line>) {
    while let Some(message) = lines.next_json::<Message>().await {
        match message {
            Message::Audit(event) => bottle.events.tell(Event::Audit(event)),
            Message::Updated => line.updates.send_modify(|updates| *updates += 1),
            Message::Ready(_) => {}
        }
    }
}

/// Tells egress every secret of the bottle, and waits until it looks for them.
pub(super) async fn tell_secrets(bottle: &Arc<Bottle>) -> Result<(), Failure> {
    let secrets = lock(&bottle.secrets).clone();
    if secrets.is_empty() {
        return Ok(());
    }
    update(bottle, "the secrets", &Update { secrets: Some(secrets), ..Update::default() }).await
}

/// Has every decision told that was only counted so far.
pub(super) async fn flush_audit(bottle: &Arc<Bottle>) {
    let flush = Update { flush: true, ..Update::default() };
    // A sidecar that does not answer is gone, or hangs, and is about to be removed.
    let _ = tokio::time::timeout(FLUSH, update(bottle, "to tell its decisions", &flush)).await;
}

async fn update(bottle: &Arc<Bottle>, what: &str, update: &Update) -> Result<(), Failure> {
    let lines = lock(&bottle.told_later).clone();
    for (name, line) in lines {
        let mut updates = line.updates.subscribe();
        let before = *updates.borrow_and_update();
        let told = async {
            write_json(&mut *line.input.lock().await, update).await.ok()?;
            updates.wait_for(|updates| *updates > before).await.ok().map(drop)
        };
        let told = tokio::time::timeout(UPDATE, told).await.ok().flatten();
        told.ok_or_else(|| Failure::new(Class::Operation, format!("tell sidecar {name} {what}: no answer")))?;
    }
    Ok(())
}
