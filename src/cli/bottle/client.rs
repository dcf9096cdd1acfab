//! The client of a holder: shows events, asks questions, and forwards signals until the bottle has ended.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};
use nix::unistd::Pid;
use tokio::net::UnixStream;
use tokio::signal::unix::SignalKind;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::cli::terminal::{self, DetachKeys, Handover, MutedTerminal, Signals, follow_output, read_answer};
use crate::engine::{Engine, Streams, TerminalSize};
use crate::holder::{self, FromHolder, Launch, Report, ToHolder, Welcome, Wire};
use crate::primitive::{Event, Question};
use crate::probe::ProbeResult;
use crate::report::{self, Progress};
use crate::session::{Class, Failure, StateDir, crash};
use crate::sidecar;

/// How long the agent's last output may take to arrive after its end.
const LAST_OUTPUT: Duration = Duration::from_secs(2);
/// How long to wait for the reaper when the holder has died.
const REAPER: Duration = Duration::from_secs(30);
/// How long a holder may take to acknowledge a request to stop.
const ACKNOWLEDGED: Duration = Duration::from_secs(10);
/// How long a holder may take to end, once it is asked to leave everything.
const LEFT: Duration = Duration::from_secs(3);
/// How long a program has to see that its terminal has become smaller.
const REDRAW: Duration = Duration::from_millis(150);
/// How long keys are ignored after the agent's last output, if its end is not reported.
const MUTE: Duration = Duration::from_secs(10);
/// Audit events kept for the report; further ones are counted.
const MAX_AUDIT: usize = 1000;

/// How the client's connection to a bottle ended.
pub(in crate::cli) enum SessionEnd {
    Reported(Box<Report>),
    /// The user detached; the bottle keeps running.
    Detached,
    /// A signal ended this client; the bottle keeps running. The signal's number.
    Signalled(i32),
    /// The user interrupted a third time.
    AbandonedToReaper,
    /// The holder died.
    HolderDied,
}

/// What the client shows of the agent, and how.
#[derive(Debug, Clone, Default)]
pub(in crate::cli) struct ClientOptions {
    /// Keep its output instead of showing it.
    pub(in crate::cli) capture: bool,
    /// Give it the terminal.
    pub(in crate::cli) terminal: bool,
    /// Pass all control sequences.
    pub(in crate::cli) raw: bool,
    /// Detach as soon as its command has started.
    pub(in crate::cli) detach: bool,
    /// This client did not launch the bottle: SIGTERM or SIGHUP ends only this client.
    pub(in crate::cli) guest: bool,
    /// The keys that detach.
    pub(in crate::cli) keys: DetachKeys,
}

pub(in crate::cli) struct Client {
    pub(in crate::cli) bottle: String,
    from: holder::Receiver<FromHolder>,
    to: Wire,
    /// The holder's process.
    holder: Option<Pid>,
    /// Deadline for the acknowledgement of a request to stop.
    unheard: Option<Instant>,
    /// Why the holder died: its last message, or that this client killed it.
    pub(in crate::cli) last_words: Option<Failure>,
    /// Whether this client killed the holder.
    pub(in crate::cli) has_killed: bool,
    engine: Arc<dyn Engine>,
    pub(in crate::cli) show: ClientOptions,
    /// The agent's container.
    container: Option<String>,
    /// Its streams, opened before its command starts.
    streams: Option<JoinHandle<crate::engine::Result<Streams>>>,
    /// The terminal, while the agent has it.
    handover: Option<JoinHandle<std::io::Result<MutedTerminal>>>,
    /// The muted terminal after the agent's last output, until its end is reported or a deadline passes.
    mute: Option<(MutedTerminal, Instant)>,
    /// Whether the agent has ended.
    ended: bool,
    pub(in crate::cli) progress: Progress,
    output: Option<JoinHandle<Vec<u8>>>,
    pub(in crate::cli) proof: Vec<ProbeResult>,
    pub(in crate::cli) audit: Vec<sidecar::Event>,
    pub(in crate::cli) audit_not_kept: usize,
    /// The terminal as it was before the first question.
    terminal: Option<Termios>,
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(before) = &self.terminal {
            // An unanswered question may have left echo off.
            let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, before);
        }
    }
}

