//! An engine that is away for a while, and comes back with its containers still running.

use std::time::Duration;

use tokio::sync::watch;

use crate::engine::{ContainerState, Engine, EngineError, ErrorKind, Result};

/// How long an engine may be away before its containers are given up, and how often it is asked.
const AWAY: Duration = Duration::from_mins(2);
const ASK: Duration = Duration::from_secs(1);

/// How often a container is looked at whose end should be told by itself, and how long that may take once it has come.
const LOOK: Duration = Duration::from_secs(20);
const LATE: Duration = Duration::from_secs(5);

/// Asks until the engine says how a container is. The error says that it is gone, or why the engine was not reached in all
/// that time.
pub(super) async fn back(engine: &dyn Engine, id: &str) -> Result<ContainerState> {
    let mut left = AWAY;
    loop {
        tokio::time::sleep(ASK).await;
        left = left.saturating_sub(ASK);
        match engine.container_inspect(id).await {
            Ok(state) => return Ok(state),
            // However a connection breaks: that the container is not there is the only answer that ends it.
            Err(error) if error.kind == ErrorKind::NotFound || left.is_zero() => return Err(error),
            Err(_) => {}
        }
    }
}

/// The end of a container that the engine does not tell: a question that has no deadline may be lost.
pub(super) async fn unsaid(engine: &dyn Engine, id: &str) -> Result<i64> {
    loop {
        tokio::time::sleep(LOOK).await;
        let ended = match engine.container_inspect(id).await {
            Ok(state) => state.exit_code.map(Ok),
            Err(error) if error.kind == ErrorKind::NotFound => Some(Err(error)),
            // Whoever waits notices, too.
            Err(_) => None,
        };
        if let Some(ended) = ended {
            tokio::time::sleep(LATE).await;
            return ended;
        }
    }
}

/// Waits for the end of a container that has started, after an answer to that question which was none. Tells `again` every
/// time that the engine was away and is back.
pub(super) async fn outlast(
    engine: &dyn Engine,
    id: &str,
    error: EngineError,
    again: &watch::Sender<u64>,
) -> Result<i64> {
    let mut last = error;
    while last.kind != ErrorKind::NotFound {
        let state = match back(engine, id).await {
            Ok(state) => state,
            Err(error) if error.kind != ErrorKind::NotFound => return Err(error),
            Err(error) => {
                last = error;
                break;
            }
        };
        if let Some(code) = state.exit_code {
            return Ok(code);
        }
        again.send_modify(|count| *count += 1);
        match engine.container_wait(id, true).await {
            Ok(code) => return Ok(code),
            Err(error) => last = error,
        }
    }
    "it is gone: somebody removed it, or the engine did when it was restarted".clone_into(&mut last.message);
    Err(last)
}
