//! The commands, and what happens when one is called.

use clap::{Parser, Subcommand};

use super::bottle::{life, ps, work};
use super::launch::{resume, run};
use super::print::{print_message, report_unwritten};
use super::setup::{doctor, gc, init, lua, manifest, trust};
use super::{audit, ctl, policy};
use crate::session::Class;

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
