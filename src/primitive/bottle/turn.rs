//! A bottle's turn to be launched: an engine that is asked for everything at once answers nothing in time.

use std::path::Path;
use std::sync::{Arc, Mutex};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::primitive::event::{Event, Events};
use crate::session::queue;
use crate::session::{Phase, Slot};
use crate::sync::lock;

/// The turn, while the bottle has it.
#[derive(Default)]
pub(in crate::primitive) struct LaunchTurn(Mutex<Option<Permit>>);

/// A turn to be launched, until it is dropped.
enum Permit {
    /// Among all bottles of a state directory.
    Queue(#[expect(dead_code, reason = "held")] Slot),
    /// Among the bottles that one bottle launches.
    Slot(#[expect(dead_code, reason = "held")] OwnedSemaphorePermit),
}

impl LaunchTurn {
    /// Waits for one of a bottle's slots; otherwise for the turn among all bottles of a state directory; otherwise not at all.
    pub(in crate::primitive) async fn wait(
        &self,
        slots: Option<Arc<Semaphore>>,
        state: Option<&Path>,
        events: &Events,
    ) {
        let permit = match (slots, state) {
            (Some(slots), _) => slots.acquire_owned().await.ok().map(Permit::Slot),
            (None, Some(state)) => {
                let tell = |ahead| events.tell(Event::Progress(format!("waits for its turn: {ahead} ahead")));
                // Without turns there is no order, and the engine copes as well as it can.
                queue::acquire(state, Phase::Launch, tell).await.ok().map(Permit::Queue)
            }
            (None, None) => None,
        };
        *lock(&self.0) = permit;
    }

    /// Lets the next bottle be launched.
    pub(in crate::primitive) fn release(&self) {
        lock(&self.0).take();
    }
}
