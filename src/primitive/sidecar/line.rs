//! The way back into a running sidecar of any role: commands over its standard input, acknowledged over its standard output. After
//! a connection that has broken, each command goes by an exec.

use std::pin::Pin;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWrite;
use tokio::sync::watch;

use super::ctl;
use super::health::Health;
use super::roles::Described;
use crate::engine::Engine;
use crate::primitive::stream::write_json;
use crate::sidecar::{Acknowledged, Action, Command, Outcome};

/// How long a sidecar may take for a command.
const PATIENCE: Duration = Duration::from_secs(10);

/// The way back into a sidecar.
pub(in crate::primitive) struct Line {
    /// Its container.
    pub(in crate::primitive) id: String,
    /// What it is.
    pub(in crate::primitive) role: &'static Described,
    /// Its standard input, until a connection breaks: then that has ended.
    input: tokio::sync::Mutex<Option<Pin<Box<dyn AsyncWrite + Send>>>>,
    /// The last command's number. Held from a command until its acknowledgement.
    last: tokio::sync::Mutex<u64>,
    acknowledged: watch::Sender<Acknowledged<Value>>,
    /// How it is.
    pub(in crate::primitive) health: watch::Sender<Health>,
    /// What of that was told.
    pub(in crate::primitive) told: Mutex<Health>,
}

impl Line {
    pub(in crate::primitive) fn new(
        id: &str,
        role: &'static Described,
        input: Pin<Box<dyn AsyncWrite + Send>>,
    ) -> Self {
        Self {
            id: id.to_owned(),
            role,
            input: tokio::sync::Mutex::new(Some(input)),
            last: tokio::sync::Mutex::default(),
            acknowledged: watch::Sender::new(Acknowledged { n: 0, outcome: Outcome::Done }),
            health: watch::Sender::new(Health::Up),
            told: Mutex::default(),
        }
    }

    /// Notes an acknowledgement.
    pub(in crate::primitive) fn acknowledge(&self, acknowledged: Acknowledged<Value>) {
        self.acknowledged.send_replace(acknowledged);
    }

    /// Notes that its standard input has ended.
    pub(in crate::primitive) async fn close(&self) {
        self.input.lock().await.take();
    }

    /// Has a command carried out; `None` where nothing was acknowledged in time: whether it was carried out is not known.
    pub(in crate::primitive) async fn command(
        &self,
        engine: &dyn Engine,
        action: Action<Value, Value>,
    ) -> Option<Outcome<Value>> {
        tokio::time::timeout(PATIENCE, self.send(engine, action)).await.ok().flatten()
    }

    async fn send(&self, engine: &dyn Engine, action: Action<Value, Value>) -> Option<Outcome<Value>> {
        let mut last = self.last.lock().await;
        *last += 1;
        let command = Command { n: *last, action };
        let mut acknowledged = self.acknowledged.subscribe();
        if let Some(input) = &mut *self.input.lock().await {
            write_json(input, &command).await.ok()?;
        } else {
            let sent = ctl::send(engine, &self.id, self.role.name, &command).await;
            return Some(sent.ok()?.outcome);
        }
        // Those of commands that nobody waits for any more come before.
        let seen = acknowledged.wait_for(|seen| seen.n >= command.n).await.ok()?;
        (seen.n == command.n).then(|| seen.outcome.clone())
    }

    /// Whether it acknowledges a command that does nothing. While one is not acknowledged, no further one is sent: that
    /// will do.
    pub(in crate::primitive) async fn ping(&self, engine: &dyn Engine) -> bool {
        let mut last = self.last.lock().await;
        let mut acknowledged = self.acknowledged.subscribe();
        let answered = acknowledged.borrow_and_update().n;
        let open = match &mut *self.input.lock().await {
            Some(_) if *last > answered => true,
            Some(input) => {
                *last += 1;
                write_json(input, &Command::<Value, Value> { n: *last, action: Action::Ping }).await.is_ok()
            }
            None => false,
        };
        if open {
            let last = *last;
            return acknowledged.wait_for(|seen| seen.n >= last).await.is_ok();
        }
        let ping = Command::<Value, Value> { n: 0, action: Action::Ping };
        ctl::send::<Value>(engine, &self.id, self.role.name, &ping).await.is_ok()
    }
}
