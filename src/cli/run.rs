//! `bottler run`: plans, starts the holder, and is its client until the bottle is gone.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use serde::Serialize;
use tokio::net::UnixStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;

use super::{Format, find_engine, print_data, print_json, state};
use crate::engine::docker::DockerEngine;
use crate::engine::{Engine, Output};
use crate::holder::{self, FromHolder, Launch, Report, ToHolder, Wire};
use crate::lua::{Script, built_in_recipe};
use crate::plan::{AgentTemplate, LaunchPlan};
use crate::primitive::Event;
use crate::probe::{Line, passed};
use crate::report::{self, Progress};
use crate::session::{Class, Failure, StateDir, new_id, valid_name};
use crate::sidecar;

/// Most that is kept of the probe's output, in bytes.
const MAX_PROBE: usize = 4 << 20;
/// How long the agent's last output may take to arrive after its end.
const LAST_OUTPUT: Duration = Duration::from_secs(2);
/// How long to wait for the reaper when the holder has died.
const REAPER: Duration = Duration::from_secs(30);
/// Audit events kept for the report; further ones are counted.
const MAX_AUDIT: usize = 1000;

/// What `run` takes.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The agent: `probe`
    #[arg(default_value = "probe")]
    agent: String,
    /// The recipe: a file, or the name of a built-in one [default: the agent's own]
    #[arg(long, value_name = "FILE|NAME")]
    recipe: Option<String>,
    /// The bottle's name; without it, the agent's name and five random characters
    #[arg(long)]
    name: Option<String>,
    /// The prompt
    #[arg(long)]
    prompt: Option<String>,
    /// A host that the agent may reach, on top of what its template allows; may be repeated
    #[arg(long, value_name = "HOST")]
    allow: Vec<String>,
    /// How to print the result
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(super) async fn main(args: Args) -> Result<u8, Failure> {
    let (plan, script) = plan(&args)?;
    let (endpoint, state) = (find_engine()?, state()?);
    // Asked before anything is started: a missing engine is the most common mistake.
    let engine = Arc::new(DockerEngine::connect(&endpoint)?);
    engine.info().await?;
    let capture = plan.agent.name == "probe" && args.recipe.is_none() || args.format == Format::Json;
    let launch = Launch { plan, script, endpoint, state: state.path().to_owned() };
    let mut client = Client::start(launch, engine, capture)
        .map_err(|error| Failure::new(Class::Internal, format!("start the holder: {error:#}")))?;
    match client.follow(&state).await? {
        Ended::Reported(report) => finish(&args, &mut client, &report).await,
        Ended::LeftToReaper => {
            client.progress.line("left to the reaper");
            Ok(Class::Cancelled.exit_code())
        }
        Ended::HolderDied => Err(Failure::new(Class::Internal, format!("the holder of {} died", client.bottle))
            .hint("`bottler ps` shows if anything is left, `bottler gc` removes it")),
    }
}

fn plan(args: &Args) -> Result<(LaunchPlan, Script), Failure> {
    let input = |message: String| Failure::new(Class::Input, message);
    let template = AgentTemplate::built_in(&args.agent).map_err(|error| input(error.to_string()))?;
    let bottle = match &args.name {
        Some(name) if valid_name(name) => name.clone(),
        Some(name) => {
            return Err(input(format!("--name {name:?} cannot be a bottle's name"))
                .hint("lower-case letters, digits and hyphens, a letter first, at most 40"));
        }
        None => {
            new_id(&args.agent).map_err(|error| Failure::new(Class::Internal, format!("choose a name: {error}")))?
        }
    };
    for host in &args.allow {
        host.parse::<crate::policy::Rule>()
            .map_err(|error| input(format!("--allow {error}")).hint("a host, or \"*.\" and a host"))?;
    }
    let script = script(args.recipe.as_deref().unwrap_or(&template.recipe))?;
    let plan = crate::plan::resolve(
        &bottle,
        args.name.is_some(),
        &args.agent,
        &template,
        args.prompt.clone(),
        args.allow.clone(),
    );
    Ok((plan, script))
}

