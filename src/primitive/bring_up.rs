//! How a sidecar's container comes up: attached, started, configured over its standard input, ready when it says so.

use std::sync::Arc;
use std::time::Duration;

use super::stream::{Lines, write_json};
use super::{Bottle, Event};
use crate::session::{Class, Failure};
use crate::sidecar::{Message, Ready};

/// Starts a created container, gives it its configuration, and waits for the line that says ready.
pub(super) async fn bring_up(
    bottle: &Arc<Bottle>,
    name: &str,
    id: &str,
    config: impl Future<Output = Result<serde_json::Value, Failure>>,
    patience: Duration,
) -> Result<Ready, Failure> {
    let engine = &bottle.session.engine;
    let mut streams = engine.container_attach(id).await?;
    engine.container_start(id).await?;
    let config = config.await?;
    let mut lines = Lines::new(streams.output);
    let said = async {
        write_json(&mut streams.input, &config).await.ok()?;
        lines.next_json::<Message>().await
    };
    match tokio::time::timeout(patience, said).await {
        Ok(Some(Message::Ready(ready))) => {
            tokio::spawn(listen(bottle.clone(), lines));
            Ok(ready)
        }
        Ok(_) => Err(not_ready(name, "it ended before it was ready", &lines.errors)),
        Err(_) => {
            let why = format!("it was not ready within {} s", patience.as_secs());
            Err(not_ready(name, &why, &lines.errors))
        }
    }
}

fn not_ready(name: &str, why: &str, errors: &str) -> Failure {
    let failure = Failure::new(Class::Operation, format!("start sidecar {name}: {why}"));
    if errors.trim().is_empty() { failure } else { failure.cause(format!("it wrote: {}", errors.trim())) }
}

/// Passes on what a sidecar decides, as long as it lives.
async fn listen(bottle: Arc<Bottle>, mut lines: Lines) {
    while let Some(message) = lines.next_json::<Message>().await {
        if let Message::Audit(event) = message {
            bottle.events.tell(Event::Audit(event));
        }
    }
}
