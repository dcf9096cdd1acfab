//! The way back into a running sidecar of any role: commands over its standard input, acknowledged over its standard output. After
//! a connection that has broken, each command goes by an exec.

use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWrite;
use tokio::sync::watch;

use super::ctl;
use super::health::Health;
use super::stream::write_json;
use crate::engine::Engine;
use crate::primitive::roles::RoleProfile;
use crate::sidecar::{Acknowledgement, Action, Command, CommandOutcome};

/// How long a sidecar may take for a command.
const PATIENCE: Duration = Duration::from_secs(10);

/// The way back into a sidecar.
pub(in crate::primitive) struct ControlChannel {
    /// Its container.
    pub(in crate::primitive) id: String,
    /// What it is.
    pub(in crate::primitive) role: &'static RoleProfile,
    /// Its standard input, until a connection breaks: then that has ended.
    input: tokio::sync::Mutex<Option<Pin<Box<dyn AsyncWrite + Send>>>>,
    /// Which of its lives this is. Changed with the input.
    life: AtomicU64,
    /// The last of its lines that was read.
    pub(in crate::primitive) read: AtomicU64,
    /// Held while it is started again.
    pub(in crate::primitive) restarting: tokio::sync::Mutex<()>,
    /// The last command's number. Held from a command until its acknowledgement.
    last: tokio::sync::Mutex<u64>,
    acknowledged: watch::Sender<Acknowledgement<Value>>,
    /// How it is.
    pub(in crate::primitive) health: watch::Sender<Health>,
    /// What of that was told.
    pub(in crate::primitive) told: Mutex<Health>,
}

impl ControlChannel {
    pub(in crate::primitive) fn new(
        id: &str,
        role: &'static RoleProfile,
        input: Pin<Box<dyn AsyncWrite + Send>>,
        read: u64,
    ) -> Self {
        Self {
            id: id.to_owned(),
            role,
            input: tokio::sync::Mutex::new(Some(input)),
            life: AtomicU64::new(1),
            read: AtomicU64::new(read),
            restarting: tokio::sync::Mutex::default(),
            last: tokio::sync::Mutex::default(),
            acknowledged: watch::Sender::new(Acknowledgement { n: 0, outcome: CommandOutcome::Done }),
            health: watch::Sender::new(Health::Up),
            told: Mutex::default(),
        }
    }

    /// Notes an acknowledgement.
    pub(in crate::primitive) fn acknowledge(&self, acknowledged: Acknowledgement<Value>) {
        self.acknowledged.send_replace(acknowledged);
    }

    /// Which of its lives this is.
    pub(in crate::primitive) fn life(&self) -> u64 {
        self.life.load(Ordering::Acquire)
    }

    /// Notes that its standard input has ended, in one of its lives; whether it is still in that.
    pub(in crate::primitive) async fn close(&self, life: u64) -> bool {
        let mut input = self.input.lock().await;
        let same = self.life() == life;
        if same {
            input.take();
        }
        same
    }

    /// Notes that it has come up again.
    pub(in crate::primitive) async fn reopen(&self, fresh: Pin<Box<dyn AsyncWrite + Send>>, read: u64) {
        let last = self.last.lock().await;
        let mut input = self.input.lock().await;
        // What its earlier life did not acknowledge, nobody does.
        self.acknowledged
            .send_replace(Acknowledgement { n: *last, outcome: CommandOutcome::Refused("it has died".to_owned()) });
        *input = Some(fresh);
        self.read.store(read, Ordering::Release);
        self.life.fetch_add(1, Ordering::AcqRel);
    }

    /// Has a command carried out; `None` where nothing was acknowledged in time: whether it was carried out is not known.
    pub(in crate::primitive) async fn command(
        &self,
        engine: &dyn Engine,
        action: Action<Value, Value>,
    ) -> Option<CommandOutcome<Value>> {
        tokio::time::timeout(PATIENCE, self.send(engine, action)).await.ok().flatten()
    }

    /// Has an update taken.
    ///
    /// # Errors
    /// Why it was not, or that this is not known.
    pub(in crate::primitive) async fn update(&self, engine: &dyn Engine, update: Value) -> Result<(), String> {
        match self.command(engine, Action::Update(update)).await {
            Some(CommandOutcome::Done) => Ok(()),
            Some(CommandOutcome::Refused(why)) => Err(why),
            Some(CommandOutcome::Answer(_)) => Err("it answered something else".to_owned()),
            None => Err("no answer".to_owned()),
        }
    }

    async fn send(&self, engine: &dyn Engine, action: Action<Value, Value>) -> Option<CommandOutcome<Value>> {
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