fn script(recipe: &str) -> Result<Script, Failure> {
    let is_file = Path::new(recipe).extension().is_some_and(|extension| extension == "lua") || recipe.contains('/');
    if !is_file {
        return built_in_recipe(recipe).ok_or_else(|| {
            Failure::new(Class::Input, format!("there is no recipe {recipe:?}"))
                .hint("a file ending in .lua, or one of: launch, probe")
        });
    }
    let source = std::fs::read_to_string(recipe)
        .map_err(|error| Failure::new(Class::Input, format!("read recipe {recipe}: {error}")))?;
    Ok(Script { name: recipe.to_owned(), source })
}

/// How it ended, seen from here.
enum Ended {
    Reported(Box<Report>),
    /// The user asked a third time.
    LeftToReaper,
    /// The holder died.
    HolderDied,
}

struct Client {
    bottle: String,
    from: holder::Receiver<FromHolder>,
    to: Wire,
    engine: Arc<DockerEngine>,
    capture: bool,
    progress: Progress,
    output: Option<JoinHandle<Vec<u8>>>,
    proof: Vec<Line>,
    audit: Vec<sidecar::Event>,
    audit_not_kept: usize,
}

impl Client {
    fn start(launch: Launch, engine: Arc<DockerEngine>, capture: bool) -> anyhow::Result<Self> {
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
        })
    }

    /// Shows what happens and passes signals on, until the end.
    async fn follow(&mut self, state: &StateDir) -> Result<Ended, Failure> {
        let mut signals =
            Signals::new().map_err(|error| Failure::new(Class::Internal, format!("listen for signals: {error}")))?;
        let mut asked = 0;
        loop {
            tokio::select! {
                message = self.from.next() => match message {
                    Ok(Some(FromHolder::Event { at, event })) => self.show(at, event),
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
            Event::AgentCreated { container } => {
                let (engine, to, capture) = (self.engine.clone(), self.to.clone(), self.capture);
                self.output = Some(tokio::spawn(async move { follow_output(&engine, &container, &to, capture).await }));
            }
            Event::Proof(lines) => self.proof = lines,
            Event::Audit(event) if self.audit.len() < MAX_AUDIT => self.audit.push(event),
            Event::Audit(_) => self.audit_not_kept += 1,
            Event::SidecarsUp | Event::Released | Event::Ended { .. } => {}
        }
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
    async fn take_output(&mut self) -> Vec<u8> {
        let Some(output) = self.output.take() else { return Vec::new() };
        tokio::time::timeout(LAST_OUTPUT, output).await.ok().and_then(Result::ok).unwrap_or_default()
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
            Output::Stdout(bytes) if capture && kept.len() < MAX_PROBE => kept.extend_from_slice(&bytes),
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

/// The result as data.
#[derive(Serialize)]
struct Data<'a> {
    #[serde(flatten)]
    report: &'a Report,
    /// The lines of the agent `probe`; those of the release probe where that was red or the agent is another.
    lines: &'a [Line],
    /// Decisions of the sidecars.
    audit: &'a [sidecar::Event],
    /// Decisions beyond those kept.
    audit_not_kept: usize,
    /// What the agent wrote.
    output: String,
}

async fn finish(args: &Args, client: &mut Client, report: &Report) -> Result<u8, Failure> {
    let output = client.take_output().await;
    client.progress.clear();
    let own: Option<Vec<Line>> = serde_json::from_slice(&output).ok();
    let lines = own.as_deref().unwrap_or(&client.proof);
    if args.format == Format::Json {
        let output = String::from_utf8_lossy(&output).into_owned();
        print_json(&Data { report, lines, audit: &client.audit, audit_not_kept: client.audit_not_kept, output })?;
    } else if !lines.is_empty() && (client.capture || !passed(&client.proof)) {
        print_data(&report::probe_table(lines));
    }
    if args.format == Format::Text && report.times.sidecars_up.is_some() {
        client.progress.line(&report::times(&report.times));
    }
    if let Some(failure) = &report.failure {
        client.progress.line(&report::failure(failure, &report.undo));
        return Ok(failure.class.exit_code());
    }
    if let Some(left) = report::left(&report.undo) {
        client.progress.line(&left);
        return Ok(Class::Operation.exit_code());
    }
    let code = report.exit_code.unwrap_or_default();
    let red = client.capture && own.as_deref().is_some_and(|lines| !passed(lines));
    Ok(if red { Class::Isolation.exit_code() } else { u8::try_from(code & 0xff).unwrap_or(u8::MAX) })
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
