//! The lifecycle of an object that a script created: where it was created, and whether it was closed.

use std::sync::OnceLock;

use crate::session::{Class, Failure, Pending, ScriptLocation, Session};

/// The lifecycle that every handle has.
pub struct Lifecycle {
    /// Its sequence number.
    pub seq: u64,
    /// A title for messages, such as `network outside`.
    pub title: String,
    made: Option<ScriptLocation>,
    closed: OnceLock<(Option<ScriptLocation>, Pending<()>)>,
}

impl Lifecycle {
    pub(in crate::primitive) fn new(seq: u64, title: String, made: Option<&ScriptLocation>) -> Self {
        Self { seq, title, made: made.cloned(), closed: OnceLock::new() }
    }

    /// Checks that the object exists: neither the script nor the teardown, which may be running a `defer`, has
    /// removed it.
    ///
    /// # Errors
    /// It was removed; the message names the lines that created and closed it.
    pub fn check(&self, session: &Session, at: Option<&ScriptLocation>) -> Result<(), Failure> {
        let made = self.made.as_ref().map(|made| format!("; it was created at {made}")).unwrap_or_default();
        let gone = if let Some((by, _)) = self.closed.get() {
            let by = by.as_ref().map(|by| format!(" at {by}")).unwrap_or_default();
            format!("{} was closed{by}{made}", self.title)
        } else if session.is_torn_down(self.seq) {
            format!("{} has been removed by the teardown{made}", self.title)
        } else {
            return Ok(());
        };
        let failure = Failure::new(Class::Input, gone).at(at);
        Err(failure.hint("use a handle before its close; a defer sees only what was created before it"))
    }

    /// Marks the object as closed; the first call runs `undo`.
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
