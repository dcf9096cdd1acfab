//! `bottler audit`: prints the decisions of a bottle's sidecars and verifies the log.

use std::path::Path;

use crate::audit::{self, Chain, Entry};
use crate::cli::failure::input;
use crate::cli::open::state;
use crate::cli::print::{Format, print_data, print_json, print_message};
use crate::policy::is_probe_host;
use crate::report::{printable, table};
use crate::session::{Class, Failure};
use crate::sidecar::Event;

/// What `audit` takes.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Print the decisions of a bottle's last launch, or of an earlier one
    Show {
        /// The id of a bottle that runs or has ended
        bottle: String,
        /// So many launches before the last one
        #[arg(long, value_name = "N", default_value_t = 0)]
        back: usize,
        /// Only refusals
        #[arg(long)]
        refused: bool,
        /// The output format
        #[arg(long, value_enum, default_value = "text")]
        format: Format,
    },
    /// Check that the audit log is unchanged and complete; exits with 0 if it is and 1 if not
    Verify {
        /// The id of a bottle that runs or has ended
        bottle: String,
        /// The hash that was printed when the bottle ended; that of an earlier launch finds its log
        #[arg(long)]
        head: Option<String>,
    },
}

pub(in crate::cli) fn main(args: &Args) -> Result<u8, Failure> {
    let state = state()?;
    match &args.command {
        Command::Show { bottle, back, refused, format } => {
            let chain = chain(state.path(), bottle, *back)?;
            if let Some(warning) = warning(&chain) {
                print_message(&format!("warning: the audit of {bottle}: {warning}"));
            }
            let events = chain.events().filter(|event| !refused || event.kind.decision == "refuse");
            show(&events.collect::<Vec<_>>(), *format)?;
            Ok(0)
        }
        Command::Verify { bottle, head } => {
            let chain = match head {
                Some(head) => ended_with(state.path(), bottle, head)?,
                None => None,
            };
            let chain = chain.map_or_else(|| self::chain(state.path(), bottle, 0), Ok)?;
            let (text, whole) = verdict(&chain, head.as_deref());
            print_data(&format!("{text}\n"));
            Ok(u8::from(!whole))
        }
    }
}

/// The decisions of a launch of a bottle: the last one, or one so many before it.
pub(in crate::cli) fn chain(state: &Path, bottle: &str, back: usize) -> Result<Chain, Failure> {
    let logs = audit::logs(state, bottle).map_err(|error| unread(bottle, &error))?;
    let path = logs.get(back).ok_or_else(|| {
        let missing = match logs.len() {
            0 => format!("there is no audit log of bottle {bottle}"),
            count => {
                format!("there are audit logs of {count} launches of bottle {bottle}, and none {back} before the last")
            }
        };
        input(missing).hint("logs of running bottles, and of the last 200 that have ended, are kept")
    })?;
    audit::read(path).map_err(|error| unread(bottle, &error))
}

/// The log of a bottle that ends with a hash, if there is one.
fn ended_with(state: &Path, bottle: &str, head: &str) -> Result<Option<Chain>, Failure> {
    let logs = audit::logs(state, bottle).map_err(|error| unread(bottle, &error))?;
    // One that cannot be read is not the one; without any, the last one is judged.
    Ok(logs.iter().filter_map(|path| audit::read(path).ok()).find(|chain| chain.head == head))
}

fn unread(bottle: &str, error: &std::io::Error) -> Failure {
    Failure::new(Class::Input, format!("read the audit of {bottle}: {error}"))
}

