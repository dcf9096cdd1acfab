//! A bottle's turn to be launched: an engine with too many requests at once answers none of them in time.

use std::path::Path;
use std::sync::{Arc, Mutex};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::primitive::event::{Event, Events};
use crate::session::queue;
use crate::session::{Phase, Slot};
use crate::sync::lock;

/// The turn of a bottle, while it has it.
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
    /// Waits for a slot of the outer bottle if there is one, otherwise for a turn among all bottles of a state directory, if any.
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
                // The launch goes on without a turn.
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
