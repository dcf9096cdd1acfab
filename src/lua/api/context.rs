//! The context that is shared by all functions that scripts call.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use mlua::{Function, Lua};

use crate::lua::error::raise;
use crate::lua::script::{Grants, is_library};
use crate::lua::sources::Sources;
use crate::primitive::Bottle;
use crate::session::{Failure, ScriptLocation};

/// The test cases of a file, in order, each with its name.
pub(in crate::lua) type Cases = Arc<Mutex<Vec<(String, Function)>>>;

/// A script's deferred functions, by sequence number.
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
    /// The running line of the user's script; frames of the library are skipped.
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

    /// Raises a failure in the script, which may catch it: then the launch does not fail because of it.
    pub(super) fn or_raise<T>(&self, outcome: Result<T, Failure>, at: Option<&ScriptLocation>) -> mlua::Result<T> {
        outcome.map_err(|failure| {
            let failure = failure.at(at);
            self.bottle.session.effects.handle(&failure);
            raise(failure)
        })
    }
}
