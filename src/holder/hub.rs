//! The clients of a holder: the one that launched, until it leaves, and those that attach later, over a socket in the
//! bottle's directory that only its user can open.
//!
//! A client that does not read must not fill the holder's memory: once its queue is full, events that an agent or a
//! script can produce at will are dropped for it. Everything else is always sent.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};

use super::{Cancel, FromHolder, Receiver, Report, RequestAction, ToHolder, Welcome, Wire, split};
use crate::policy::{Change, LivePolicy};
use crate::primitive::{Bottle, Event, ShownRequest};
use crate::session::{Class, Failure};
use crate::sync::lock;

/// The socket's name in a bottle's directory.
const SOCKET: &str = "socket";
/// How long a client may take to read its last messages.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// All connected clients.
#[derive(Clone, Default)]
pub(super) struct Hub(Arc<Shared>);

#[derive(Default)]
struct Shared {
    clients: Mutex<Vec<Wire>>,
    welcome: Mutex<Welcome>,
    /// Whether the launching client has announced that it leaves.
    detached: AtomicBool,
    dropped: AtomicU64,
}

impl Hub {
    pub(super) fn join(&self, wire: Wire) {
        lock(&self.0.clients).push(wire);
    }

    /// How many decisions were dropped because a client did not read.
    pub(super) fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// Sends an event to all clients. Decisions, which an agent can cause at will, are dropped for clients that do
    /// not read.
    pub(super) fn tell(&self, at: u64, event: Event) {
        self.note(&event);
        let audit = matches!(event, Event::Audit(_));
        // A script can produce these at will, too. Dropping them is harmless.
        let said = matches!(event, Event::Log(_) | Event::Progress(_) | Event::Step { .. });
        let message = FromHolder::Event { at, event: Box::new(event) };
        let mut clients = lock(&self.0.clients);
        clients.retain(|wire| !wire.is_closed());
        for wire in clients.iter() {
            if (audit || said) && wire.is_full() {
                self.0.dropped.fetch_add(u64::from(audit), Ordering::Relaxed);
            } else {
                wire.send(&message);
            }
        }
    }

    fn note(&self, event: &Event) {
        let mut welcome = lock(&self.0.welcome);
        match event {
            Event::AgentCreated { container } => welcome.container = Some(container.clone()),
            Event::Released => welcome.released = true,
            Event::Paused(why) => welcome.paused.clone_from(why),
            _ => {}
        }
    }

    /// Sends the report to all clients, and gives them a while to read it.
    pub(super) async fn finish(&self, report: &Report) {
        self.end(FromHolder::Finished(Box::new(report.clone()))).await;
    }

    /// Tells all clients why the holder exits early.
    pub(super) async fn last_words(&self, failure: Failure) {
        self.end(FromHolder::Dies(Box::new(failure))).await;
    }

    async fn end(&self, message: FromHolder) {
        let clients = std::mem::take(&mut *lock(&self.0.clients));
        let close = |wire: Wire| {
            wire.send(&message);
            async move { drop(tokio::time::timeout(LAST_WORDS, wire.close()).await) }
        };
        futures_util::future::join_all(clients.into_iter().map(close)).await;
    }

    /// Serves a client until it disconnects. If the launching client disconnects without having announced it, that
    /// counts as a first request to stop. `bottle` is set once the bottle exists: a launch can be stopped before
    /// that.
    ///
    /// Requests to stop are acknowledged on `to`: a client that gets no acknowledgement kills the holder, which must
    /// be hung.
    pub(super) async fn hear(
        &self,
        mut from: Receiver<ToHolder>,
        to: &Wire,
        bottle: &OnceLock<Arc<Bottle>>,
        cancel: &Cancel,
        launched: bool,
    ) {
        let find = |wanted: &str| bottle.get().and_then(|bottle| bottle.find(wanted));
        loop {
            match from.next().await {
                // Before the bottle exists, nobody can attach to it, and it asks nothing.
                Ok(Some(ToHolder::Attached)) => drop(bottle.get().map(|bottle| bottle.attached())),
                Ok(Some(ToHolder::Answer { id, answer })) => drop(bottle.get().map(|bottle| bottle.answer(id, answer))),
                Ok(Some(ToHolder::Cancel)) => {
                    cancel.raise();
                    to.send(&FromHolder::Stopping);
                }
                Ok(Some(ToHolder::Detach)) => {
                    self.0.detached.fetch_or(launched, Ordering::Relaxed);
                }
                Ok(Some(ToHolder::Policy { bottle: wanted, change })) => {
                    let work = |bottle| async move { answer_policy(bottle, change.as_deref()).await };
                    reply(find(&wanted), to, FromHolder::Policy, work);
                }
                Ok(Some(ToHolder::ApprovePush { bottle: wanted, approval })) => {
                    let work = |bottle: Arc<Bottle>| async move { bottle.approve_push(approval).await };
                    reply(find(&wanted), to, FromHolder::Approved, work);
                }
                Ok(Some(ToHolder::Requests { bottle: wanted, action })) => {
                    reply(find(&wanted), to, FromHolder::Requests, |bottle| answer_requests(bottle, action));
                }
                Ok(Some(ToHolder::RestartSidecar { bottle: wanted, name })) => {
                    let work = |bottle: Arc<Bottle>| async move { bottle.restart_sidecar(&name).await };
                    reply(find(&wanted), to, FromHolder::Restarted, work);
                }
                Ok(Some(ToHolder::Renew { bottle: wanted, values })) => {
                    let work = |bottle: Arc<Bottle>| async move { bottle.renew_credentials(&values).await };
                    reply(find(&wanted), to, FromHolder::Renewed, work);
                }
                Ok(Some(ToHolder::Launch(_))) => {}
                Ok(None) | Err(_) => {
                    if launched && !self.0.detached.load(Ordering::Relaxed) {
                        cancel.at_least(1);
                    }
                    return;
                }
            }
        }
    }

