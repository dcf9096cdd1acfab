//! What every function that a script calls needs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use mlua::{Function, Lua};

use crate::lua::error::raise;
use crate::lua::script::{Grants, is_library};
use crate::lua::sources::Sources;
use crate::primitive::Bottle;
use crate::session::{Failure, ScriptLocation};

/// The cases of a file of tests, by name.
pub(in crate::lua) type Cases = Arc<Mutex<Vec<(String, Function)>>>;

/// The functions that a script has deferred, by their places in program order.
pub(in crate::lua) type Defers = Arc<Mutex<BTreeMap<u64, Function>>>;

/// What every primitive needs.
#[derive(Clone)]
pub(in crate::lua) struct Context {
    pub(in crate::lua) bottle: Arc<Bottle>,
    pub(in crate::lua) sources: Arc<Sources>,
    pub(in crate::lua) defers: Defers,
    pub(in crate::lua) grants: Arc<Grants>,
    pub(in crate::lua) cases: Cases,
}

impl Context {
    /// The line of the user's script that is running: library frames are passed over.
    pub(super) fn place(&self, lua: &Lua) -> Option<ScriptLocation> {
        for level in 1.. {
            let frame = lua.inspect_stack(level, |frame| {
                let source = frame.source().source.map(std::borrow::Cow::into_owned);
                (source, frame.current_line())
            })?;
            if let (Some(source), Some(line)) = frame
                && let Some(script) = source.strip_prefix('@')
                && !is_library(script)
            {
                return Some(self.sources.place(script, line));
            }
        }
        None
    }

    /// Raises a failure, which the script may go on from: then it is no failure of the launch.
    pub(super) fn or_raise<T>(&self, outcome: Result<T, Failure>, at: Option<&ScriptLocation>) -> mlua::Result<T> {
        outcome.map_err(|failure| {
            let failure = failure.at(at);
            self.bottle.session.effects.handle(&failure);
            raise(failure)
        })
    }
}
