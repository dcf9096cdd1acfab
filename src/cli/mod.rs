//! The command line: one file for every command.

mod agent;
mod audit;
mod change;
mod client;
mod ctl;
mod detach;
mod doctor;
mod egress;
mod gc;
mod init;
mod left;
mod life;
mod lua;
mod manifest;
mod output;
mod policy;
mod preflight;
mod program;
mod ps;
mod question;
mod resume;
mod run;
mod terminal;
mod trust;
mod work;

use std::io::Write;
use std::sync::{Arc, OnceLock};

use clap::{Parser, Subcommand, ValueEnum};

use crate::engine::Engine;
use crate::engine::docker::{DockerEngine, endpoint};
use crate::session::{Class, Failure, StateDir};

/// Runs an AI coding agent with full permissions in a bottle: a container with no route out.
#[derive(Parser)]
#[command(version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Launch an agent in a bottle; `run probe` tries to get out of one and tells what happened
    Run(Box<run::Args>),
    /// Go to a running agent's terminal or output; ctrl-p ctrl-q, or `--detach-keys`, leaves it
    Attach(life::AttachArgs),
    /// Run a command beside a running agent
    Exec(life::ExecArgs),
    /// Show what an agent, or a sidecar, has written
    Logs(life::LogsArgs),
    /// Wait for the end of bottles, and print their exit codes
    Wait(life::WaitArgs),
    /// End a bottle
    Stop(life::BottleArgs),
    /// Show how an agent has changed its copy of the workspace
    Diff(work::DiffArgs),
    /// Fetch what an agent has changed: as a branch, or as a patch
    Pull(work::PullArgs),
    /// Launch a bottle again that was kept
    Resume(resume::Args),
    /// Remove a bottle that was kept
    Rm(life::RmArgs),
    /// List bottles
    Ps(ps::Args),
    /// Tell everything that is known of a bottle, as JSON
    Inspect(life::BottleArgs),
    /// Write a manifest to begin with
    Init(init::Args),
    /// What is defined: bottles, agents, templates
    Manifest(manifest::Args),
    /// Remove what dead bottles left behind
    Gc(gc::Args),
    /// Look at everything that a bottle needs, and say what to do
    Doctor(doctor::Args),
    /// Tools for those who write recipes
    Lua(lua::Args),
    /// Tell what egress would decide, goes by, or might go by
    Policy(policy::Args),
    /// Show what sidecars decided, and check that the evidence is whole
    Audit(audit::Args),
    /// Tell what a running bottle's egress has done so far
    Stats(ctl::StatsArgs),
    /// Trust the files of a project's .bottler/ as they are, or show what is not trusted
    Trust(trust::TrustArgs),
    /// Trust a project no more
    Untrust(trust::UntrustArgs),
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Runs a command; the exit code: the agent's own, 0, or 120–126 by class of failure.
pub async fn main() -> u8 {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors, and go to standard output.
            let _ = error.print();
            return if error.use_stderr() { Class::Input.exit_code() } else { 0 };
        }
    };
    // A script that never ends is the end of the command.
    crate::lua::on_runaway(|failure| print_message(&crate::report::failure(failure, &[])));
    let result = match cli.command {
        Command::Run(args) => run::main(*args).await,
        Command::Attach(args) => life::attach(&args).await,
        Command::Exec(args) => life::exec(&args).await,
        Command::Logs(args) => life::logs(&args).await,
        Command::Wait(args) => life::wait(&args).await,
        Command::Stop(args) => life::stop(&args).await,
        Command::Diff(args) => work::diff(&args).await,
        Command::Pull(args) => work::pull(&args).await,
        Command::Resume(args) => resume::main(&args).await,
        Command::Rm(args) => life::rm(&args).await,
        Command::Inspect(args) => life::inspect(&args).await,
        Command::Init(args) => init::main(&args),
        Command::Manifest(args) => manifest::main(&args),
        Command::Ps(args) => ps::main(&args).await,
        Command::Gc(args) => gc::main(&args).await,
        Command::Doctor(args) => doctor::main(&args).await,
        Command::Lua(args) => lua::main(args).await,
        Command::Policy(args) => policy::main(&args).await,
        Command::Audit(args) => audit::main(&args),
        Command::Stats(args) => ctl::stats(&args).await,
        Command::Trust(args) => trust::trust(&args),
        Command::Untrust(args) => trust::untrust(&args),
    };
    // A code of the agent's own says more.
    let result = result.and_then(|code| if code == 0 { report_unwritten() } else { Ok(code) });
    result.unwrap_or_else(|failure| {
        print_message(&crate::report::failure(&failure, &[]));
        failure.class.exit_code()
    })
}

/// The engine's address, the engine, and this user's bottles.
async fn engine() -> Result<(String, Arc<dyn Engine>, StateDir), Failure> {
    let endpoint = find_engine()?;
    let engine = DockerEngine::connect(&endpoint)?;
    engine.info().await?;
    Ok((endpoint, Arc::new(engine), state()?))
}

fn find_engine() -> Result<String, Failure> {
    endpoint::resolve()
        .map(|endpoint| endpoint.to_string())
        .map_err(|why| Failure::new(Class::Engine, why).hint("`docker context ls` shows what there is"))
}

fn state() -> Result<StateDir, Failure> {
    let state = StateDir::open().map_err(|error| {
        Failure::new(Class::Internal, format!("open the state directory: {error}"))
            .hint("set XDG_STATE_HOME to a writable directory")
    })?;
    if let Some(notice) = &state.notice {
        print_message(&crate::report::printable(&format!("warning: {notice}")));
    }
    Ok(state)
}

fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::new(Class::Internal, error.to_string()))?;
    print_data(&format!("{text}\n"));
    Ok(())
}

/// Why standard output has not taken everything, where it has not.
static UNWRITTEN: OnceLock<String> = OnceLock::new();

/// Notes how a write ended. A reader that has had enough, as in `| head`, is no error.
fn note_written(written: std::io::Result<()>) {
    if let Err(error) = written
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        let _ = UNWRITTEN.set(error.to_string());
    }
}

/// Fails where standard output has not taken everything.
fn report_unwritten() -> Result<u8, Failure> {
    match UNWRITTEN.get() {
        None => Ok(0),
        Some(why) => Err(Failure::new(Class::Internal, format!("write to standard output: {why}"))),
    }
}

/// Writes data to standard output; what goes wrong is told at the end of the command.
fn print_data(text: &str) {
    let mut out = std::io::stdout().lock();
    note_written(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

/// Writes a line for people to standard error, where there is one.
fn print_message(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
