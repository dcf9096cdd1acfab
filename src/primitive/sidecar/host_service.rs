//! Keeps a channel open to an egress by which its agent reaches services of this machine; see [`crate::sidecar::host_service`].

use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use tokio_util::io::StreamReader;

use crate::engine::{EngineError, ExecSpec, Output};
use crate::layout::EXECUTABLE;
use crate::primitive::bottle::Bottle;
use crate::primitive::channel::control::ControlChannel;
use crate::primitive::channel::health::{Health, why_not};
use crate::sidecar::host_service::{ROLE, serve};

/// How long to wait before a channel that has ended is opened again.
const AGAIN: Duration = Duration::from_millis(500);

/// Keeps the channel open as long as this run of the egress lives. Does nothing in a bottle without such services.
pub(super) fn keep_open(bottle: &Arc<Bottle>, name: &str, egress: &Arc<ControlChannel>) {
    if !egress.role.is_proxy || bottle.plan.egress.host_services.is_empty() {
        return;
    }
    let (bottle, name, egress) = (bottle.clone(), name.to_owned(), egress.clone());
    crate::task::spawn(async move {
        tokio::select! {
            () = keep(&bottle, &name, &egress) => {}
            () = bottle.session.effects.cancelled() => {}
        }
    });
}

async fn keep(bottle: &Arc<Bottle>, name: &str, egress: &ControlChannel) {
    let (life, mut last) = (egress.life(), String::new());
    while egress.life() == life {
        let why = open(bottle, &egress.id).await.err().map(|error| error.to_string()).unwrap_or_default();
        if matches!(why_not(bottle.session.engine.as_ref(), &egress.id).await, Health::Died(_)) {
            // A restart opens another one.
            return;
        }
        if !why.is_empty() && why != last {
            let text = format!("services of this machine cannot be reached for now: {why}");
            bottle.audit(name, "alarm", "host_services_lost", text);
        }
        last = why;
        tokio::time::sleep(AGAIN).await;
    }
}

/// Opens a channel, and serves it until it ends.
async fn open(bottle: &Arc<Bottle>, container: &str) -> Result<(), EngineError> {
    let spec = ExecSpec::plain(vec![EXECUTABLE.into(), ROLE.into()]);
    let (_, streams) = bottle.session.engine.exec(container, &spec).await?;
    let output = streams.output.try_filter_map(|output| async move {
        Ok(match output {
            Output::Stdout(bytes) => Some(bytes),
            Output::Stderr(_) => None,
        })
    });
    let output = StreamReader::new(Box::pin(output.map_err(std::io::Error::other)));
    // An end of any kind is followed by another try.
    let _ = serve(tokio::io::join(output, streams.input), bottle.plan.egress.host_services.as_slice().into()).await;
    Ok(())
}
