//! The table of commands.

use clap::{Parser, Subcommand};

use super::bottle::{fetch, life, ps};
use super::git;
use super::launch::{resume, run};
use super::policy::{audit, command as policy, stats};
use super::print::{print_message, report_unwritten};
use super::requests::command as requests;
use super::setup::{credentials, doctor, gc, init, lua, manifest, trust};
use super::sidecar;
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
    /// Launch an agent in a bottle; `run probe` tries to leave one and prints what happened
    Run(Box<run::Args>),
    /// Connect to a running agent's terminal or output; ctrl-p ctrl-q, or `--detach-keys`, disconnects
    Attach(life::AttachArgs),
    /// Run a command beside a running agent
    Exec(life::ExecArgs),
    /// Print the output of an agent or a sidecar
    Logs(life::LogsArgs),
    /// Wait until bottles end, and print their exit codes
    Wait(life::WaitArgs),
    /// End a bottle
    Stop(life::BottleArgs),
    /// Show what an agent changed in its copy of the workspace
    Diff(fetch::DiffArgs),
    /// Fetch what an agent changed, as a branch, a patch or an archive
    Pull(fetch::PullArgs),
    /// Launch a kept bottle again
    Resume(resume::Args),
    /// Remove a kept bottle
    Rm(life::RmArgs),
    /// List bottles
    Ps(ps::Args),
    /// Print everything that is known about a bottle, as JSON
    Inspect(life::BottleArgs),
    /// Write a first manifest
    Init(init::Args),
    /// Check the manifest, list its agents, print its schema
    Manifest(manifest::Args),
    /// Check that the sources of credentials have their values, or read them again for a running bottle
    Credentials(credentials::Args),
    /// Remove what dead bottles left behind
    Gc(gc::Args),
    /// Check everything that a bottle needs, and say how to fix what is wrong
    Doctor(doctor::Args),
    /// Check, rehearse and test recipes; none of these commands needs an engine
    Lua(lua::Args),
    /// Explain, print and change what may leave a bottle
    Policy(policy::Args),
    /// List what agents ask for, and decide about it
    Requests(requests::Args),
    /// Print the decisions of sidecars, and check that the audit log is intact
    Audit(audit::Args),
    /// Print counters of a running bottle's egress
    Stats(stats::StatsArgs),
    /// List pushes that the git gate has refused, and approve one
    Git(git::Args),
    /// Start a dead sidecar of a running bottle again
    Sidecar(sidecar::Args),
    /// Trust the files in a project's .bottler/ as they are now, or show what is not trusted
    Trust(trust::TrustArgs),
    /// Stop trusting a project
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
        Command::Run(args) => Box::pin(run::main(*args)).await,
        Command::Attach(args) => life::attach(&args).await,
        Command::Exec(args) => life::exec(&args).await,
        Command::Logs(args) => life::logs(&args).await,
        Command::Wait(args) => life::wait(&args).await,
        Command::Stop(args) => life::stop(&args).await,
        Command::Diff(args) => fetch::diff(&args).await,
        Command::Pull(args) => fetch::pull(&args).await,
        Command::Resume(args) => Box::pin(resume::main(&args)).await,
        Command::Rm(args) => life::rm(&args).await,
        Command::Inspect(args) => life::inspect(&args).await,
        Command::Init(args) => init::main(&args),
        Command::Manifest(args) => manifest::main(&args),
        Command::Credentials(args) => credentials::main(&args).await,
        Command::Ps(args) => ps::main(&args).await,
        Command::Gc(args) => gc::main(&args).await,
        Command::Doctor(args) => doctor::main(&args).await,
        Command::Lua(args) => lua::main(args).await,
        Command::Policy(args) => policy::main(&args).await,
        Command::Requests(args) => requests::main(&args).await,
        Command::Audit(args) => audit::main(&args),
        Command::Stats(args) => stats::stats(&args).await,
        Command::Git(args) => git::main(&args).await,
        Command::Sidecar(args) => sidecar::main(&args).await,
        Command::Trust(args) => trust::trust(&args),
        Command::Untrust(args) => trust::untrust(&args),
    };
    // The agent's exit code takes precedence.
    let result = result.and_then(|code| if code == 0 { report_unwritten() } else { Ok(code) });
    result.unwrap_or_else(|failure| {
        print_message(&crate::report::failure(&failure, &[]));
        failure.class.exit_code()
    })
}
