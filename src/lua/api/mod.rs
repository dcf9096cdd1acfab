//! The primitives as Lua functions: they read options from tables, take locations from the stack, and return handles.

mod container;
mod context;
mod convert;
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

use mlua::{Lua, Table};

pub(super) use context::{Cases, Context, Defers};
pub(super) use convert::{describe, serialize_options};
pub(super) use failure::Caught;
pub(super) use handle::Handle;

/// The table of primitives from which the prelude makes the globals.
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
