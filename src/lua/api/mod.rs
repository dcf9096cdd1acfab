//! The primitives as scripts see them: options out of tables, places out of the stack, handles back.

mod container;
mod create;
mod failure;
mod handle;
mod host;
mod json;
mod options;
mod script;
mod secret;
mod testing;
mod things;

use std::sync::Arc;

use mlua::{Lua, Table};

pub(super) use failure::Caught;
pub(super) use handle::Handle;
pub(super) use options::a;

use super::{Cases, Defers, Grants, Sources, error};
use crate::primitive::Bottle;
use crate::session::{Failure, ScriptLocation};

/// What every primitive needs.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) bottle: Arc<Bottle>,
    pub(super) sources: Arc<Sources>,
    pub(super) defers: Defers,
    pub(super) grants: Arc<Grants>,
    pub(super) cases: Cases,
}

impl Context {
    /// The line of the user's script that is running: library frames are passed over.
    fn place(&self, lua: &Lua) -> Option<ScriptLocation> {
        for level in 1.. {
            let frame = lua.inspect_stack(level, |frame| {
                let source = frame.source().source.map(std::borrow::Cow::into_owned);
                (source, frame.current_line())
            })?;
            if let (Some(source), Some(line)) = frame
                && let Some(script) = source.strip_prefix('@')
                && !error::is_library(script)
            {
                return Some(self.sources.place(script, line));
            }
        }
        None
    }

    /// Raises a failure, which the script may go on from: then it is no failure of the launch.
    fn told<T>(&self, outcome: Result<T, Failure>, at: Option<&ScriptLocation>) -> mlua::Result<T> {
        outcome.map_err(|failure| {
            let failure = failure.at(at);
            self.bottle.session.effects.handle(&failure);
            raise(failure)
        })
    }
}

pub(super) fn raise(failure: Failure) -> mlua::Error {
    mlua::Error::external(failure)
}

/// How Rust's values become Lua's: what is absent is nil.
pub(super) fn serialize_options() -> mlua::serde::ser::Options {
    mlua::serde::ser::Options::new()
        .serialize_none_to_null(false)
        .serialize_unit_to_null(false)
        .set_array_metatable(false)
}

/// The table of primitives that the prelude makes globals of.
pub(super) fn core(lua: &Lua, context: &Context) -> mlua::Result<Table> {
    let core = lua.create_table()?;
    create::install(lua, context, &core)?;
    script::install(lua, context, &core)?;
    json::install(lua, context, &core)?;
    testing::install(lua, context, &core)?;
    failure::install(lua, context, &core)?;
    core.raw_set("secret", secret::library(lua, context)?)?;
    core.raw_set("host", host::library(lua, context)?)?;
    core.raw_set("bottle_id", context.bottle.session.id.as_str())?;
    Ok(core)
}
