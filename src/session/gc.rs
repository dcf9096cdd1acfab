//! Garbage collection: bottles whose holder and reaper are both gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{Kept, StateDir, UndoRow, unwind};
use crate::engine::{Engine, EngineError, Filter, Object};

/// How long a dead bottle must look empty: its holder may have died in the middle of a call.
const QUIET: Duration = Duration::from_millis(300);

/// Unwinds a bottle that nobody holds any more, but for what is to be `kept` of it.
pub async fn unwind_dead(engine: &Arc<dyn Engine>, bottle: &str, owner: &str, kept: Option<&str>) -> Vec<UndoRow> {
    unwind(engine, bottle, owner, QUIET, BTreeMap::new(), kept).await
}

/// A dead bottle and what became of its things.
#[derive(Debug, serde::Serialize)]
pub struct Collected {
    /// The bottle's id.
    pub bottle: String,
    /// What was removed; with a dry run, nothing.
    pub undo: Vec<UndoRow>,
}

/// Removes dead bottles of this owner on this engine; with `dry_run`, only names them.
///
/// A bottle is dead when nobody holds its lock. Objects are listed *before* the directories are looked at: a living
/// bottle has its directory before its first object, so an object without a directory belongs to a dead one.
///
/// # Errors
/// The engine cannot list, or the state directory cannot be read.
pub async fn collect(
    engine: &Arc<dyn Engine>,
    endpoint: &str,
    state: &StateDir,
    dry_run: bool,
) -> anyhow::Result<Vec<Collected>> {
    let objects = engine.list(&Filter::Owner(state.owner.clone())).await?;
    let mut ids: BTreeSet<String> = state.bottles()?.into_iter().collect();
    ids.retain(|id| state.record(id).is_none_or(|record| record.endpoint == endpoint));
    ids.extend(objects.iter().filter(|object| object.identity.owner == state.owner).map(session_of));
    let mut collected = Vec::new();
    for bottle in ids {
        if state.is_alive(&bottle) {
            continue;
        }
        let kept = Kept::of_dead(state, &bottle).map(|kept| kept.volume);
        let is_more = |object: &Object| object.identity.session == bottle && kept.as_ref() != Some(&object.name);
        if kept.is_some() && !objects.iter().any(is_more) {
            continue;
        }
        if dry_run {
            collected.push(Collected { bottle, undo: Vec::new() });
            continue;
        }
        // Someone else may collect it in this very moment.
        let Some(dir) = state.claim(&bottle)? else { continue };
        let undo = unwind_dead(engine, &bottle, &state.owner, kept.as_deref()).await;
        if kept.is_none() && !undo.iter().any(UndoRow::is_left) {
            dir.remove()?;
        }
        collected.push(Collected { bottle, undo });
    }
    Ok(collected)
}

/// Removes the bottles of another owner, which only a person may ask for: nobody here knows whether they live.
///
/// # Errors
/// The engine cannot list.
pub async fn collect_foreign(
    engine: &Arc<dyn Engine>,
    owner: &str,
    dry_run: bool,
) -> Result<Vec<Collected>, EngineError> {
    let mut collected = Vec::new();
    for bottle in on_engine(engine, owner).await? {
        let undo = if dry_run { Vec::new() } else { unwind_dead(engine, &bottle, owner, None).await };
        collected.push(Collected { bottle, undo });
    }
    Ok(collected)
}

async fn on_engine(engine: &Arc<dyn Engine>, owner: &str) -> Result<BTreeSet<String>, EngineError> {
    let objects = engine.list(&Filter::Owner(owner.to_owned())).await?;
    let ours = objects.into_iter().filter(|object| object.identity.owner == owner);
    Ok(ours.map(|object| object.identity.session).collect())
}

fn session_of(object: &Object) -> String {
    object.identity.session.clone()
}
