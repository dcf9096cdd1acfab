//! Where the bottles that a recipe launches are recorded, and what follows from that for how they run.

use super::claim::Claim;
use super::thread::on_own_thread;
use crate::primitive::ChildRequest;
use crate::session::{Failure, StateDir};

/// Where bottles are recorded.
pub(super) enum Store {
    /// In the state directory, with the engine's address: `gc` finds them there.
    State(StateDir, String),
    /// Nowhere, for this owner: the engine is gone with this process.
    Memory(String),
}

impl Store {
    pub(super) fn owner(&self) -> &str {
        match self {
            Self::State(state, _) => &state.owner,
            Self::Memory(owner) => owner,
        }
    }

    /// Claims a bottle's directory, where it has one.
    pub(super) fn claim(&self, order: &ChildRequest) -> Result<Option<Claim>, Failure> {
        match self {
            Self::State(state, endpoint) => {
                Claim::take(state, &Claim::record(&order.id, endpoint, &order.agent)).map(Some)
            }
            Self::Memory(_) => Ok(None),
        }
    }

    /// Runs a launch: on a thread of its own, for its script holds up nobody else; in memory on the caller's, one thing at a
    /// time, so that every run is the same.
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
