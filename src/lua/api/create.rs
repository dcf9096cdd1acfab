//! The creating primitives. Each returns a handle at once; the object is created in the background.

use std::collections::BTreeMap;
use std::sync::Arc;

use mlua::{Function, Lua, Table, Value};

use super::context::Context;
use super::convert::describe;
use super::handle::Handle;
use super::options::Options;
use crate::lua::error::raise;
use crate::primitive::{self, Agent, Child, Image, ImageOptions, Network, Sidecar, Volume, WorkspaceSource};
use crate::session::{Class, Failure, ScriptLocation};
use crate::workspace::{Files, Seed, WorkspaceFile};

pub(super) fn install(lua: &Lua, context: &Context, core: &Table) -> mlua::Result<()> {
    creating(lua, context, core, "build_image", |c, lua, options, at| {
        primitive::build_image(&c.bottle, &options.rest(lua)?, at).map(Arc::new).map_err(raise)
    })?;
    creating(lua, context, core, "network_create", |c, lua, options, at| {
        primitive::network_create(&c.bottle, &options.rest(lua)?, at).map_err(raise)
    })?;
    creating(lua, context, core, "volume_create", |c, lua, options, at| {
        primitive::volume_create(&c.bottle, &options.rest(lua)?, at).map_err(raise)
    })?;
    creating(lua, context, core, "sidecar_start", sidecar_start)?;
    creating(lua, context, core, "run_agent", |c, lua, options, at| {
        let image = options.handle::<Image>("image")?;
        let network = options.optional_handle::<Network>("network")?;
        let egress = options.handle::<Sidecar>("egress")?;
        let AgentTable { config } = options.rest(lua)?;
        let options = primitive::AgentOptions { image, network, egress, config };
        primitive::run_agent(&c.bottle, options, at).map_err(raise)
    })?;
    let c = context.clone();
    core.raw_set(
        "provision",
        lua.create_function(move |lua, (agent, table): (Value, Value)| {
            let at = c.place(lua);
            let mut options = Options::new(lua, "provision", table, at.as_ref())?;
            let agent = options.convert::<Agent>("agent", &agent)?;
            let counterpart = options.optional_handle::<Sidecar>("probe")?;
            let secrets = options.secrets("env")?;
            let mut rest: primitive::ProvisionOptions = options.rest(lua)?;
            rest.env.extend(secrets);
            options.keep();
            primitive::provision(&agent, rest, counterpart, at.as_ref()).map_err(raise)
        })?,
    )?;
    let c = context.clone();
    core.raw_set(
        "check_handle",
        lua.create_function(move |_, (primitive, name, handle, hook): (String, String, Value, Function)| {
            if is_handle(&primitive, &handle) {
                return Ok(());
            }
            let message =
                format!("hooks: replace.{name} returned {}, not the result of {primitive}", describe(&handle));
            Err(raise(Failure::new(Class::Input, message).at(c.sources.defined(&hook).as_ref())))
        })?,
    )?;
    let c = context.clone();
    core.raw_set(
        "check_replace",
        lua.create_function(move |lua, (primitive, hook, name, role): (String, String, String, Value)| {
            let isolates = primitive != "build_image" && primitive != "volume_create";
            let ordinary = primitive == "sidecar_start" && role.is_nil();
            if !isolates || ordinary || c.grants.replace.contains(&name) {
                return Ok(());
            }
            let message = format!("hooks: {hook} replaces a part of the isolation, which the manifest does not allow");
            let hint = format!("add `replace: [{name}]` to your own bottler.yaml, if this project may do that");
            Err(raise(Failure::new(Class::Input, message).hint(hint).at(c.place(lua).as_ref())))
        })?,
    )?;
    let c = context.clone();
    core.raw_set(
        "bottle",
        lua.create_function(move |lua, (agent, table): (String, Value)| {
            let at = c.place(lua);
            let mut options = Options::new(lua, "bottle", table, at.as_ref())?;
            let workspace = workspace(&c, &mut options)?;
            let rest: primitive::ChildOptions = options.rest(lua)?;
            options.keep();
            let child = primitive::launch_child(&c.bottle, &agent, rest, workspace, at.as_ref()).map_err(raise)?;
            Ok(Handle::<Child>::new(child, &c))
        })?,
    )
}

