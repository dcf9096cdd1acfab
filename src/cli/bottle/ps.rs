//! `bottler ps`: the bottles of this user on this engine.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::cli::open::engines;
use crate::cli::print::{Format, print_data, print_json};
use crate::engine::Filter;
use crate::report::table;
use crate::session::exit_record::{self, ExitRecord};
use crate::session::{Class, Condition, Failure, KeptWorkspace};

/// What `ps` takes.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// Also bottles that have ended: what is kept of them, its size, and their exit codes
    #[arg(short, long)]
    all: bool,
    /// The output format
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Serialize)]
struct Row {
    bottle: String,
    agent: String,
    /// `running`; `paused`; `ended`: nothing is left; `kept`: only its workspace is left; or `dead`: its holder died, and `gc`
    /// removes it.
    state: &'static str,
    /// What is wrong with one that lives: the agent's pause, and its sidecars.
    #[serde(flatten)]
    condition: Condition,
    /// Bytes that are kept, if that is known.
    size: Option<u64>,
    /// Seconds since 1970.
    launched: Option<u64>,
    objects: usize,
    /// The exit code of its agent, where it has ended.
    exit_code: Option<i64>,
}

pub(in crate::cli) async fn main(args: &Args) -> Result<u8, Failure> {
    let (engines, state) = engines().await?;
    let mut objects: BTreeMap<String, usize> = BTreeMap::new();
    for (_, engine) in &engines {
        for object in engine.list(&Filter::Owner(state.owner.clone())).await? {
            *objects.entry(object.identity.session).or_default() += 1;
        }
    }
    let known =
        state.bottles().map_err(|error| Failure::new(Class::Internal, format!("read the state directory: {error}")))?;
    let all: BTreeSet<String> = known.into_iter().chain(objects.keys().cloned()).collect();
    let ended: BTreeMap<String, ExitRecord> =
        exit_record::all(&state).into_iter().map(|ended| (ended.id.clone(), ended)).collect();
    let gone = ended.values().filter(|ended| args.all && !all.contains(&ended.id)).map(|ended| Row {
        bottle: ended.id.clone(),
        agent: ended.agent.clone(),
        state: "ended",
        condition: Condition::default(),
        size: None,
        launched: Some(ended.launched),
        objects: 0,
        exit_code: ended.exit_code,
    });
    let gone: Vec<Row> = gone.collect();
    let rows: Vec<Row> = all
        .into_iter()
        .map(|bottle| {
            let record = state.record(&bottle);
            let alive = state.is_alive(&bottle);
            let condition = if alive { Condition::read(&state.bottle(&bottle)) } else { Condition::default() };
            let kept = if alive { None } else { KeptWorkspace::of_dead(&state, &bottle) };
            Row {
                agent: record.as_ref().map_or_else(|| "?".to_owned(), |record| record.agent.clone()),
                launched: record.map(|record| record.launched),
                state: if condition.paused.is_some() {
                    "paused"
                } else if alive {
                    "running"
                } else if kept.is_some() {
                    "kept"
                } else {
                    "dead"
                },
                condition,
                size: kept.and_then(|kept| kept.size),
                objects: objects.get(&bottle).copied().unwrap_or_default(),
                exit_code: if alive { None } else { ended.get(&bottle).and_then(|ended| ended.exit_code) },
                bottle,
            }
        })
        .filter(|row: &Row| args.all || row.state != "kept")
        .chain(gone)
        .collect();
    if args.format == Format::Json {
        print_json(&rows)?;
        return Ok(0);
    }
    let cells: Vec<Vec<String>> = rows
        .into_iter()
        .map(|row| {
            let size = row.size.map(|size| format!("{} KiB", size.div_ceil(1024))).unwrap_or_default();
            let code = row.exit_code.map(|code| code.to_string()).unwrap_or_default();
            let state = match row.state {
                "running" | "paused" => crate::report::printable(&row.condition.words()),
                state => state.to_owned(),
            };
            vec![row.bottle, row.agent, state, row.objects.to_string(), size, code]
        })
        .collect();
    print_data(&table(&["BOTTLE", "AGENT", "STATE", "OBJECTS", "SIZE", "EXIT"], &cells));
    Ok(0)
}
