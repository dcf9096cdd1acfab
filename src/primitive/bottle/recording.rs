//! The end of the agent's output, read from the engine's log while the agent runs: the engine removes the log with the container
//! when that ends.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::task::JoinHandle;

use crate::engine::{Engine, EngineError, Output};
use crate::session::exit_record::{OutputChunk, OutputTail};
use crate::sync::lock;

/// How long the engine may take to open its log. The agent waits for that, so that the beginning of its output is not missed.
const OPENING: Duration = Duration::from_secs(2);

/// What has been read so far.
#[derive(Default)]
pub(in crate::primitive) struct Recording {
    written: Arc<Mutex<OutputTail>>,
    reading: Mutex<Option<JoinHandle<Result<(), EngineError>>>>,
}

impl Recording {
    /// Reads a container's log from now on. Returns the reason if it cannot.
    pub(in crate::primitive) async fn start(&self, engine: &Arc<dyn Engine>, container: &str) -> Option<String> {
        let opened = tokio::time::timeout(OPENING, engine.container_logs(container, None, true)).await;
        let log = match opened {
            Ok(Ok(log)) => log,
            Ok(Err(error)) => return Some(error.to_string()),
            Err(_) => return Some(format!("the engine did not open its log in {} s", OPENING.as_secs())),
        };
        *lock(&self.reading) = Some(crate::task::spawn(read(log, self.written.clone())));
        None
    }

    /// The end of the agent's output, once its log has ended or the time is over, and the reason if it is incomplete.
    pub(in crate::primitive) async fn finish(&self, patience: Duration) -> (Vec<OutputChunk>, Option<String>) {
        let reading = lock(&self.reading).take();
        let why = match reading {
            None => None,
            Some(mut reading) => match tokio::time::timeout(patience, &mut reading).await {
                Ok(Ok(Ok(()))) => None,
                Ok(Ok(Err(error))) => Some(error.to_string()),
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => {
                    reading.abort();
                    Some("its log has not ended yet".to_owned())
                }
            },
        };
        (lock(&self.written).take(), why)
    }
}

async fn read(
    mut log: BoxStream<'static, Result<Output, EngineError>>,
    written: Arc<Mutex<OutputTail>>,
) -> Result<(), EngineError> {
    while let Some(piece) = log.next().await {
        lock(&written).push(piece?);
    }
    Ok(())
}