fn show(events: &[&Event], format: Format) -> Result<(), Failure> {
    if format == Format::Json {
        return print_json(&events);
    }
    // The probe's own requests say nothing about the agent.
    let (of_probe, events): (Vec<&Event>, Vec<&Event>) =
        events.iter().partition(|event| is_probe_host(&event.kind.destination));
    let count: u64 = of_probe.iter().map(|event| event.count).sum();
    if count > 0 {
        print_message(&format!(
            "{count} decisions about the probe's own requests are not listed; --format json has them"
        ));
    }
    // The client is shown only if a sidecar has made a request.
    let by_sidecars = events.iter().any(|event| !event.kind.client.is_empty());
    let row = |event: &&Event| {
        let kind = &event.kind;
        let what = if kind.reason.is_empty() { String::new() } else { printable(&kind.reason) };
        let words = [&kind.decision, &kind.code, &kind.form, &kind.method, &kind.destination];
        let mut cells = vec![event.count.to_string()];
        cells.extend(words.map(|word| printable(word)));
        cells.push(what);
        if by_sidecars {
            cells.insert(1, if kind.client.is_empty() { "agent".to_owned() } else { printable(&kind.client) });
        }
        cells
    };
    let rows: Vec<Vec<String>> = events.iter().map(row).collect();
    let mut names = vec!["COUNT", "DECISION", "CODE", "FORM", "METHOD", "DESTINATION", "REASON"];
    if by_sidecars {
        names.insert(1, "CLIENT");
    }
    print_data(&table(&names, &rows));
    Ok(())
}

/// A warning about a damaged log.
fn warning(chain: &Chain) -> Option<String> {
    if let Some(line) = chain.broken_at {
        return Some(format!("line {line} does not match the line before it, or cannot be read"));
    }
    (chain.torn > 0).then(|| format!("its last line is torn: {} bytes", chain.torn))
}

fn verdict(chain: &Chain, head: Option<&str>) -> (String, bool) {
    let lines = chain.records.len();
    if let Some(line) = chain.broken_at {
        return (format!("changed: line {line} does not match the line before it, or cannot be read"), false);
    }
    let (text, whole) = match head {
        Some(head) if head != chain.head => {
            (format!("changed: no log of it ends with {head}; that of the last launch ends with {}", chain.head), false)
        }
        _ if chain.torn > 0 => {
            let text = format!(
                "intact except for a torn last line of {} bytes: {lines} lines, head {}",
                chain.torn, chain.head
            );
            (format!("{text}; the holder was killed, or its machine lost power"), false)
        }
        Some(_) => (format!("intact: {lines} lines"), true),
        None if chain.ended => (format!("intact: {lines} lines, head {}", chain.head), true),
        None => {
            let why = if chain.written { "the launch has not ended" } else { "the launch was killed" };
            (format!("intact so far: {lines} lines, head {}; {why}", chain.head), true)
        }
    };
    let notes: Vec<String> = chain.records.iter().filter_map(|record| note(&record.line)).collect();
    (notes.iter().fold(text, |text, note| format!("{text}\n{note}")), whole)
}

/// A note about the log itself.
fn note(line: &Entry) -> Option<String> {
    match line {
        Entry::Missed { since, until, events, why } => Some(format!(
            "note: {events} decisions could not be written when they were made, for {} s: {why}",
            until.saturating_sub(*since).div_ceil(1000)
        )),
        Entry::Repaired { cut, kept, .. } => {
            Some(format!("note: a torn line of {cut} bytes was cut off, and is kept in {kept}"))
        }
        Entry::Ended { left_out, .. } if !left_out.is_empty() => {
            let counted: Vec<String> = left_out.iter().map(|(name, count)| format!("{count} {name}")).collect();
            Some(format!("note: decisions that were only counted: {}", counted.join(", ")))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_end_is_told_and_is_no_whole_one() {
        let chain = |torn, written, broken_at| Chain {
            records: Vec::new(),
            head: "abc".into(),
            ended: false,
            broken_at,
            torn,
            written,
        };
        let verdict = |chain: Chain, head| verdict(&chain, head);
        assert!(verdict(chain(0, true, None), None).0.contains("has not ended"));
        assert!(verdict(chain(0, false, None), None).0.contains("was killed"));
        let (text, whole) = verdict(chain(7, false, None), Some("abc"));
        assert!(
            text.starts_with("intact except for a torn last line of 7 bytes: 0 lines, head abc") && !whole,
            "{text}"
        );
        assert!(verdict(chain(7, false, None), Some("def")).0.starts_with("changed: no log"));
        assert!(!verdict(chain(7, false, Some(1)), None).1);
    }
}
