//! `host.run`: a command on the host, if the user's manifest lists it.

use mlua::{Lua, Table, Value};

use super::context::Context;
use super::convert::to_lua;
use super::options::Options;
use crate::primitive;

pub(super) fn library(lua: &Lua, context: &Context) -> mlua::Result<Table> {
    let library = lua.create_table()?;
    let c = context.clone();
    let run = lua.create_async_function(move |lua, table: Value| {
        let c = c.clone();
        async move {
            let at = c.place(&lua);
            let options: primitive::HostOptions = Options::new(&lua, "host.run", table, at.as_ref())?.rest(&lua)?;
            let done = primitive::host_run(&c.bottle, &options, &c.grants.host_commands).await;
            to_lua(&lua, &c.or_raise(done, at.as_ref())?)
        }
    })?;
    library.raw_set("run", run)?;
    Ok(library)
}
