//! The primitives as scripts see them: options out of tables, places out of the stack, handles back.

mod handle;
mod options;
mod script;
mod secret;

use std::sync::Arc;

use mlua::{Lua, Table};

pub(super) use handle::AgentHandle;

use super::{Defers, Sources, error};
use crate::primitive::{self, Bottle};
use crate::session::{Failure, Place};
use handle::{ImageHandle, NetworkHandle, SidecarHandle};
use options::Options;

/// What every primitive needs.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) bottle: Arc<Bottle>,
    pub(super) sources: Arc<Sources>,
    pub(super) defers: Defers,
}

impl Context {
    /// The line of the user's script that is running: library frames are passed over.
    fn place(&self, lua: &Lua) -> Option<Place> {
        for level in 1.. {
            let frame = lua.inspect_stack(level, |frame| {
                let source = frame.source().source.map(std::borrow::Cow::into_owned);
                (source, frame.current_line())
            })?;
            if let (Some(source), Some(line)) = frame
                && let Some(script) = source.strip_prefix('@')
                && !error::is_library(script)
            {
                return Some(Place { script: script.to_owned(), line, text: self.sources.line(script, line) });
            }
        }
        None
    }
}

fn raise(failure: Failure) -> mlua::Error {
    mlua::Error::external(failure)
}

/// The table of primitives that the prelude makes globals of.
pub(super) fn core(lua: &Lua, context: &Context) -> mlua::Result<Table> {
    let core = lua.create_table()?;
    creating(lua, context, &core)?;
    script::install(lua, context, &core)?;
    core.raw_set("secret", secret::library(lua, context)?)?;
    core.raw_set("bottle_id", context.bottle.session.id.as_str())?;
    Ok(core)
}

fn creating(lua: &Lua, context: &Context, core: &Table) -> mlua::Result<()> {
    let c = context.clone();
    core.raw_set(
        "build_image",
        lua.create_function(move |lua, table: mlua::Value| {
            let at = c.place(lua);
            let options = Options::new("build_image", table, at.as_ref())?;
            let image = primitive::build_image(&c.bottle, &options.rest(lua)?, at.as_ref()).map_err(raise)?;
            Ok(ImageHandle(Arc::new(image)))
        })?,
    )?;
    let c = context.clone();
    core.raw_set(
        "network_create",
        lua.create_function(move |lua, table: mlua::Value| {
            let at = c.place(lua);
            let options = Options::new("network_create", table, at.as_ref())?;
            primitive::network_create(&c.bottle, &options.rest(lua)?, at.as_ref()).map(NetworkHandle).map_err(raise)
        })?,
    )?;
    let c = context.clone();
    core.raw_set(
        "sidecar_start",
        lua.create_function(move |lua, table: mlua::Value| {
            let at = c.place(lua);
            let mut options = Options::new("sidecar_start", table, at.as_ref())?;
            let networks = options.handles::<NetworkHandle>("network")?;
            let networks: Vec<_> = networks.into_iter().map(|handle| handle.0).collect();
            let reachable = options.named_handles::<SidecarHandle>("sidecars")?;
            let reachable = reachable.into_iter().map(|(name, handle)| (name, handle.0)).collect();
            let started = primitive::sidecar_start(&c.bottle, &options.rest(lua)?, &networks, reachable, at.as_ref())
                .map_err(raise)?;
            Ok(SidecarHandle(started, c.bottle.clone()))
        })?,
    )?;
    let c = context.clone();
    core.raw_set(
        "run_agent",
        lua.create_function(move |lua, table: mlua::Value| {
            let at = c.place(lua);
            let mut options = Options::new("run_agent", table, at.as_ref())?;
            let image = options.handle::<ImageHandle>("image")?.0;
            let network = options.optional_handle::<NetworkHandle>("network")?.map(|handle| handle.0);
            let egress = options.handle::<SidecarHandle>("egress")?.0;
            let AgentTable { config } = options.rest(lua)?;
            let options = primitive::AgentOptions { image, network, egress, config };
            let agent = primitive::run_agent(&c.bottle, options, at.as_ref()).map_err(raise)?;
            Ok(AgentHandle(agent, c.bottle.clone()))
        })?,
    )?;
    let c = context.clone();
    core.raw_set(
        "provision",
        lua.create_function(move |lua, (agent, table): (mlua::Value, mlua::Value)| {
            let at = c.place(lua);
            let mut options = Options::new("provision", table, at.as_ref())?;
            let agent: AgentHandle = options.convert("agent", &agent)?;
            let counterpart = options.optional_handle::<SidecarHandle>("probe")?.map(|handle| handle.0);
            let secrets = options.secrets("env")?;
            let mut rest: primitive::ProvisionOptions = options.rest(lua)?;
            rest.env.extend(secrets);
            primitive::provision(&agent.0, rest, counterpart, at.as_ref()).map_err(raise)
        })?,
    )
}

/// What is left of `run_agent`'s table when the handles are out.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct AgentTable {
    config: crate::plan::AgentPlan,
}
