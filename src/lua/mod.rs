//! Recipes: the Lua machine with its limits, and the primitives as scripts see them. Only this folder names mlua.

mod api;
mod error;
mod guard;
mod require;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use mlua::chunk::{Chunk, ChunkMode};
use mlua::{Function, Lua, LuaOptions, LuaSerdeExt, StdLib, Table, Value};

pub use require::built_in as built_in_recipe;

use crate::plan::LaunchPlan;
use crate::primitive::{Agent, Bottle};
use crate::session::{Class, Defer, Failure};
use guard::Guard;

/// Most memory a script may use, in bytes.
const MAX_MEMORY: usize = 256 << 20;
/// All that a script has of Lua. Not there: code that nobody has seen, files and processes, a way to standard output,
/// turning collection off, and coroutines of its own, in which primitives that wait would break.
const ALLOWED: [&str; 21] = [
    "assert",
    "error",
    "getmetatable",
    "ipairs",
    "math",
    "next",
    "pairs",
    "pcall",
    "rawequal",
    "rawget",
    "rawlen",
    "rawset",
    "select",
    "setmetatable",
    "string",
    "table",
    "tonumber",
    "tostring",
    "type",
    "utf8",
    "xpcall",
];

/// A script.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Script {
    /// Its name in messages: `scripts/launch.lua`.
    pub name: String,
    /// Its text.
    pub source: String,
}

impl Script {
    fn library(name: &str, source: &str) -> Self {
        Self { name: format!("stdlib/{name}.lua"), source: source.to_owned() }
    }

    /// A chunk of text, never of bytecode, that sees these globals.
    fn load<'a>(&'a self, lua: &Lua, globals: &Table) -> Chunk<'a> {
        let chunk = lua.load(&self.source).set_name(format!("@{}", self.name));
        chunk.set_mode(ChunkMode::Text).set_environment(globals.clone())
    }
}

/// A Lua machine for one bottle.
pub struct Vm {
    lua: Lua,
    globals: Table,
    guard: Arc<Guard>,
    sources: Arc<Sources>,
    defers: Defers,
}

type Defers = Arc<Mutex<BTreeMap<u64, Function>>>;

/// The texts of the scripts that were loaded, to quote from.
#[derive(Default)]
struct Sources(Mutex<BTreeMap<String, String>>);

impl Sources {
    fn add(&self, script: &Script) {
        let mut known = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        known.insert(script.name.clone(), script.source.clone());
    }

    /// The text of a line, from 1; empty where it is not known.
    fn line(&self, script: &str, line: usize) -> String {
        let known = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let text = known.get(script).and_then(|source| source.lines().nth(line.checked_sub(1)?));
        text.unwrap_or_default().trim().to_owned()
    }
}

impl Vm {
    /// A machine with the primitives of a bottle.
    ///
    /// # Errors
    /// The built-in library does not load: a mistake in bottler.
    pub fn new(bottle: &Arc<Bottle>) -> Result<Self, Failure> {
        let internal = |error: mlua::Error| Failure::new(Class::Internal, format!("start the Lua machine: {error}"));
        Self::build(bottle).map_err(internal)
    }

    fn build(bottle: &Arc<Bottle>) -> mlua::Result<Self> {
        let libraries = StdLib::TABLE | StdLib::STRING | StdLib::MATH | StdLib::UTF8;
        let lua = Lua::new_with(libraries, LuaOptions::default())?;
        lua.set_memory_limit(MAX_MEMORY)?;
        lua.globals().get::<Table>("string")?.raw_remove("dump")?;
        let guard = Guard::install(&lua)?;
        let sources = Arc::new(Sources::default());
        let defers = Defers::default();
        let context = api::Context { bottle: bottle.clone(), sources: sources.clone(), defers: defers.clone() };
        // Scripts get globals of their own; mlua goes on using the machine's.
        let globals = lua.create_table()?;
        for name in ALLOWED {
            globals.raw_set(name, lua.globals().get::<Value>(name)?)?;
        }
        let core = api::core(&lua, &context)?;
        core.raw_set("require", require::function(&lua, &sources, &globals)?)?;
        let prelude = Script::library("core", require::library("core").unwrap_or_default());
        prelude.load(&lua, &globals).call::<()>((core, globals.clone()))?;
        Ok(Self { lua, globals, guard, sources, defers })
    }

    /// Runs a recipe to its end; the agent it returned, if any. What it made is made or being made by then.
    ///
    /// # Errors
    /// The script is malformed or fails, with its line.
    pub async fn run(&self, script: &Script, plan: &LaunchPlan) -> Result<Option<Arc<Agent>>, Failure> {
        self.sources.add(script);
        let work = async {
            let recipe: Value = script.load(&self.lua, &self.globals).call_async(()).await?;
            if !matches!(recipe, Value::Function(_) | Value::Table(_)) {
                let what = format!("the script returned {}, not a recipe", a(recipe.type_name()));
                return Err(mlua::Error::external(bad_return(script, &what, "return recipe(function(plan) … end)")));
            }
            let options = mlua::serde::ser::Options::new().serialize_none_to_null(false).set_array_metatable(false);
            let plan = self.lua.to_value_with(plan, options)?;
            let start: Function = self.globals.raw_get("__launch")?;
            start.call_async::<Value>((recipe, plan)).await
        };
        let result = self.guard.watch(work).await.map_err(|error| error::failure(&error, &self.sources))?;
        match result {
            Value::Nil => Ok(None),
            Value::UserData(handle) => match handle.borrow::<api::AgentHandle>() {
                Ok(agent) => Ok(Some(agent.0.clone())),
                Err(_) => Err(bad_return(script, "the recipe returned another handle", AGENT_OR_NOTHING)),
            },
            other => {
                let what = format!("the recipe returned {}", a(other.type_name()));
                Err(bad_return(script, &what, AGENT_OR_NOTHING))
            }
        }
    }

    /// The deferred functions, ready to be run by the unwinding, by their places.
    pub fn take_defers(&self) -> BTreeMap<u64, Defer> {
        let mut defers = crate::sync::lock(&self.defers);
        std::mem::take(&mut *defers).into_iter().map(|(seq, function)| (seq, self.defer(function))).collect()
    }

    fn defer(&self, function: Function) -> Defer {
        let (guard, sources) = (self.guard.clone(), self.sources.clone());
        Box::new(move || {
            Box::pin(async move {
                let ran = guard.watch(function.call_async::<()>(())).await;
                ran.map_err(|error| {
                    let failure = error::failure(&error, &sources);
                    let at = failure.at.as_ref().map(|place| format!("{place}: ")).unwrap_or_default();
                    format!("{at}{failure}")
                })
            })
        })
    }
}

const AGENT_OR_NOTHING: &str = "return what run_agent gave, or nothing";

fn bad_return(script: &Script, what: &str, hint: &str) -> Failure {
    Failure::new(Class::Input, format!("{}: {what}", script.name)).hint(hint)
}

fn a(kind: &str) -> String {
    match kind {
        "nil" => "nothing".to_owned(),
        "integer" => "an integer".to_owned(),
        kind => format!("a {kind}"),
    }
}
