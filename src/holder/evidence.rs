//! The holder's record of a launch: the audit file, and the times of the main events.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Launch, Times};
use crate::audit;
use crate::primitive::Event;
use crate::session::{Class, Failure, StateDir};

/// How often to retry writing after a failure.
const AGAIN: Duration = Duration::from_secs(1);

/// The audit file of this launch.
#[derive(Clone, Default)]
pub(super) struct Evidence(Arc<Mutex<Option<audit::Writer>>>);

impl Evidence {
    pub(super) fn begin(&self, launch: &Launch, state: &StateDir) -> Result<(), Failure> {
        // Only a missing directory proves that the bottle is gone.
        let is_gone = |id: &str| {
            let there = std::fs::symlink_metadata(state.bottle(id));
            there.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
        };
        let writer = audit::Writer::begin(&launch.state, &launch.plan.bottle, is_gone)
            .map_err(|error| Failure::new(Class::Internal, format!("begin the audit file: {error}")))?;
        *crate::sync::lock(&self.0) = Some(writer);
        Ok(())
    }

    pub(super) fn event(&self, event: &audit::Event) {
        if let Some(writer) = &mut *crate::sync::lock(&self.0) {
            writer.event(event.clone());
        }
    }

    /// Reports when the audit log cannot be written, and when it can be written again. Never returns.
    pub(super) async fn look(&self, tell: impl Fn(String)) -> std::convert::Infallible {
        let mut told = None;
        loop {
            tokio::time::sleep(AGAIN).await;
            let why = {
                let mut writer = crate::sync::lock(&self.0);
                writer.as_mut().and_then(|writer| {
                    writer.retry();
                    writer.write_error().map(str::to_owned)
                })
            };
            match (&why, &told) {
                (Some(why), None) => tell(format!(
                    "the audit log cannot be written: {why}; events are held, and written when there is room again"
                )),
                (None, Some(_)) => tell("the audit log is written again".to_owned()),
                _ => {}
            }
            told = why;
        }
    }

    pub(super) fn close(&self) -> Option<audit::LogSummary> {
        crate::sync::lock(&self.0).take().map(audit::Writer::close)
    }
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Records the time of an event.
pub(super) fn note(times: &Mutex<Times>, event: &Event, at: Duration) {
    let mut times = crate::sync::lock(times);
    match event {
        Event::SidecarsUp => times.sidecars_up = Some(millis(at)),
        Event::Released => times.released = Some(millis(at)),
        Event::Ended { .. } => times.ended = Some(millis(at)),
        _ => {}
    }
}
