//! A bottle's place on this host: its directory, its record, its lock, and the reaper that watches over it.

use std::sync::Arc;

use crate::engine::Engine;
use crate::session::{Class, Failure, Record, Session, SessionDir, StateDir, UndoRow, reaper};

pub(super) struct Claim {
    pub(super) dir: SessionDir,
    switch: reaper::Switch,
}

impl Claim {
    /// Takes a bottle's directory and starts its reaper.
    pub(super) fn take(state: &StateDir, endpoint: &str, id: &str, agent: &str) -> Result<Self, Failure> {
        let internal =
            |error: std::io::Error| Failure::new(Class::Internal, format!("open the state directory: {error}"));
        let dir = state.claim(id).map_err(internal)?.ok_or_else(|| {
            Failure::new(Class::Name, format!("launch {id}: a bottle of this name is running"))
                .hint("choose another --name, or see `bottler ps`")
        })?;
        let launched = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
        let record = Record { id: id.to_owned(), endpoint: endpoint.to_owned(), agent: agent.to_owned(), launched };
        dir.write_record(&record).map_err(internal)?;
        match reaper::start(state, &dir, id, endpoint) {
            Ok(switch) => Ok(Self { dir, switch }),
            Err(error) => {
                let _ = dir.remove();
                Err(Failure::new(Class::Internal, format!("start the reaper: {error}")))
            }
        }
    }

    /// A session that journals here.
    pub(super) fn session(&self, state: &StateDir, engine: Arc<dyn Engine>, id: &str) -> Result<Session, Failure> {
        Session::new(id, &state.owner, engine, &self.dir.path).map_err(|error| {
            Failure::new(Class::Internal, format!("create the journal in {}: {error}", self.dir.path.display()))
        })
    }

    /// Gives the place back after the unwinding. What is left on the engine needs its record, so that `gc` finds it.
    pub(super) fn give_back(self, undo: &[UndoRow]) -> Result<(), Failure> {
        let left = undo.iter().any(UndoRow::is_left);
        let removed = if left { Ok(()) } else { self.dir.remove() };
        self.switch.disarm();
        removed.map_err(|error| Failure::new(Class::Internal, format!("remove {}: {error}", self.dir.path.display())))
    }

    /// Leaves everything to the reaper.
    pub(super) fn abandon(self) {
        std::mem::forget(self.switch);
    }
}