impl Client {
    pub(in crate::cli) fn start(launch: Launch, engine: Arc<dyn Engine>, show: ClientOptions) -> anyhow::Result<Self> {
        let secrets: Vec<&String> =
            launch.env.values().chain(launch.credentials.values()).chain(&launch.proxy_credentials).collect();
        let log = crash::open(&launch.state, &launch.plan.bottle)?;
        let (socket, holder) = holder::spawn(&secrets, &launch.endpoint, log)?;
        socket.set_nonblocking(true)?;
        let bottle = launch.plan.bottle.clone();
        let mut client = Self::new(bottle, UnixStream::from_std(socket)?, engine, show);
        // A pair's other end is its maker's: this process.
        client.holder = Some(holder);
        client.to.try_send(&ToHolder::Launch(Box::new(launch)))?;
        Ok(client)
    }

    /// A client of a holder that is reached over a socket.
    pub(in crate::cli) fn new(
        bottle: String,
        socket: UnixStream,
        engine: Arc<dyn Engine>,
        show: ClientOptions,
    ) -> Self {
        // A process in another PID namespace has the id 0, which `kill` would read as the whole process group.
        let holder = socket.peer_cred().ok().and_then(|peer| peer.pid()).filter(|pid| *pid > 1).map(Pid::from_raw);
        let (from, to) = holder::split(socket);
        Self {
            bottle,
            from,
            to,
            holder,
            unheard: None,
            last_words: None,
            has_killed: false,
            engine,
            show,
            container: None,
            streams: None,
            handover: None,
            mute: None,
            ended: false,
            progress: Progress::new(),
            output: None,
            proof: Vec::new(),
            audit: Vec::new(),
            audit_not_kept: 0,
            terminal: None,
        }
    }

    /// Asks the holder to stop, once more.
    pub(in crate::cli) fn cancel(&mut self) {
        self.to.send(&ToHolder::Cancel);
        self.unheard.get_or_insert(Instant::now() + ACKNOWLEDGED);
    }

    /// Kills a holder that is stopped or stuck. Its reaper removes the bottle.
    fn kill_holder(&mut self) {
        self.unheard = None;
        // The socket is open, so the process still exists and its id is not reused.
        let Some(holder) = self.holder.take() else { return };
        let what = format!("the holder of {} (process {holder}) did not answer and was killed", self.bottle);
        if let Err(error) = kill(holder, Signal::SIGKILL) {
            self.progress.line(&format!(
                "the holder of {} (process {holder}) does not answer, and cannot be killed: {error}",
                self.bottle
            ));
            return;
        }
        self.progress.line(&what);
        self.has_killed = true;
        self.last_words = Some(Failure::new(Class::Internal, what));
    }

    /// Waits until the holder exits and leaves the rest to the reaper.
    async fn leave(&mut self) {
        let gone = async { while let Ok(Some(_)) = self.from.next().await {} };
        if tokio::time::timeout(LEFT, gone).await.is_err() {
            self.kill_holder();
        }
    }

