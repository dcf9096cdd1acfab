//! The client of one holder: shows what happens, asks what is asked, passes signals on, until the bottle is gone.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use tokio::net::UnixStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;

use crate::engine::docker::DockerEngine;
use crate::engine::{Engine, Output};
use crate::holder::{self, FromHolder, Launch, Report, ToHolder, Wire};
use crate::primitive::{Event, Question};
use crate::probe::Line;
use crate::report::{self, Progress};
use crate::session::{Class, Failure, StateDir};
use crate::sidecar;

/// Most that is kept of the agent's output, in bytes.
const MAX_OUTPUT: usize = 4 << 20;
/// How long the agent's last output may take to arrive after its end.
const LAST_OUTPUT: Duration = Duration::from_secs(2);
/// How long to wait for the reaper when the holder has died.
const REAPER: Duration = Duration::from_secs(30);
/// Audit events kept for the report; further ones are counted.
const MAX_AUDIT: usize = 1000;

/// How it ended, seen from here.
pub(super) enum Ended {
    Reported(Box<Report>),
    /// The user asked a third time.
    LeftToReaper,
    /// The holder died.
    HolderDied,
}

pub(super) struct Client {
    pub(super) bottle: String,
    from: holder::Receiver<FromHolder>,
    to: Wire,
    engine: Arc<DockerEngine>,
    pub(super) capture: bool,
    pub(super) progress: Progress,
    output: Option<JoinHandle<Vec<u8>>>,
    pub(super) proof: Vec<Line>,
    pub(super) audit: Vec<sidecar::Event>,
    pub(super) audit_not_kept: usize,
    /// The terminal as it was before the first question.
    terminal: Option<Termios>,
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(before) = &self.terminal {
            // A question that was not answered may have left it hidden.
            let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, before);
        }
    }
}

impl Client {
    pub(super) fn start(launch: Launch, engine: Arc<DockerEngine>, capture: bool) -> anyhow::Result<Self> {
        let socket = holder::spawn()?;
        socket.set_nonblocking(true)?;
        let (from, to) = holder::split(UnixStream::from_std(socket)?);
        let bottle = launch.plan.bottle.clone();
        to.send(&ToHolder::Launch(Box::new(launch)));
        Ok(Self {
            bottle,
            from,
            to,
            engine,
            capture,
            progress: Progress::new(),
            output: None,
            proof: Vec::new(),
            audit: Vec::new(),
            audit_not_kept: 0,
            terminal: None,
        })
    }

    /// Shows what happens and passes signals on, until the end.
    pub(super) async fn follow(&mut self, state: &StateDir) -> Result<Ended, Failure> {
        let mut signals =
            Signals::new().map_err(|error| Failure::new(Class::Internal, format!("listen for signals: {error}")))?;
        let mut asked = 0;
        loop {
            tokio::select! {
                message = self.from.next() => match message {
                    Ok(Some(FromHolder::Event { at, event })) => self.show(at, *event),
                    Ok(Some(FromHolder::Finished(report))) => return Ok(Ended::Reported(report)),
                    Ok(None) | Err(_) => return Ok(self.after_death(state).await),
                },
                () = signals.next() => {
                    asked += 1;
                    self.to.send(&ToHolder::Cancel);
                    match asked {
                        1 => self.progress.line("stopping; once more to kill at once, twice more to leave it to the reaper"),
                        2 => self.progress.line("killing"),
                        _ => {
                            self.to.close().await;
                            return Ok(Ended::LeftToReaper);
                        }
                    }
                }
            }
        }
    }

    fn show(&mut self, at: u64, event: Event) {
        match event {
            Event::Step { name, state } => self.progress.step(&name, state, at),
            Event::Log(text) => self.progress.line(&format!("  {text}")),
            Event::Progress(text) => self.progress.working(&text),
            Event::Ask { id, what, text } => self.ask(id, what, &text),
            Event::AgentCreated { container } => {
                let (engine, to, capture) = (self.engine.clone(), self.to.clone(), self.capture);
                self.output = Some(tokio::spawn(async move { follow_output(&engine, &container, &to, capture).await }));
            }
            Event::Proof(lines) => self.proof = lines,
            Event::Audit(event) if self.audit.len() < MAX_AUDIT => self.audit.push(event),
            Event::Audit(_) => self.audit_not_kept += 1,
            Event::Made { .. }
            | Event::Bottle { .. }
            | Event::Hook { .. }
            | Event::SidecarsUp
            | Event::Released
            | Event::Ended { .. } => {}
        }
    }

