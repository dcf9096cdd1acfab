//! Handles: what creating primitives give at once, and what scripts can ask of them.

use std::sync::Arc;

use mlua::{Lua, LuaSerdeExt, UserData, UserDataFields, UserDataMethods, Value};

use super::options::Options;
use super::raise;
use crate::primitive::{self, Agent, Bottle, Image, Network, Sidecar};

/// What a kind of handle is called in messages.
pub(super) fn kind<T: 'static>() -> &'static str {
    use std::any::TypeId;
    let kinds = [
        (TypeId::of::<ImageHandle>(), "what build_image gave"),
        (TypeId::of::<NetworkHandle>(), "what network_create gave"),
        (TypeId::of::<SidecarHandle>(), "what sidecar_start gave"),
        (TypeId::of::<AgentHandle>(), "what run_agent gave"),
    ];
    kinds.into_iter().find(|(id, _)| *id == TypeId::of::<T>()).map_or("a handle", |(_, words)| words)
}

#[derive(Clone)]
pub(super) struct ImageHandle(pub(super) Arc<Image>);

impl UserData for ImageHandle {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_async_method("ready", |_, this, ()| async move { this.0.ready().await.map_err(raise) });
    }
}

#[derive(Clone)]
pub(super) struct NetworkHandle(pub(super) Arc<Network>);

impl UserData for NetworkHandle {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        fields.add_field_method_get("name", |_, this| Ok(this.0.name.clone()));
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_async_method("ready", |lua, this, ()| async move {
            let (id, subnet) = this.0.ready().await.map_err(raise)?;
            let table = lua.create_table()?;
            table.set("id", id)?;
            table.set("subnet", subnet.to_string())?;
            Ok(table)
        });
    }
}

#[derive(Clone)]
pub(super) struct SidecarHandle(pub(super) Arc<Sidecar>, pub(super) Arc<Bottle>);

impl UserData for SidecarHandle {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        fields.add_field_method_get("name", |_, this| Ok(this.0.name.clone()));
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_async_method("ready", |_, this, ()| async move { this.0.ready().await.map(drop).map_err(raise) });
        methods.add_async_method("exec", |lua, this, table: Value| async move {
            let (sidecar, bottle) = (this.0.clone(), this.1.clone());
            drop(this);
            let container = async {
                sidecar.ready().await?;
                sidecar.container().await
            };
            exec(&lua, &bottle, container, table).await
        });
    }
}

/// The agent.
#[derive(Clone)]
pub(in crate::lua) struct AgentHandle(pub(in crate::lua) Arc<Agent>, pub(super) Arc<Bottle>);

impl UserData for AgentHandle {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        fields.add_field_method_get("name", |_, this| Ok(this.0.config.name.clone()));
        fields.add_field_method_get("prompt_path", |_, this| Ok(this.0.prompt_path()));
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_async_method("ready", |_, this, ()| async move { this.0.ready().await.map(drop).map_err(raise) });
        methods.add_async_method("exec", |lua, this, table: Value| async move {
            let (agent, bottle) = (this.0.clone(), this.1.clone());
            drop(this);
            exec(&lua, &bottle, agent.ready(), table).await
        });
        // Releases the agent and waits for the end of its command; a non-zero exit code is a result.
        methods.add_async_method("wait", |lua, this, ()| async move {
            let (agent, bottle) = (this.0.clone(), this.1.clone());
            drop(this);
            primitive::release(&bottle, &agent).await.map_err(raise)?;
            let code = agent.exit_code().await.map_err(raise)?;
            let table = lua.create_table()?;
            table.set("exit_code", code)?;
            Ok(table)
        });
    }
}

async fn exec(
    lua: &Lua,
    bottle: &Bottle,
    container: impl Future<Output = Result<String, crate::session::Failure>>,
    table: Value,
) -> mlua::Result<Value> {
    let options: primitive::ExecOptions = Options::new("exec", table, None)?.rest(lua)?;
    let container = container.await.map_err(raise)?;
    let result = primitive::exec(bottle.session.engine.as_ref(), &container, &options).await.map_err(raise)?;
    lua.to_value(&result)
}
