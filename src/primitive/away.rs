//! Handles an engine that is unreachable for a while and comes back with its containers still running.

use std::time::Duration;

use tokio::sync::watch;

use crate::engine::{ContainerState, Engine, EngineError, ErrorKind, Result};

/// How long an engine may be unreachable before its containers are given up, and how often it is asked.
const AWAY: Duration = Duration::from_mins(2);
const ASK: Duration = Duration::from_secs(1);

/// How often to inspect a container while a wait call is pending, and how long to wait for that call after the
/// container's end.
const LOOK: Duration = Duration::from_secs(20);
const LATE: Duration = Duration::from_secs(5);

/// Retries until the engine returns a container's state. Fails if the container is gone, or the engine was
/// unreachable for too long.
pub(super) async fn back(engine: &dyn Engine, id: &str) -> Result<ContainerState> {
    let mut left = AWAY;
    loop {
        tokio::time::sleep(ASK).await;
        left = left.saturating_sub(ASK);
        match engine.container_inspect(id).await {
            Ok(state) => return Ok(state),
            // Connections fail in many ways; only "not found" is final.
            Err(error) if error.kind == ErrorKind::NotFound || left.is_zero() => return Err(error),
            Err(_) => {}
        }
    }
}

/// Detects a container's end by inspecting it, because a wait call without a deadline may get lost.
pub(super) async fn unsaid(engine: &dyn Engine, id: &str) -> Result<i64> {
    loop {
        tokio::time::sleep(LOOK).await;
        let ended = match engine.container_inspect(id).await {
            Ok(state) => state.exit_code.map(Ok),
            Err(error) if error.kind == ErrorKind::NotFound => Some(Err(error)),
            // The pending wait call fails as well.
            Err(_) => None,
        };
        if let Some(ended) = ended {
            tokio::time::sleep(LATE).await;
            return ended;
        }
    }
}

/// Waits for the end of a started container after a wait call has failed. Increments `again` every time that the
/// engine has come back.
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