    /// Asks at the terminal, aside from what goes on; where there is none, says so at once.
    fn ask(&mut self, id: u64, what: Question, text: &str) {
        let (to, text) = (self.to.clone(), report::printable(text));
        if !std::io::stdin().is_terminal() {
            to.send(&ToHolder::Answer { id, answer: None });
            return;
        }
        self.terminal = self.terminal.take().or_else(|| tcgetattr(std::io::stdin()).ok());
        let done = self.progress.pause();
        // A thread that nobody waits for: the user may end everything instead of answering.
        std::thread::spawn(move || {
            let answer = read_answer(what, &text).ok();
            done();
            to.send(&ToHolder::Answer { id, answer });
        });
    }

    async fn after_death(&mut self, state: &StateDir) -> Ended {
        self.progress.clear();
        self.progress.line("the holder is gone; the reaper removes the bottle");
        let (state, bottle) = (state.clone(), self.bottle.clone());
        let released = tokio::task::spawn_blocking(move || state.wait_released(&bottle));
        // Longer than that, and `gc` says why.
        let _ = tokio::time::timeout(REAPER, released).await;
        Ended::HolderDied
    }

    /// What the agent wrote, where it was kept.
    pub(super) async fn take_output(&mut self) -> Vec<u8> {
        let Some(output) = self.output.take() else { return Vec::new() };
        tokio::time::timeout(LAST_OUTPUT, output).await.ok().and_then(Result::ok).unwrap_or_default()
    }
}

fn read_answer(what: Question, text: &str) -> std::io::Result<String> {
    // Before the question is there: an answer that is typed at once is not shown either.
    let _hidden = if what == Question::Secret { Some(Hidden::new()?) } else { None };
    let end = if what == Question::Confirm { " [y/N] " } else { ": " };
    // Nothing is locked while the user thinks: what else happens is told meanwhile.
    let mut err = std::io::stderr();
    write!(err, "{text}{end}")?;
    err.flush()?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    if what == Question::Secret {
        writeln!(err)?;
    }
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

/// A terminal that does not show what is typed, as long as this lives.
struct Hidden(Termios);

impl Hidden {
    fn new() -> std::io::Result<Self> {
        let before = tcgetattr(std::io::stdin())?;
        let mut hidden = before.clone();
        hidden.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(std::io::stdin(), SetArg::TCSANOW, &hidden)?;
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, &self.0);
    }
}

/// The agent's output, straight from the engine: kept, or passed on as it comes.
async fn follow_output(engine: &DockerEngine, container: &str, to: &Wire, capture: bool) -> Vec<u8> {
    let attached = engine.container_attach(container).await;
    to.send(&ToHolder::Attached);
    let Ok(mut streams) = attached else { return Vec::new() };
    let mut kept = Vec::new();
    while let Some(Ok(piece)) = streams.output.next().await {
        match piece {
            Output::Stdout(bytes) if capture && kept.len() < MAX_OUTPUT => kept.extend_from_slice(&bytes),
            Output::Stdout(bytes) if !capture => {
                pass_on(&mut std::io::stdout().lock(), std::io::stdout().is_terminal(), &bytes);
            }
            Output::Stdout(_) => {}
            Output::Stderr(bytes) => pass_on(&mut std::io::stderr().lock(), std::io::stderr().is_terminal(), &bytes),
        }
    }
    kept
}

/// Writes an agent's bytes; onto a terminal only what cannot drive it. A reader that is gone stops nothing.
fn pass_on(to: &mut impl Write, terminal: bool, bytes: &[u8]) {
    let _ = if terminal {
        to.write_all(report::printable(&String::from_utf8_lossy(bytes)).as_bytes())
    } else {
        to.write_all(bytes)
    };
    let _ = to.flush();
}

struct Signals([Signal; 3]);

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self([signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?]))
    }

    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