    /// Shows events and forwards signals until the end.
    pub(in crate::cli) async fn follow(&mut self, state: &StateDir) -> Result<SessionEnd, Failure> {
        let mut signals = Signals::new()?;
        let mut asked = 0;
        loop {
            tokio::select! {
                message = self.from.next() => match message {
                    Ok(Some(FromHolder::Event { at, event })) => {
                        let released = matches!(*event, Event::Released);
                        self.show(at, *event).await;
                        if released && self.show.detach {
                            return Ok(self.detach().await);
                        }
                    }
                    Ok(Some(FromHolder::Welcome(welcome))) => self.welcome(*welcome).await,
                    Ok(Some(FromHolder::Stopping)) => self.unheard = None,
                    // Answers to requests that this client does not make.
                    Ok(Some(
                        FromHolder::Policy(_)
                        | FromHolder::Approved(_)
                        | FromHolder::Renewed(_)
                        | FromHolder::Requests(_)
                        | FromHolder::Restarted(_),
                    )) => {}
                    Ok(Some(FromHolder::Dies(failure))) => self.last_words = Some(*failure),
                    Ok(Some(FromHolder::Finished(report))) => {
                        self.take_back().await;
                        return Ok(SessionEnd::Reported(report));
                    }
                    Ok(None) | Err(_) => {
                        self.take_back().await;
                        return Ok(self.after_death(state).await);
                    }
                },
                handover = handed_over(&mut self.handover) => {
                    self.handover = None;
                    if let Ok(Ok(mute)) = handover {
                        if mute.handover == Handover::Detached {
                            drop(mute);
                            return Ok(self.detach().await);
                        }
                        self.mute = Some((mute, Instant::now() + MUTE));
                    }
                }
                () = passed(self.unheard) => self.kill_holder(),
                () = passed(self.mute.as_ref().map(|(_, until)| *until)) => self.mute = None,
                signal = signals.next() => {
                    self.take_back().await;
                    if self.show.guest && signal != SignalKind::interrupt() {
                        return Ok(self.leave_alone(signal).await);
                    }
                    asked += 1;
                    if self.ended && asked == 1 {
                        // A cancellation would only interrupt saving the agent's work.
                        self.progress.line("the agent has ended and the bottle is being removed; interrupt again to remove it at once");
                        continue;
                    }
                    if self.ended && asked == 2 {
                        self.cancel();
                    }
                    self.cancel();
                    match asked {
                        1 => self.progress.line("stopping; interrupt again to kill it at once, a third time to leave it to the reaper"),
                        2 => self.progress.line("killing"),
                        _ => {
                            self.leave().await;
                            return Ok(SessionEnd::AbandonedToReaper);
                        }
                    }
                }
            }
        }
    }

    async fn detach(&mut self) -> SessionEnd {
        self.to.send(&ToHolder::Detach);
        self.to.close().await;
        SessionEnd::Detached
    }

    async fn leave_alone(&mut self, signal: SignalKind) -> SessionEnd {
        self.detach().await;
        SessionEnd::Signalled(signal.as_raw_value())
    }

    /// Attaches to an agent that may be running already.
    async fn welcome(&mut self, welcome: Welcome) {
        self.show.terminal &= welcome.terminal;
        if let Some(container) = welcome.container {
            self.attach(container);
        }
        if welcome.released {
            self.redraw().await;
            self.give().await;
        }
        if let Some(why) = welcome.paused {
            self.progress.alarm(&format!("error: {}: the agent is PAUSED: {why}", self.bottle));
        }
    }

    /// Makes a running program redraw its screen by changing the terminal's size. The pause ensures that the program sees
    /// the changed size.
    async fn redraw(&self) {
        if let (true, Some(container), Some(size)) = (self.show.terminal, &self.container, terminal::size()) {
            let smaller = TerminalSize { height: size.height.saturating_sub(1).max(1), ..size };
            // A program that has ended needs no size.
            let _ = self.engine.container_resize(container, smaller).await;
            tokio::time::sleep(REDRAW).await;
        }
    }

    fn attach(&mut self, container: String) {
        let (engine, to, capture) = (self.engine.clone(), self.to.clone(), self.show.capture);
        self.container = Some(container.clone());
        if self.show.detach {
            to.send(&ToHolder::Attached);
        } else if self.show.terminal {
            self.streams = Some(crate::task::spawn(async move { engine.container_attach(&container).await }));
        } else {
            self.output =
                Some(crate::task::spawn(async move { follow_output(engine.as_ref(), &container, &to, capture).await }));
        }
    }

    /// Sets the size of the agent's terminal and reports that the client is attached.
    async fn prepare(&mut self) {
        if self.show.terminal && self.streams.is_some() {
            self.resize().await;
            self.to.send(&ToHolder::Attached);
        }
    }

    async fn resize(&self) {
        if let (Some(container), Some(size)) = (&self.container, terminal::size()) {
            // A program that has ended needs no size.
            let _ = self.engine.container_resize(container, size).await;
        }
    }

