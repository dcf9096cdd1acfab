//! Unwinding: everything that carries the session's label is removed, level by level, until nothing is found twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use serde::{Deserialize, Serialize};

use super::{Level, levels};
use crate::engine::labels::Kind;
use crate::engine::{Engine, ErrorKind, Filter, Object, Removal};

/// How long one step may take; then it is reported and the next begins.
const STEP: Duration = Duration::from_secs(25);
/// How long a sidecar that uses another may take to end what is under way through that.
const GRACE: Duration = Duration::from_secs(3);
/// Rounds of listing and removing before what is left is reported.
const ROUNDS: usize = 6;
/// How long to wait before asking an engine again that could not list.
const PAUSE: Duration = Duration::from_millis(500);
/// How often a removal may go without an answer: a runtime that never answers holds back its own container, and nothing else.
const UNANSWERED: usize = 2;
/// A session is gone when it was seen empty this often in a row.
const EMPTY: usize = 2;

/// A step of the teardown that is no object: a script's deferred function, or a whole bottle.
pub struct Defer {
    /// Its kind, as the report has it: `defer`, `bottle`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// What it does; nothing of it runs before its turn.
    pub run: BoxFuture<'static, Result<(), String>>,
}

/// What became of one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome", content = "why")]
pub enum UndoOutcome {
    /// It was there and is gone.
    Removed,
    /// It was gone already.
    WasGone,
    /// A deferred function ran.
    #[serde(rename = "ran")]
    Completed,
    /// It could not be removed, or the function failed.
    Failed(String),
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndoRow {
    /// Its place in program order.
    pub seq: u64,
    /// `agent`, `sidecar`, `network`, `volume`, `bottle`, `defer`, `on_teardown`, or `session` for what concerns all.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: UndoOutcome,
}

impl UndoRow {
    /// Whether something is left that the next `gc` must remove.
    pub fn is_left(&self) -> bool {
        matches!(self.outcome, UndoOutcome::Failed(_)) && !matches!(self.kind.as_str(), "defer" | "on_teardown")
    }
}

/// Removes whatever a session made, running its defers in their places. Never fails: what could not be removed is in
/// the report, with the reason, and still carries its label for the next `gc`.
///
/// Only objects of `owner` are touched. `quiet` is how long to wait before believing an empty session: nothing where
/// no call is under way, a while after a process died in the middle of one, for the engine may still be answering it. The volume
/// that is to be `kept` stays.
pub async fn unwind(
    engine: &Arc<dyn Engine>,
    session: &str,
    owner: &str,
    quiet: Duration,
    mut defers: BTreeMap<u64, Defer>,
    kept: Option<&str>,
) -> Vec<UndoRow> {
    let mut report: BTreeMap<(u64, String), UndoRow> = BTreeMap::new();
    let mut empty = 0;
    let mut unanswered: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..ROUNDS {
        let mut objects = match list(engine, session, owner, kept).await {
            Ok(objects) => objects,
            Err(why) => {
                empty = 0;
                add(&mut report, [row(u64::MAX, "session", session, UndoOutcome::Failed(why))]);
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        report.remove(&(u64::MAX, session.to_owned()));
        if objects.is_empty() && defers.is_empty() {
            empty += 1;
            if empty == EMPTY {
                break;
            }
            tokio::time::sleep(quiet).await;
            continue;
        }
        empty = 0;
        objects.retain(|object| unanswered.get(&object.name).is_none_or(|count| *count < UNANSWERED));
        if objects.is_empty() && defers.is_empty() {
            break;
        }
        let places: Vec<u64> = defers.keys().copied().collect();
        for level in levels(objects, &places) {
            let rows = match level {
                Level::Defer(seq) => {
                    let defer = defers.remove(&seq).expect("the places are the map's keys");
                    vec![run(seq, defer).await]
                }
                Level::Objects(objects) => {
                    let removed = join_all(objects.iter().map(|object| remove(engine, object))).await;
                    let without = removed.iter().filter(|(_, answered)| !answered);
                    without.for_each(|(row, _)| *unanswered.entry(row.name.clone()).or_default() += 1);
                    removed.into_iter().map(|(row, _)| row).collect()
                }
            };
            add(&mut report, rows);
        }
    }
    // An engine that never answered has kept no defer from its turn.
    for (seq, defer) in defers.into_iter().rev() {
        let ran = run(seq, defer).await;
        add(&mut report, [ran]);
    }
    report.into_values().rev().collect()
}

fn add(report: &mut BTreeMap<(u64, String), UndoRow>, rows: impl IntoIterator<Item = UndoRow>) {
    for row in rows {
        let key = (row.seq, row.name.clone());
        // What a first try removed, a later look finds gone.
        let known = report.get(&key).is_some_and(|known| known.outcome == UndoOutcome::Removed);
        if !(known && row.outcome == UndoOutcome::WasGone) {
            report.insert(key, row);
        }
    }
}

async fn list(engine: &Arc<dyn Engine>, session: &str, owner: &str, kept: Option<&str>) -> Result<Vec<Object>, String> {
    let filter = Filter::Session(session.to_owned());
    let answer = tokio::time::timeout(STEP, engine.list(&filter)).await;
    let mut objects = answer.map_err(|_| late())?.map_err(|error| error.to_string())?;
    objects.retain(|object| object.identity.session == session && object.identity.owner == owner);
    objects.retain(|object| kept != Some(object.name.as_str()));
    Ok(objects)
}

fn late() -> String {
    format!("not done within {} s", STEP.as_secs())
}

async fn run(seq: u64, defer: Defer) -> UndoRow {
    let name = if defer.kind == "defer" { format!("defer {seq}") } else { defer.name };
    let outcome = match tokio::time::timeout(STEP, defer.run).await {
        Ok(Ok(())) => UndoOutcome::Completed,
        Ok(Err(why)) => UndoOutcome::Failed(why),
        Err(_) => UndoOutcome::Failed(late()),
    };
    row(seq, defer.kind, &name, outcome)
}

/// Removes a thing, and tells whether the engine has answered at all.
async fn remove(engine: &Arc<dyn Engine>, object: &Object) -> (UndoRow, bool) {
    let work = async {
        match object.identity.kind {
            Kind::Agent | Kind::Sidecar => {
                if !object.identity.uses.is_empty() {
                    // One that does not end is removed all the same.
                    let _ = tokio::time::timeout(2 * GRACE, engine.container_stop(&object.id, GRACE)).await;
                }
                engine.container_remove(&object.id).await
            }
            Kind::Network => engine.network_remove(&object.id).await,
            Kind::Volume => engine.volume_remove(&object.id).await,
        }
    };
    let (outcome, answered) = match tokio::time::timeout(STEP, work).await {
        Ok(Ok(Removal::Removed)) => (UndoOutcome::Removed, true),
        Ok(Ok(Removal::WasGone)) => (UndoOutcome::WasGone, true),
        Ok(Err(error)) => (UndoOutcome::Failed(error.to_string()), error.kind != ErrorKind::Deadline),
        Err(_) => (UndoOutcome::Failed(late()), false),
    };
    (row(object.identity.seq, object.identity.kind.word(), &object.name, outcome), answered)
}

fn row(seq: u64, kind: &str, name: &str, outcome: UndoOutcome) -> UndoRow {
    UndoRow { seq, kind: kind.to_owned(), name: name.to_owned(), outcome }
}
