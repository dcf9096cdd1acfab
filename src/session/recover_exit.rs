//! The exit record of a bottle whose holder has died. The agent's output is only in the engine's log of its
//! container, so it must be read before the container is removed.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;

use super::exit_record::{self, ExitRecord, OutputChunk, OutputTail};
use super::{Class, StateDir, kept_workspace};
use crate::engine::labels::Kind;
use crate::engine::{Engine, Filter};

/// How long to wait for the engine: the removal waits, too.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many lines to read, from the end.
const LINES: usize = 100_000;

/// Writes the exit record of a bottle that has none. Call it before its containers are removed.
pub(super) async fn record_exit(engine: &Arc<dyn Engine>, state: &StateDir, id: &str, owner: &str) {
    // Without a directory, or before the agent was started, there is nothing to record.
    if !kept_workspace::was_released(&state.bottle(id)) || exit_record::read(state, id).is_some() {
        return;
    }
    let Ok(Some((exit_code, output))) = tokio::time::timeout(PATIENCE, look(engine, id, owner)).await else { return };
    let record = state.record(id);
    let ended = ExitRecord {
        id: id.to_owned(),
        agent: record.as_ref().map_or_else(|| "?".to_owned(), |record| record.agent.clone()),
        exit_code,
        failure: Some(format!("the holder of {id} died")),
        failure_code: Some(Class::Internal.exit_code()),
        launched: record.map_or_else(exit_record::now, |record| record.launched),
        ended: exit_record::now(),
    };
    // A record that cannot be written must not stop the removal.
    let _ = exit_record::write(state, &ended, output);
}

/// The exit code and the output of the agent; `None` if there is no agent.
async fn look(engine: &Arc<dyn Engine>, id: &str, owner: &str) -> Option<(Option<i64>, Vec<OutputChunk>)> {
    let objects = engine.list(&Filter::Session(id.to_owned())).await.ok()?;
    let is_agent = |object: &&crate::engine::Object| {
        object.identity.kind == Kind::Agent && object.identity.owner == owner && object.identity.session == id
    };
    let agent = objects.iter().find(is_agent)?.id.clone();
    let exit_code = engine.container_inspect(&agent).await.ok().and_then(|seen| seen.exit_code);
    let mut pieces = engine.container_logs(&agent, Some(LINES), false).await.ok()?;
    let mut output = OutputTail::default();
    while let Some(Ok(piece)) = pieces.next().await {
        output.push(piece);
    }
    Some((exit_code, output.take()))
}