    /// Gives the agent the terminal.
    async fn give(&mut self) {
        let (Some(streams), Some(container)) = (self.streams.take(), self.container.clone()) else { return };
        let Ok(Ok(streams)) = streams.await else { return };
        self.progress.clear();
        self.progress.silence(true);
        let (engine, raw, keys) = (self.engine.clone(), self.show.raw, self.show.keys.clone());
        let resize = move |size| -> BoxFuture<'static, ()> {
            let (engine, container) = (engine.clone(), container.clone());
            Box::pin(async move { drop(engine.container_resize(&container, size).await) })
        };
        // A resize makes most programs redraw.
        self.resize().await;
        self.handover = Some(crate::task::spawn(terminal::give(streams, resize, raw, keys)));
    }

    /// Restores the user's terminal after the agent's last output.
    async fn take_back(&mut self) {
        if let Some(mut handover) = self.handover.take() {
            let ended = tokio::time::timeout(LAST_OUTPUT, &mut handover).await;
            if ended.is_err() {
                handover.abort();
                let _ = handover.await;
            }
        }
        self.mute = None;
        self.progress.silence(false);
    }

    async fn show(&mut self, at: u64, event: Event) {
        match event {
            Event::Step { name, state } => self.progress.step(&name, state, at),
            Event::Log(text) => self.progress.line(&format!("  {text}")),
            Event::Progress(text) => self.progress.working(&text),
            Event::Ask { id, what, text } => self.ask(id, what, &text),
            Event::AgentCreated { container } => self.attach(container),
            Event::Proof(lines) => {
                self.proof = lines;
                self.prepare().await;
            }
            Event::Released => {
                // The agent's output begins at the left.
                self.progress.rest();
                self.give().await;
            }
            Event::Ended { .. } => {
                self.ended = true;
                self.take_back().await;
            }
            Event::Audit(event) if self.audit.len() < MAX_AUDIT => self.audit.push(event),
            Event::Audit(_) => self.audit_not_kept += 1,
            Event::NotTight { why, red, unpaused } => {
                self.progress.alarm(&report::not_tight(&self.bottle, &why, &red, unpaused.as_deref()));
            }
            Event::Alarm(text) => self.progress.alarm(&text),
            Event::Request { bottle, id, kind, pending: true } => self.progress.line(&format!(
                "{bottle}: its agent asks ({kind}): `bottler requests show {bottle} {id}`, `bottler requests watch {bottle}`"
            )),
            Event::Request { .. } | Event::Made { .. } | Event::Bottle { .. } | Event::Hook { .. } | Event::SidecarsUp | Event::Paused(_) => {}
        }
    }

    /// Asks a question at the terminal in another thread; without a terminal, answers at once that nobody can be asked.
    fn ask(&mut self, id: u64, what: Question, text: &str) {
        let (to, text) = (self.to.clone(), report::printable(text));
        // While the agent has the terminal, the user cannot be asked.
        if !std::io::stdin().is_terminal() || self.handover.is_some() {
            to.send(&ToHolder::Answer { id, answer: None });
            return;
        }
        self.terminal = self.terminal.take().or_else(|| tcgetattr(std::io::stdin()).ok());
        let done = self.progress.pause();
        // A detached thread: the user may interrupt instead of answering.
        std::thread::spawn(move || {
            let answer = read_answer(what, &text).ok();
            done();
            to.send(&ToHolder::Answer { id, answer });
        });
    }

    async fn after_death(&mut self, state: &StateDir) -> SessionEnd {
        self.progress.clear();
        self.progress.line("the holder is gone; the reaper removes the bottle, and keeps its work");
        let (state, bottle) = (state.clone(), self.bottle.clone());
        let released = crate::task::blocking(move || state.wait_released(&bottle));
        // After that, `gc` reports the reason.
        let _ = tokio::time::timeout(REAPER, released).await;
        SessionEnd::HolderDied
    }

    /// The captured output of the agent.
    pub(in crate::cli) async fn take_output(&mut self) -> Vec<u8> {
        let Some(output) = self.output.take() else { return Vec::new() };
        tokio::time::timeout(LAST_OUTPUT, output).await.ok().and_then(Result::ok).unwrap_or_default()
    }
}

/// Waits until the agent returns the terminal; forever if it does not have it.
async fn handed_over(
    task: &mut Option<JoinHandle<std::io::Result<MutedTerminal>>>,
) -> Result<std::io::Result<MutedTerminal>, tokio::task::JoinError> {
    match task {
        Some(task) => task.await,
        None => std::future::pending().await,
    }
}

/// Waits until a moment; forever if there is none.
async fn passed(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
