//! Methods that all containers' handles have: `exec`, `logs`, `copy_in`, `copy_out`, `stop`, `pause`, `unpause`,
//! `inspect`.

use std::time::Duration;

use mlua::{Lua, Table, UserDataMethods, Value};
use serde::de::DeserializeOwned;

use super::convert::to_lua;
use super::handle::{Called, Handle, Thing, begin};
use super::options::Options;
use crate::engine::Engine;
use crate::lua::error::raise;
use crate::lua::memory;
use crate::primitive::{self, Agent, Sidecar};
use crate::session::{Failure, ScriptLocation};

/// A handle's object that is a container.
pub(super) trait Contained: Thing {
    /// Waits until it runs; returns its id.
    fn running(&self) -> impl Future<Output = Result<String, Failure>> + Send;
}

impl Contained for Sidecar {
    async fn running(&self) -> Result<String, Failure> {
        self.ready().await?;
        self.container().await
    }
}

impl Contained for Agent {
    async fn running(&self) -> Result<String, Failure> {
        self.ready().await
    }
}

/// The options of a method, its call, and the container's id once it runs.
async fn call<T: Contained, O: DeserializeOwned>(
    lua: &Lua,
    this: mlua::UserDataRef<Handle<T>>,
    name: &'static str,
    table: Value,
) -> mlua::Result<(O, Called<T>, String)> {
    let call = begin(lua, this)?;
    let options = Options::new(lua, name, table, call.at.as_ref())?.rest(lua)?;
    let id = call.or_raise(call.it.running().await)?;
    Ok((options, call, id))
}

fn engine<T>(call: &Called<T>) -> &dyn Engine {
    call.bottle().session.engine.as_ref()
}

/// Accepts no options.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

pub(super) fn methods<T: Contained, M: UserDataMethods<Handle<T>>>(methods: &mut M) {
    methods.add_async_method("ready", |lua, this, ()| async move {
        call::<T, Nothing>(&lua, this, "ready", Value::Nil).await.map(drop)
    });
    methods.add_async_method("exec", |lua, this, table: Value| async move {
        let (options, call, id): (primitive::ExecOptions, _, _) = call(&lua, this, "exec", table).await?;
        let result = primitive::exec(engine(&call), &id, &options).await;
        to_lua(&lua, &call.or_raise(result)?)
    });
    methods.add_async_method("logs", |lua, this, table: Value| async move {
        let (options, call, id): (primitive::LogOptions, _, _) = call(&lua, this, "logs", table).await?;
        call.or_raise(primitive::logs(engine(&call), &id, &options).await)
    });
    // Taken out of the table first, because the content may be arbitrary bytes.
    methods.add_async_method("copy_in", |lua, this, table: Table| async move {
        let table = table.pairs::<Value, Value>().collect::<mlua::Result<Vec<_>>>()?;
        let table = lua.create_table_from(table)?;
        let content: Option<mlua::LuaString> = table.get("content")?;
        table.set("content", Value::Nil)?;
        let _held = content.clone().map(|content| memory::charge_for(&lua, [&Value::String(content)])).transpose()?;
        let (options, call, id): (primitive::CopyInOptions, _, _) =
            call(&lua, this, "copy_in", Value::Table(table)).await?;
        let missing = || Failure::new(crate::session::Class::Input, "copy_in: option is missing: content");
        let content = call.or_raise(content.ok_or_else(missing))?.as_bytes().to_vec();
        call.or_raise(primitive::copy_in(engine(&call), &id, &options, &content).await)
    });
    methods.add_async_method("copy_out", |lua, this, table: Value| async move {
        let (options, call, id): (primitive::CopyOutOptions, _, _) = call(&lua, this, "copy_out", table).await?;
        let content = primitive::copy_out(engine(&call), &id, &options).await;
        lua.create_string(call.or_raise(content)?)
    });
    methods.add_async_method("stop", |lua, this, table: Value| async move {
        let (options, call, id): (primitive::StopOptions, _, _) = call(&lua, this, "stop", table).await?;
        call.bottle().note_stopped(&id);
        call.or_raise(primitive::stop(engine(&call), &id, &options).await)
    });
    for (name, paused) in [("pause", true), ("unpause", false)] {
        methods.add_async_method(name, move |lua, this, ()| async move {
            let (Nothing {}, call, id) = call(&lua, this, name, Value::Nil).await?;
            let done = engine(&call).container_pause(&id, paused).await;
            call.or_raise(done.map_err(Failure::from))
        });
    }
    methods.add_async_method("inspect", |lua, this, ()| async move {
        let (Nothing {}, call, id) = call(&lua, this, "inspect", Value::Nil).await?;
        let state = engine(&call).container_inspect(&id).await;
        to_lua(&lua, &call.or_raise(state.map_err(Failure::from))?)
    });
}

pub(super) fn exit(lua: &Lua, code: i64) -> mlua::Result<Table> {
    lua.create_table_from([("exit_code", code)])
}

/// Reads `timeout`, the only option of the methods that wait.
pub(super) fn timeout(
    lua: &Lua,
    name: &'static str,
    table: Value,
    at: Option<&ScriptLocation>,
) -> mlua::Result<Option<Duration>> {
    let options: primitive::WaitOptions = Options::new(lua, name, table, at)?.rest(lua)?;
    let limit = options.timeout.map(|timeout| timeout.duration(name)).transpose();
    limit.map_err(|failure| raise(failure.at(at)))
}