    /// Accepts clients that attach. Never returns.
    pub(super) async fn serve(
        &self,
        listener: Option<UnixListener>,
        bottle: &Arc<OnceLock<Arc<Bottle>>>,
        cancel: &Arc<Cancel>,
    ) -> std::convert::Infallible {
        let Some(listener) = listener else { return std::future::pending().await };
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let (from, to) = split(stream);
            {
                // Hold the lock from the welcome on, so that the client gets every later event exactly once.
                let mut clients = lock(&self.0.clients);
                to.send(&FromHolder::Welcome(Box::new(lock(&self.0.welcome).clone())));
                clients.push(to.clone());
            }
            let (hub, bottle, cancel) = (self.clone(), bottle.clone(), cancel.clone());
            crate::task::spawn(async move { hub.hear(from, &to, &bottle, &cancel, false).await });
        }
    }

    pub(super) fn set_terminal(&self, terminal: bool) {
        lock(&self.0.welcome).terminal = terminal;
    }
}

/// Does what a client asks of a bottle, and sends the answer. It has a task of its own, because it may take a while: requests
/// to stop are served meanwhile, and it is carried out even if the client leaves.
fn reply<T, F>(
    bottle: Option<Arc<Bottle>>,
    to: &Wire,
    answer: fn(Box<Result<T, Failure>>) -> FromHolder,
    work: impl FnOnce(Arc<Bottle>) -> F + Send + 'static,
) where
    T: Send + 'static,
    F: Future<Output = Result<T, Failure>> + Send,
{
    let to = to.clone();
    crate::task::spawn(async move {
        let done = match bottle {
            Some(bottle) => work(bottle).await,
            None => Err(Failure::new(Class::Input, "the bottle has not been created yet")),
        };
        to.send(&answer(Box::new(done)));
    });
}

async fn answer_policy(bottle: Arc<Bottle>, change: Option<&Change>) -> Result<LivePolicy, Failure> {
    match change {
        Some(change) => bottle.change_policy(change).await,
        None => bottle.policy().await,
    }
}

async fn answer_requests(bottle: Arc<Bottle>, action: RequestAction) -> Result<Vec<ShownRequest>, Failure> {
    match action {
        RequestAction::List => bottle.requests().await,
        RequestAction::Approve { id, hash, scope } => bottle.approve(&id, &hash, scope).await.map(|one| vec![one]),
        RequestAction::Reject { id, reason } => bottle.reject(&id, &reason).await.map(|one| vec![one]),
    }
}

/// Listens in a bottle's directory. The address goes through a descriptor, because a socket's path is limited to 108
/// bytes (unix(7)) and the directory's may be longer.
///
/// # Errors
/// The socket cannot be created.
pub(super) fn listen(directory: &Path) -> io::Result<UnixListener> {
    let path = directory.join(SOCKET);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let (_folder, short) = shorten(directory)?;
    UnixListener::bind(short)
}

/// Connects to the holder of a bottle.
///
/// # Errors
/// No holder listens there.
pub async fn reach(directory: &Path) -> io::Result<UnixStream> {
    let (_folder, short) = shorten(directory)?;
    UnixStream::connect(short).await
}

fn shorten(directory: &Path) -> io::Result<(File, PathBuf)> {
    let folder = File::open(directory)?;
    let short = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd()));
    Ok((folder, short))
}
