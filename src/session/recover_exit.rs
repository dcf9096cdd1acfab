//! How a bottle ended whose holder has died: what its agent wrote is only in the engine's log of its container, which goes with
//! the container.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;

use super::exit_record::{self, ExitRecord, OutputChunk, OutputTail};
use super::{Class, StateDir, kept_workspace};
use crate::engine::labels::Kind;
use crate::engine::{Engine, Filter};

/// How long the engine may take to say it: what is to be removed waits.
const PATIENCE: Duration = Duration::from_secs(5);
/// Lines that are asked for, from the end.
const LINES: usize = 100_000;

/// Writes down how a bottle ended, and the last of what its agent wrote, where nobody has. Its containers are still there.
pub(super) async fn record_exit(engine: &Arc<dyn Engine>, state: &StateDir, id: &str, owner: &str) {
    // Nothing is made where there is nothing any more, and no agent has written before it was let go.
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
    // What cannot be written is not known later; what is to be removed is removed all the same.
    let _ = exit_record::write(state, &ended, output);
}

/// The exit code of an agent that has ended, and what it wrote; `None` where there is no agent.
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
