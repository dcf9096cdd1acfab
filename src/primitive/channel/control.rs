//! The control channel to a running sidecar of any role: commands over its standard input, acknowledged on its
//! standard output. After a broken connection, each command is sent by an exec.

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

/// The control channel to a sidecar.
pub(in crate::primitive) struct ControlChannel {
    /// Its container.
    pub(in crate::primitive) id: String,
    /// Its role.
    pub(in crate::primitive) role: &'static RoleProfile,
    /// Its standard input. It ends when a connection breaks.
    input: tokio::sync::Mutex<Option<Pin<Box<dyn AsyncWrite + Send>>>>,
    /// Which run this is; incremented by every restart, together with the input.
    life: AtomicU64,
    /// The number of the last line that was read.
    pub(in crate::primitive) read: AtomicU64,
    /// Held during a restart.
    pub(in crate::primitive) restarting: tokio::sync::Mutex<()>,
    /// The number of the last command. Held from a command until its acknowledgement.
    last: tokio::sync::Mutex<u64>,
    acknowledged: watch::Sender<Acknowledgement<Value>>,
    /// Its current health.
    pub(in crate::primitive) health: watch::Sender<Health>,
    /// The health that was reported last.
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

    /// Records an acknowledgement.
    pub(in crate::primitive) fn acknowledge(&self, acknowledged: Acknowledgement<Value>) {
        self.acknowledged.send_replace(acknowledged);
    }

    /// The number of its current run.
    pub(in crate::primitive) fn life(&self) -> u64 {
        self.life.load(Ordering::Acquire)
    }

    /// Records that its standard input has ended in a run. Returns whether that run is still the current one.
    pub(in crate::primitive) async fn close(&self, life: u64) -> bool {
        let mut input = self.input.lock().await;
        let same = self.life() == life;
        if same {
            input.take();
        }
        same
    }

    /// Records that it has restarted.
    pub(in crate::primitive) async fn reopen(&self, fresh: Pin<Box<dyn AsyncWrite + Send>>, read: u64) {
        let last = self.last.lock().await;
        let mut input = self.input.lock().await;
        // Commands to its earlier run will not be acknowledged.
        self.acknowledged
            .send_replace(Acknowledgement { n: *last, outcome: CommandOutcome::Refused("it has died".to_owned()) });
        *input = Some(fresh);
        self.read.store(read, Ordering::Release);
        self.life.fetch_add(1, Ordering::AcqRel);
    }

    /// Executes a command. `None` if it was not acknowledged in time: then it is unknown whether it was executed.
    pub(in crate::primitive) async fn command(
        &self,
        engine: &dyn Engine,
        action: Action<Value, Value>,
    ) -> Option<CommandOutcome<Value>> {
        tokio::time::timeout(PATIENCE, self.send(engine, action)).await.ok().flatten()
    }

    /// Sends an update.
    ///
    /// # Errors
    /// Why the update was refused, or that this is unknown.
    pub(in crate::primitive) async fn update(&self, engine: &dyn Engine, update: Value) -> Result<(), String> {
        match self.command(engine, Action::Update(update)).await {
            Some(CommandOutcome::Done) => Ok(()),
            Some(CommandOutcome::Refused(why)) => Err(why),
            Some(CommandOutcome::Answer(_)) => Err("the acknowledgement is not for an update".to_owned()),
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
        // Acknowledgements of abandoned commands arrive first.
        let seen = acknowledged.wait_for(|seen| seen.n >= command.n).await.ok()?;
        (seen.n == command.n).then(|| seen.outcome.clone())
    }

    /// Whether it acknowledges an empty command. While an earlier command is not acknowledged, this waits for that
    /// one instead.
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
