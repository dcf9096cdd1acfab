//! The life of a thing that a script made: where it was made, whether it is still there, how it is undone early.

use std::sync::{Arc, OnceLock};

use super::{Bottle, Event};
use crate::engine::labels::{Identity, Kind};
use crate::session::{Class, Failure, Pending, ScriptLocation};

/// Things that one bottle may make, those that are gone again included.
const MAX_MADE: usize = 5000;

/// What every handle carries.
pub struct Life {
    /// Its place in program order.
    pub seq: u64,
    /// `network outside`, for messages.
    pub title: String,
    made: Option<ScriptLocation>,
    closed: OnceLock<(Option<ScriptLocation>, Pending<()>)>,
}

impl Life {
    pub(super) fn new(seq: u64, title: String, made: Option<&ScriptLocation>) -> Self {
        Self { seq, title, made: made.cloned(), closed: OnceLock::new() }
    }

    /// Refuses what has been undone: by the script itself, or by the teardown that runs its `defer`.
    ///
    /// # Errors
    /// It is gone; the message names where it was made and where it went.
    pub fn check(&self, bottle: &Bottle, at: Option<&ScriptLocation>) -> Result<(), Failure> {
        let made = self.made.as_ref().map(|made| format!("; it was made at {made}")).unwrap_or_default();
        let gone = if let Some((by, _)) = self.closed.get() {
            let by = by.as_ref().map(|by| format!(" at {by}")).unwrap_or_default();
            format!("{} was closed{by}{made}", self.title)
        } else if bottle.session.is_torn_down(self.seq) {
            format!("{} has been removed by the teardown{made}", self.title)
        } else {
            return Ok(());
        };
        let failure = Failure::new(Class::Input, gone).at(at);
        Err(failure.hint("use a handle before its close; a defer sees only what was made before it"))
    }

    /// Undoes the thing now, in a task of its own: once, however often it is asked for.
    pub(super) fn close<F>(&self, bottle: &Arc<Bottle>, at: Option<&ScriptLocation>, undo: F) -> Pending<()>
    where
        F: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let start = || (at.cloned(), bottle.effect(format!("remove {}", self.title), at, undo));
        self.closed.get_or_init(start).1.clone()
    }

    /// Whether it has been closed.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.get().is_some()
    }
}

impl Bottle {
    /// Announces that a thing is about to be made: its labels, and its life.
    pub(super) fn begin(
        &self,
        kind: Kind,
        part: &str,
        name: &str,
        at: Option<&ScriptLocation>,
    ) -> Result<(Identity, Arc<Life>), Failure> {
        let identity = self.intend(kind, name, at)?;
        let title = if part.is_empty() { kind.word().to_owned() } else { format!("{} {part}", kind.word()) };
        let life = Arc::new(Life::new(identity.seq, title, at));
        Ok((identity, life))
    }

    /// Announces that a thing is about to be made: its labels.
    pub(super) fn intend(&self, kind: Kind, name: &str, at: Option<&ScriptLocation>) -> Result<Identity, Failure> {
        if self.session.is_torn_down(u64::MAX) {
            return Err(Failure::new(
                Class::Input,
                format!("make {} {name}: the bottle is being torn down", kind.word()),
            )
            .hint("a defer or on_teardown undoes; it makes nothing new")
            .at(at));
        }
        if crate::sync::lock(&self.made).len() >= MAX_MADE {
            let message = format!("make {} {name}: this bottle has made {MAX_MADE} things already", kind.word());
            return Err(Failure::new(Class::Input, message).at(at));
        }
        let identity = self.session.identity(kind);
        let part = name.strip_prefix(&self.session.id).unwrap_or(name).trim_start_matches('-');
        crate::sync::lock(&self.made).push(format!("{} {part}", kind.word()).trim_end().to_owned());
        self.events.tell(Event::Made { seq: identity.seq, kind, name: name.to_owned(), at: at.cloned() });
        Ok(identity)
    }
}
