//! `bottler sidecar restart`.

use super::bottle::find::FoundBottle;
use super::open::check_running;
use super::print::print_message;
use crate::holder::restart_sidecar;
use crate::session::Failure;

/// What `sidecar` takes.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Start a dead sidecar again, with its last configuration and the active policy; without egress the agent stays paused
    /// until a proof is green
    Restart {
        /// The bottle
        bottle: String,
        /// The sidecar, as `bottler ps` names it
        name: String,
    },
}

pub(super) async fn main(args: &Args) -> Result<u8, Failure> {
    let Command::Restart { bottle, name } = &args.command;
    let known = FoundBottle::find(bottle)?;
    check_running(&known.state, bottle)?;
    restart_sidecar(bottle, &known.state.bottle(bottle), name).await?;
    print_message(&format!("{name} of {bottle} was restarted"));
    Ok(0)
}