/// Installs a primitive that takes one table of options and returns a handle.
fn creating<T: super::handle::Thing>(
    lua: &Lua,
    context: &Context,
    core: &Table,
    name: &'static str,
    create: impl Fn(&Context, &Lua, &mut Options<'_>, Option<&ScriptLocation>) -> mlua::Result<Arc<T>> + Send + 'static,
) -> mlua::Result<()> {
    let c = context.clone();
    let function = lua.create_function(move |lua, table: Value| {
        let at = c.place(lua);
        let mut options = Options::new(lua, name, table, at.as_ref())?;
        let thing = create(&c, lua, &mut options, at.as_ref())?;
        options.keep();
        Ok(Handle::new(thing, &c))
    })?;
    core.raw_set(name, function)
}

/// Whether a value is a handle of the kind that a primitive returns.
fn is_handle(primitive: &str, value: &Value) -> bool {
    match (primitive, value.as_userdata()) {
        ("build_image", Some(it)) => it.is::<Handle<Image>>(),
        ("network_create", Some(it)) => it.is::<Handle<Network>>(),
        ("volume_create", Some(it)) => it.is::<Handle<Volume>>(),
        ("sidecar_start", Some(it)) => it.is::<Handle<Sidecar>>(),
        ("run_agent", Some(it)) => it.is::<Handle<Agent>>(),
        _ => false,
    }
}

fn sidecar_start(
    c: &Context,
    lua: &Lua,
    options: &mut Options<'_>,
    at: Option<&ScriptLocation>,
) -> mlua::Result<Arc<Sidecar>> {
    if options.has("image") {
        return service_start(c, lua, options, at);
    }
    let networks = options.handles::<Network>("network")?;
    let reachable = options.named_handles::<Sidecar>("sidecars")?;
    let egress = options.optional_handle::<Sidecar>("egress")?;
    let handles = primitive::SidecarHandles { networks, reachable, egress, dials_for: None };
    primitive::sidecar_start(&c.bottle, &options.rest(lua)?, handles, at).map_err(raise)
}

fn service_start(
    c: &Context,
    lua: &Lua,
    options: &mut Options<'_>,
    at: Option<&ScriptLocation>,
) -> mlua::Result<Arc<Sidecar>> {
    for name in ["network", "role", "allow", "sidecars", "egress"] {
        if options.has(name) {
            let message =
                format!("option {name} is not for an ordinary image: it has no network, its ports are relayed");
            return Err(options.bad(&message));
        }
    }
    let image = match options.text("image") {
        Some(source) => Arc::new(primitive::build_image(&c.bottle, &ImageOptions::of(&source), at).map_err(raise)?),
        None => options.handle::<Image>("image")?,
    };
    let env: BTreeMap<String, String> = options.secrets("env")?.into_iter().collect();
    let volumes = options.named_handles::<Volume>("volumes")?;
    primitive::service_start(&c.bottle, options.rest(lua)?, image, env, volumes, at).map_err(raise)
}

/// The workspace of a nested bottle: files by path, a copy of this bottle's (`true`), or the one that another bottle
/// left.
fn workspace(c: &Context, options: &mut Options<'_>) -> mlua::Result<Option<WorkspaceSource>> {
    let bad = "option workspace takes a table of files, true for this bottle's own, or a bottle's `workspace`";
    match options.take("workspace") {
        None | Some(Value::Boolean(false)) => Ok(None),
        Some(Value::Boolean(true)) => match c.bottle.seed() {
            Some(seed) => Ok(Some(WorkspaceSource::Shared(seed))),
            None => Err(options.bad("workspace = true, and this launch has none: `bottler run --workspace DIR`")),
        },
        Some(Value::Table(table)) => {
            let mut files = Files::new();
            for entry in table.pairs::<String, mlua::LuaString>() {
                let (path, content) = entry.map_err(|_| options.bad(bad))?;
                if path.starts_with('/') || path.split('/').any(|part| matches!(part, "" | "." | ".." | ".git")) {
                    return Err(options.bad(&format!("workspace: {path:?} is not a path below it")));
                }
                files.insert(path, WorkspaceFile::Regular { content: content.as_bytes().to_vec(), executable: false });
            }
            Ok(Some(WorkspaceSource::Given(Arc::new(Seed::Files(files)))))
        }
        Some(Value::UserData(left)) => match left.borrow::<WorkspaceResult>() {
            Ok(left) => Ok(Some(WorkspaceSource::Given(left.0.clone()))),
            Err(_) => Err(options.bad(bad)),
        },
        Some(_) => Err(options.bad(bad)),
    }
}

/// A workspace as a bottle left it, which can be given to another bottle.
pub(super) struct WorkspaceResult(pub(super) Arc<Seed>);

impl mlua::UserData for WorkspaceResult {}

/// The options of `run_agent` without the handles.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct AgentTable {
    config: crate::plan::AgentPlan,
}
