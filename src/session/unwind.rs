//! Unwinding: removes everything that carries the session's label, level by level, until two listings in a row are
//! empty.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use serde::{Deserialize, Serialize};

use super::{Level, levels};
use crate::engine::labels::Kind;
use crate::engine::{Engine, ErrorKind, Filter, Object, Removal};

/// Deadline of one step; then it is reported and the next one starts.
const STEP: Duration = Duration::from_secs(25);
/// How long a sidecar that uses another one may take to finish its connections.
const GRACE: Duration = Duration::from_secs(3);
/// Rounds of listing and removing before the rest is reported.
const ROUNDS: usize = 6;
/// The pause after a failed listing.
const PAUSE: Duration = Duration::from_millis(500);
/// How many removals of one object may time out: a hung runtime must not block the removal of other objects.
const UNANSWERED: usize = 2;
/// A session is gone after this many empty listings in a row.
const EMPTY: usize = 2;

/// A teardown step that is not an engine object: a script's deferred function, or a nested bottle.
pub struct Defer {
    /// Its kind in the report: `defer`, `bottle`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Its work, which starts when the teardown reaches it.
    pub run: BoxFuture<'static, Result<(), String>>,
}

/// The result of one teardown step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome", content = "why")]
pub enum UndoOutcome {
    /// It was removed.
    Removed,
    /// It did not exist any more.
    WasGone,
    /// A deferred function completed.
    #[serde(rename = "ran")]
    Completed,
    /// It could not be removed, or the function failed.
    Failed(String),
}

/// One row of the teardown report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndoRow {
    /// Its sequence number.
    pub seq: u64,
    /// `agent`, `sidecar`, `network`, `volume`, `bottle`, `defer`, `on_teardown`, or `session` for the listing itself.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The result.
    #[serde(flatten)]
    pub outcome: UndoOutcome,
}

impl UndoRow {
    /// Whether an object is left that the next `gc` must remove.
    pub fn is_left(&self) -> bool {
        matches!(self.outcome, UndoOutcome::Failed(_)) && !matches!(self.kind.as_str(), "defer" | "on_teardown")
    }
}

/// Removes all objects of a session and runs its defers in order. Never fails: what could not be removed is in the
/// report with the reason, and still carries its label for the next `gc`.
///
/// Only objects of `owner` are removed. `quiet` is the pause between two empty listings: zero if no call is running;
/// longer if a process died during a call that the engine may still be executing. The volumes `kept` stay.
pub async fn unwind(
    engine: &Arc<dyn Engine>,
    session: &str,
    owner: &str,
    quiet: Duration,
    mut defers: BTreeMap<u64, Defer>,
    kept: &[String],
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
    // Run the defers even if the engine never answered.
    for (seq, defer) in defers.into_iter().rev() {
        let ran = run(seq, defer).await;
        add(&mut report, [ran]);
    }
    report.into_values().rev().collect()
}

fn add(report: &mut BTreeMap<(u64, String), UndoRow>, rows: impl IntoIterator<Item = UndoRow>) {
    for row in rows {
        let key = (row.seq, row.name.clone());
        // An object that was removed before is reported as removed, not as gone.
        let known = report.get(&key).is_some_and(|known| known.outcome == UndoOutcome::Removed);
        if !(known && row.outcome == UndoOutcome::WasGone) {
            report.insert(key, row);
        }
    }
}

async fn list(engine: &Arc<dyn Engine>, session: &str, owner: &str, kept: &[String]) -> Result<Vec<Object>, String> {
    let filter = Filter::Session(session.to_owned());
    let answer = tokio::time::timeout(STEP, engine.list(&filter)).await;
    let mut objects = answer.map_err(|_| late())?.map_err(|error| error.to_string())?;
    objects.retain(|object| object.identity.session == session && object.identity.owner == owner);
    objects.retain(|object| !is_kept(object, kept));
    Ok(objects)
}

/// Whether an object is one of these volumes. A container or network may have the same name.
pub(super) fn is_kept(object: &Object, kept: &[String]) -> bool {
    object.identity.kind == Kind::Volume && kept.contains(&object.name)
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

/// Removes an object; also returns whether the engine answered in time.
async fn remove(engine: &Arc<dyn Engine>, object: &Object) -> (UndoRow, bool) {
    let work = async {
        match object.identity.kind {
            Kind::Agent | Kind::Sidecar => {
                if !object.identity.uses.is_empty() {
                    // Remove it even if it does not stop.
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
