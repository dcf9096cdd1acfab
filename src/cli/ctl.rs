//! What is asked of a running bottle's egress; `bottler stats`.

use super::failure::input;
use super::open::engine;
use super::print::{print_data, print_json};
use crate::primitive::ask_egress;
use crate::session::{Class, Failure};
use crate::sidecar::ctl::{Answer, Question};
use crate::sidecar::egress::Stats;

/// What `stats` takes.
#[derive(clap::Args)]
pub(super) struct StatsArgs {
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

pub(super) async fn stats(args: &StatsArgs) -> Result<u8, Failure> {
    let Answer::Stats(stats) = ask(&args.bottle, Question::Stats).await? else { return Err(confused(&args.bottle)) };
    match args.format {
        StatsFormat::Json => print_json(&stats)?,
        StatsFormat::Prometheus => print_data(&stats.prometheus(&args.bottle)),
    }
    Ok(0)
}

/// Asks the egress of a bottle of this user.
pub(super) async fn ask(bottle: &str, question: Question) -> Result<Answer<Stats>, Failure> {
    let (_, engine, state) = engine().await?;
    if !state.is_alive(bottle) {
        return Err(input(format!("there is no running bottle {bottle}")).hint("`bottler ps` lists them"));
    }
    ask_egress(&engine, bottle, &state.owner, &question).await
}

pub(super) fn confused(bottle: &str) -> Failure {
    Failure::new(Class::Internal, format!("ask egress of {bottle}: it gave an unexpected answer"))
}
