//! Where nested bottles are recorded, and how they run as a consequence.

use super::claim::Claim;
use super::thread::on_own_thread;
use crate::primitive::ChildRequest;
use crate::session::{Failure, StateDir};

/// Where bottles are recorded.
pub(super) enum Store {
    /// In the state directory, with the engine's address; `gc` finds them there.
    State(StateDir, String),
    /// Nowhere. The value is the owner; the engine lives in this process.
    Memory(String),
}

impl Store {
    pub(super) fn owner(&self) -> &str {
        match self {
            Self::State(state, _) => &state.owner,
            Self::Memory(owner) => owner,
        }
    }

    /// Claims a bottle's directory, if bottles are recorded.
    pub(super) fn claim(&self, order: &ChildRequest) -> Result<Option<Claim>, Failure> {
        match self {
            Self::State(state, endpoint) => {
                Claim::take(state, &Claim::record(&order.id, endpoint, &order.agent)).map(Some)
            }
            Self::Memory(_) => Ok(None),
        }
    }

    /// Runs a launch. Recorded bottles get a thread each, because a script may compute for long. In memory, launches
    /// run on the caller's thread, one at a time, so that every run is the same.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        launch: impl Future<Output = T> + Send + 'static,
    ) -> std::io::Result<T> {
        match self {
            Self::State(..) => on_own_thread(launch).await,
            Self::Memory(_) => Ok(launch.await),
        }
    }
}
