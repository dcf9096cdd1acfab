//! What a holder writes down of its launch: the audit file, and when what happened.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Launch, Times};
use crate::audit;
use crate::primitive::Event;
use crate::session::{Class, Failure};

/// The audit file of this launch.
#[derive(Clone, Default)]
pub(super) struct Evidence(Arc<Mutex<Option<audit::Writer>>>);

impl Evidence {
    pub(super) fn begin(&self, launch: &Launch) -> Result<(), Failure> {
        let writer = audit::Writer::begin(&launch.state, &launch.plan.bottle)
            .map_err(|error| Failure::new(Class::Internal, format!("begin the audit file: {error}")))?;
        *crate::sync::lock(&self.0) = Some(writer);
        Ok(())
    }

    pub(super) fn event(&self, event: &crate::sidecar::Event) {
        // A full disk stops no teardown; that the file ends early is seen by its head.
        let _ = crate::sync::lock(&self.0).as_mut().map(|writer| writer.event(event));
    }

    pub(super) fn close(&self) -> Option<audit::Closed> {
        crate::sync::lock(&self.0).take()?.close().ok()
    }
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Notes when what happened.
pub(super) fn note(times: &Mutex<Times>, event: &Event, at: Duration) {
    let mut times = crate::sync::lock(times);
    match event {
        Event::SidecarsUp => times.sidecars_up = Some(millis(at)),
        Event::Released => times.released = Some(millis(at)),
        Event::Ended { .. } => times.ended = Some(millis(at)),
        _ => {}
    }
}
