//! What is asked of a running bottle's egress; `bottler stats`.

use crate::cli::failure::input;
use crate::cli::open::engine;
use crate::cli::print::{print_data, print_json};
use crate::primitive::ask_sidecar;
use crate::session::Failure;
use crate::sidecar::Role;
use crate::sidecar::egress::{Ask, Egress};

/// What `stats` takes.
#[derive(clap::Args)]
pub(in crate::cli) struct StatsArgs {
    /// The bottle's id
    bottle: String,
    /// The output format
    #[arg(long, value_enum, default_value = "json")]
    format: StatsFormat,
}

/// How numbers are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum StatsFormat {
    /// For programs.
    Json,
    /// Prometheus' text.
    Prometheus,
}

pub(in crate::cli) async fn stats(args: &StatsArgs) -> Result<u8, Failure> {
    let stats = ask::<Egress>(&args.bottle, Ask::Stats).await?;
    match args.format {
        StatsFormat::Json => print_json(&stats)?,
        StatsFormat::Prometheus => print_data(&stats.prometheus(&args.bottle)),
    }
    Ok(0)
}

/// Asks the sidecar of a role of a bottle of this user.
pub(in crate::cli) async fn ask<R: Role>(bottle: &str, ask: R::Ask) -> Result<R::Answer, Failure> {
    let (_, engine, state) = engine().await?;
    if !state.is_alive(bottle) {
        return Err(input(format!("there is no running bottle {bottle}")).hint("`bottler ps` lists them"));
    }
    ask_sidecar::<R>(&engine, bottle, &state.owner, ask).await
}
