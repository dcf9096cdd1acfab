//! The life of a thing that a script made: where it was made, whether it is still there, how it is undone early.

use std::sync::OnceLock;

use crate::session::{Class, Failure, Pending, ScriptLocation, Session};

/// What every handle carries.
pub struct Lifecycle {
    /// Its place in program order.
    pub seq: u64,
    /// `network outside`, for messages.
    pub title: String,
    made: Option<ScriptLocation>,
    closed: OnceLock<(Option<ScriptLocation>, Pending<()>)>,
}

impl Lifecycle {
    pub(in crate::primitive) fn new(seq: u64, title: String, made: Option<&ScriptLocation>) -> Self {
        Self { seq, title, made: made.cloned(), closed: OnceLock::new() }
    }

    /// Refuses what has been undone: by the script itself, or by the teardown that runs its `defer`.
    ///
    /// # Errors
    /// It is gone; the message names where it was made and where it went.
    pub fn check(&self, session: &Session, at: Option<&ScriptLocation>) -> Result<(), Failure> {
        let made = self.made.as_ref().map(|made| format!("; it was made at {made}")).unwrap_or_default();
        let gone = if let Some((by, _)) = self.closed.get() {
            let by = by.as_ref().map(|by| format!(" at {by}")).unwrap_or_default();
            format!("{} was closed{by}{made}", self.title)
        } else if session.is_torn_down(self.seq) {
            format!("{} has been removed by the teardown{made}", self.title)
        } else {
            return Ok(());
        };
        let failure = Failure::new(Class::Input, gone).at(at);
        Err(failure.hint("use a handle before its close; a defer sees only what was made before it"))
    }

    /// Notes that the thing is undone from here on; `undo` starts that, once however often it is asked for.
    pub(in crate::primitive) fn close(
        &self,
        at: Option<&ScriptLocation>,
        undo: impl FnOnce() -> Pending<()>,
    ) -> Pending<()> {
        self.closed.get_or_init(|| (at.cloned(), undo())).1.clone()
    }

    /// Whether it has been closed.
    pub(in crate::primitive) fn is_closed(&self) -> bool {
        self.closed.get().is_some()
    }
}
