//! What a bottle owns on this host: its directory, its record, its lock, and the reaper that watches over it.

use crate::host::{replace, replace_in_memory};
use crate::plan::LaunchPlan;
use crate::session::{Class, Failure, PLAN_FILE, Record, SessionDir, StateDir, UndoRow, reaper};

pub(super) struct Claim {
    pub(super) dir: SessionDir,
    switch: reaper::ReaperHandle,
}

impl Claim {
    /// Claims a bottle's directory and starts its reaper.
    pub(super) fn take(state: &StateDir, record: &Record) -> Result<Self, Failure> {
        let id = record.id.as_str();
        let record = Record { owner: Some(state.owner.clone()), ..record.clone() };
        let internal =
            |error: std::io::Error| Failure::new(Class::Internal, format!("open the state directory: {error}"));
        let dir = state.claim(id).map_err(internal)?.ok_or_else(|| {
            let why = if state.is_alive(id) {
                "a bottle of this name is running"
            } else {
                "what is kept of a bottle of this name is being read (`bottler diff`, `bottler pull`)"
            };
            Failure::new(Class::Name, format!("launch {id}: {why}"))
                .hint("choose another --name, or see `bottler ps --all`")
        })?;
        // Before anything else is written, so that a holder that is killed leaves nothing to find.
        let failed = match reaper::start(state, &dir, &record) {
            Ok(switch) => match dir.write_record(&record) {
                Ok(()) => return Ok(Self { dir, switch }),
                Err(error) => {
                    switch.disarm();
                    internal(error)
                }
            },
            Err(error) => Failure::new(Class::Internal, format!("start the reaper: {error}")),
        };
        // Files of an earlier launch must not be removed.
        if !dir.reused {
            let _ = dir.remove();
        }
        Err(failed)
    }

    /// Writes the bottle's plan, which `exec`, `inspect` and `diff` read. A new one is on the disk before the agent's release, and no
    /// launch waits for it earlier; one of a kept bottle is not lost for another.
    pub(super) fn write_plan(&self, plan: &LaunchPlan) -> Result<(), Failure> {
        let written = serde_json::to_vec(plan).map_err(std::io::Error::other);
        let write = if self.dir.reused { replace } else { replace_in_memory };
        written
            .and_then(|plan| write(&self.dir.path.join(PLAN_FILE), &plan))
            .map_err(|error| Failure::new(Class::Internal, format!("write the plan of {}: {error}", plan.bottle)))
    }

    /// The record of a bottle that is launched now.
    pub(super) fn record(id: &str, endpoint: &str, agent: &str) -> Record {
        let launched = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
        Record {
            id: id.to_owned(),
            endpoint: endpoint.to_owned(),
            agent: agent.to_owned(),
            launched,
            owner: None,
            keeps: None,
            keeps_home: None,
            invocation: None,
        }
    }

    /// Releases the claim after the unwinding. The directory stays if objects are left on the engine, because `gc`
    /// finds them by its record, or if the workspace is kept.
    pub(super) fn give_back(self, undo: &[UndoRow], kept: bool) -> Result<(), Failure> {
        let left = kept || undo.iter().any(UndoRow::is_left);
        let removed = if left { Ok(()) } else { self.dir.remove() };
        self.switch.disarm();
        removed.map_err(|error| Failure::new(Class::Internal, format!("remove {}: {error}", self.dir.path.display())))
    }
}
