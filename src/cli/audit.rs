//! `bottler audit`: what a bottle's sidecars decided, and whether the evidence is whole.

use std::path::Path;

use super::program::input;
use super::{Format, print_data, print_json, state};
use crate::audit::{self, Chain};
use crate::report::{printable, table};
use crate::session::{Class, Failure};
use crate::sidecar::Event;

/// What `audit` takes.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Show the decisions of a bottle's last launch
    Show {
        /// The bottle, running or gone
        bottle: String,
        /// Only what was refused
        #[arg(long)]
        refused: bool,
        /// How to print
        #[arg(long, value_enum, default_value = "text")]
        format: Format,
    },
    /// Check that nothing was changed; 0 if so, 1 if not
    Verify {
        /// The bottle, running or gone
        bottle: String,
        /// The head that was printed at the teardown
        #[arg(long)]
        head: Option<String>,
    },
}

pub(super) fn main(args: &Args) -> Result<u8, Failure> {
    let state = state()?;
    match &args.command {
        Command::Show { bottle, refused, format } => {
            let chain = chain(state.path(), bottle)?;
            let events = chain.events().filter(|event| !refused || event.kind.decision == "refuse");
            show(&events.collect::<Vec<_>>(), *format)?;
            Ok(0)
        }
        Command::Verify { bottle, head } => {
            let chain = chain(state.path(), bottle)?;
            let (text, whole) = verdict(&chain, head.as_deref());
            print_data(&format!("{text}\n"));
            Ok(u8::from(!whole))
        }
    }
}

/// The decisions of a bottle's last launch.
pub(super) fn chain(state: &Path, bottle: &str) -> Result<Chain, Failure> {
    let failed = |error: std::io::Error| Failure::new(Class::Input, format!("read the audit of {bottle}: {error}"));
    let path = audit::find(state, bottle).map_err(failed)?;
    let path = path.ok_or_else(|| {
        input(format!("there is no audit of a bottle {bottle}")).hint("the last 200 launches of this user are kept")
    })?;
    audit::read(&path).map_err(failed)
}

fn show(events: &[&Event], format: Format) -> Result<(), Failure> {
    if format == Format::Json {
        return print_json(&events);
    }
    let row = |event: &&Event| {
        let kind = &event.kind;
        let what = if kind.reason.is_empty() { String::new() } else { printable(&kind.reason) };
        let words = [&kind.decision, &kind.code, &kind.form, &kind.method, &kind.destination];
        let mut cells = vec![event.count.to_string()];
        cells.extend(words.map(|word| printable(word)));
        cells.push(what);
        cells
    };
    let rows: Vec<Vec<String>> = events.iter().map(row).collect();
    print_data(&table(&["COUNT", "DECISION", "CODE", "FORM", "METHOD", "DESTINATION", "REASON"], &rows));
    Ok(())
}

fn verdict(chain: &Chain, head: Option<&str>) -> (String, bool) {
    let lines = chain.records.len();
    if let Some(line) = chain.broken_at {
        return (format!("changed: line {line} does not fit the one before it"), false);
    }
    match head {
        Some(head) if head != chain.head => (format!("changed: the head is {}, not {head}", chain.head), false),
        Some(_) => (format!("whole: {lines} lines"), true),
        None if chain.ended => (format!("whole: {lines} lines, head {}", chain.head), true),
        None => {
            (format!("whole so far: {lines} lines, head {}; the launch has not ended, or was killed", chain.head), true)
        }
    }
}
