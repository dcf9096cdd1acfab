//! `bottler stats`: prints the counters of a running bottle's egress.

use crate::cli::bottle::find::FoundBottle;
use crate::cli::print::{print_data, print_json};
use crate::primitive::ask_sidecar;
use crate::session::Failure;
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
    let found = FoundBottle::living(&args.bottle).await?;
    let numbers = ask_sidecar::<Egress>(&found.engine, &args.bottle, &found.state.owner, Ask::Stats).await?;
    match args.format {
        StatsFormat::Json => print_json(&numbers)?,
        StatsFormat::Prometheus => print_data(&numbers.prometheus(&args.bottle)),
    }
    Ok(0)
}
