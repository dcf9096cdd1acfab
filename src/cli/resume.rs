//! `bottler resume`: a bottle that was kept lives again, planned afresh, with new keys; what is in its workspace is the
//! agent's.

use std::ffi::OsString;

use clap::Parser;

use super::life::Known;
use super::program::input;
use super::{Cli, Command, print_message, run};
use crate::engine::Engine;
use crate::report::printable;
use crate::session::{Class, Failure, Kept};

/// What `resume` takes.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The bottle
    bottle: String,
    /// A prompt instead of that of its launch
    #[arg(long)]
    prompt: Option<String>,
    /// Launch it and come back
    #[arg(short, long)]
    detach: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub(super) async fn main(args: &Args) -> Result<u8, Failure> {
    let known = Known::find(&args.bottle)?;
    let id = &known.id;
    if known.state.is_alive(id) {
        return Err(input(format!("{id} runs")).hint(format!("bottler attach {id}")));
    }
    let Some(kept) = Kept::of_dead(&known.state, id) else {
        return Err(input(format!("nothing of {id} is kept")).hint("`bottler ps --all` lists what is"));
    };
    known.engine.info().await?;
    // An engine makes a volume that is not there, and an agent would find an empty workspace.
    if !known.objects().await?.iter().any(|object| object.name == kept.volume) {
        return Err(input(format!("the workspace of {id} is gone from the engine")).hint(format!("bottler rm {id}")));
    }
    let broken = || Failure::new(Class::Internal, format!("{id} does not say how it was launched"));
    let invocation = known.record.invocation.clone().ok_or_else(broken)?;
    std::env::set_current_dir(&invocation.directory)
        .map_err(|error| input(format!("resume {id} in {}: {error}", invocation.directory.display())))?;
    let words = invocation.words.iter().cloned().map(OsString::from);
    let words = std::iter::once(OsString::from("bottler")).chain(words);
    let Ok(Cli { command: Command::Run(mut run) }) = Cli::try_parse_from(words) else { return Err(broken()) };
    run.again(args.prompt.clone(), args.detach, args.yes);
    let before = known.plan().ok().and_then(|plan| serde_json::to_value(plan).ok());
    run::launch(*run, invocation.words, Some(run::Resumed { id: id.clone(), before })).await
}

/// What is different from the plan that the bottle was launched with, a line for each place.
pub(super) fn tell_differences(before: &serde_json::Value, after: &serde_json::Value) {
    let mut found = Vec::new();
    differences("", before, after, &mut found);
    for line in found {
        print_message(&printable(&format!("different   {line}")));
    }
}

fn differences(place: &str, before: &serde_json::Value, after: &serde_json::Value, found: &mut Vec<String>) {
    use serde_json::Value;
    match (before, after) {
        (Value::Object(old), Value::Object(new)) => {
            let names: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for name in names {
                let below = if place.is_empty() { name.clone() } else { format!("{place}.{name}") };
                let none = Value::Null;
                differences(&below, old.get(name).unwrap_or(&none), new.get(name).unwrap_or(&none), found);
            }
        }
        (old, new) if old != new => found.push(format!("{place}: {} → {}", short(old), short(new))),
        _ => {}
    }
}

/// A value in one line; of a long one, its beginning.
fn short(value: &serde_json::Value) -> String {
    const LONG: usize = 120;
    let text = value.to_string();
    if text.chars().count() <= LONG { text } else { text.chars().take(LONG).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named_by_its_place() {
        let before = serde_json::json!({"a": {"b": 1, "c": [1]}, "d": null});
        let after = serde_json::json!({"a": {"b": 2, "c": [1]}, "e": "x"});
        let mut found = Vec::new();
        differences("", &before, &after, &mut found);
        assert_eq!(found, ["a.b: 1 → 2", "e: null → \"x\""]);
    }
}
