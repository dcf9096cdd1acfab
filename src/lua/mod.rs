//! Recipes: the Lua machine with its limits, and the primitives as scripts see them. Only this folder names mlua.

mod api;
mod error;
mod guard;
pub mod lint;
mod memory;
pub mod reference;
mod require;
mod watchdog;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use mlua::chunk::{Chunk, ChunkMode};
use mlua::{Function, Lua, LuaOptions, LuaSerdeExt, StdLib, Table, Value};

pub use require::{built_in as built_in_recipe, names as built_in_names};
pub use watchdog::on_runaway;

use crate::plan::LaunchPlan;
use crate::primitive::{Agent, Bottle, Event};
use crate::session::{Class, Defer, Failure, ScriptLocation};
use guard::Guard;

/// Most memory a script may use, in bytes: of Lua's, and of what primitives hold for it.
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

/// What a launch runs: a recipe, and the project's files around it.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Program {
    /// The recipe.
    pub recipe: Script,
    /// The project's files that count, by their names below `.bottler/`: `hooks.lua`, `lib/db.lua`. Read once.
    pub project: BTreeMap<String, String>,
    /// What the user's manifest lets scripts do.
    pub grants: Grants,
}

impl Program {
    /// A recipe by itself.
    pub fn of(recipe: Script) -> Self {
        Self { recipe, project: BTreeMap::new(), grants: Grants::none() }
    }

    /// The same project around another recipe.
    #[must_use]
    pub fn with(&self, recipe: Script) -> Self {
        Self { recipe, ..self.clone() }
    }

    /// The project's hooks, if it has some.
    pub fn hooks(&self) -> Option<Script> {
        Some(Script::of_project("hooks.lua", self.project.get("hooks.lua")?))
    }
}

/// How the names of a project's own files begin in messages.
const PROJECT: &str = ".bottler/";

/// What a file of the project is called in messages.
fn project_name(path: &str) -> String {
    format!("{PROJECT}{path}")
}

/// What the user's manifest lets scripts do beyond their primitives.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Grants {
    /// Things that isolate and that a project's hooks may replace, by name.
    pub replace: Vec<String>,
    /// Commands that `host.run` may run: a command is let through that begins as one of these.
    pub host_commands: Vec<Vec<String>>,
}

impl Grants {
    /// Nothing.
    pub fn none() -> Self {
        Self { replace: Vec::new(), host_commands: Vec::new() }
    }
}

impl Script {
    /// A file of the project's, by its name below `.bottler/`.
    pub fn of_project(path: &str, source: &str) -> Self {
        Self { name: project_name(path), source: source.to_owned() }
    }

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
    /// The primitives, and the prelude's own functions; no script of a user's sees it.
    core: Table,
    guard: Arc<Guard>,
    sources: Arc<Sources>,
    defers: Defers,
    program: Program,
    bottle: Arc<Bottle>,
    cases: Cases,
}

/// The cases of a file of tests.
type Cases = Arc<Mutex<Vec<(String, Function)>>>;

type Defers = Arc<Mutex<BTreeMap<u64, Function>>>;

/// The texts of the scripts that were loaded, to quote from.
#[derive(Default)]
struct Sources(Mutex<BTreeMap<String, String>>);

impl Sources {
    fn add(&self, script: &Script) {
        let mut known = crate::sync::lock(&self.0);
        known.insert(script.name.clone(), script.source.clone());
    }

    /// The text of a line, from 1; empty where it is not known.
    fn line(&self, script: &str, line: usize) -> String {
        let known = crate::sync::lock(&self.0);
        let text = known.get(script).and_then(|source| source.lines().nth(line.checked_sub(1)?));
        text.unwrap_or_default().trim().to_owned()
    }

    /// Where a function is written.
    fn defined(&self, function: &Function) -> Option<ScriptLocation> {
        let info = function.info();
        let script = info.source?.strip_prefix('@')?.to_owned();
        Some(self.place(&script, info.line_defined?))
    }

    fn place(&self, script: &str, line: usize) -> ScriptLocation {
        ScriptLocation { script: script.to_owned(), line, text: self.line(script, line) }
    }
}

impl Vm {
    /// A machine with the primitives of a bottle.
    ///
    /// # Errors
    /// The built-in library does not load: a bug in bottler.
    pub fn new(bottle: &Arc<Bottle>, program: &Program) -> Result<Self, Failure> {
        let internal = |error: mlua::Error| Failure::new(Class::Internal, format!("start the Lua machine: {error}"));
        Self::build(bottle, program).map_err(internal)
    }

    fn build(bottle: &Arc<Bottle>, program: &Program) -> mlua::Result<Self> {
        let libraries = StdLib::TABLE | StdLib::STRING | StdLib::MATH | StdLib::UTF8;
        let lua = Lua::new_with(libraries, LuaOptions::default())?;
        lua.set_memory_limit(MAX_MEMORY)?;
        memory::install(&lua);
        lua.globals().get::<Table>("string")?.raw_remove("dump")?;
        let sources = Arc::new(Sources::default());
        let guard = Guard::install(&lua, &sources, bottle.setting().burst)?;
        let (defers, cases) = (Defers::default(), Cases::default());
        let context = api::Context {
            bottle: bottle.clone(),
            sources: sources.clone(),
            defers: defers.clone(),
            grants: Arc::new(program.grants.clone()),
            cases: cases.clone(),
        };
        // The prelude gets globals of its own, of which it makes those of scripts; mlua goes on using the machine's.
        let globals = lua.create_table()?;
        for name in ALLOWED {
            globals.raw_set(name, lua.globals().get::<Value>(name)?)?;
        }
        let core = api::core(&lua, &context)?;
        let modules = require::Modules { project: program.project.clone(), core: core.clone() };
        core.raw_set("require", require::function(&lua, &sources, modules)?)?;
        let prelude = Script::library("core", require::library("core").unwrap_or_default());
        prelude.load(&lua, &globals).call::<()>((core.clone(), globals.clone()))?;
        Ok(Self { lua, core, guard, sources, defers, program: program.clone(), bottle: bottle.clone(), cases })
    }

    /// Runs the recipe to its end; the agent it returned, if any. What it made is made or being made by then.
    ///
    /// # Errors
    /// The script is malformed or fails, with its line.
    pub async fn run(&self, plan: &LaunchPlan) -> Result<Option<Arc<Agent>>, Failure> {
        let script = &self.program.recipe;
        let work = async {
            let hooks = match self.program.hooks() {
                Some(hooks) => self.load(&hooks).await?,
                None => Value::Nil,
            };
            let recipe = self.load(script).await?;
            if !matches!(recipe, Value::Function(_) | Value::Table(_)) {
                let what = format!("the script returned {}, not a recipe", api::a(&recipe));
                return Err(mlua::Error::external(bad_return(script, &what, "return recipe(function(plan) … end)")));
            }
            let plan = self.lua.to_value_with(plan, api::serialize_options())?;
            self.prelude("launch")?.call_async::<Value>((recipe, plan, hooks)).await
        };
        let result = self.guard.watch(work).await.map_err(|error| self.failure(&error))?;
        match result {
            Value::Nil => Ok(None),
            Value::UserData(handle) => match handle.borrow::<api::Handle<Agent>>() {
                Ok(agent) => Ok(Some(agent.it.clone())),
                Err(_) => Err(bad_return(script, "the recipe returned another handle", AGENT_OR_NOTHING)),
            },
            other => {
                let what = format!("the recipe returned {}", api::a(&other));
                Err(bad_return(script, &what, AGENT_OR_NOTHING))
            }
        }
    }

    /// Runs a script that is no recipe; what it returned is of no interest.
    ///
    /// # Errors
    /// It is malformed or fails, with its line.
    pub async fn execute(&self, script: &Script) -> Result<(), Failure> {
        let work = self.load(script);
        self.guard.watch(work).await.map(drop).map_err(|error| self.failure(&error))
    }

    /// Runs a case of a file of tests that was executed, by its number from 0: its name and how it ended; `None` where
    /// there are no more.
    ///
    /// # Errors
    /// Never: the case's own failure is inside.
    pub async fn run_case(&self, index: usize) -> Result<Option<(String, Result<(), Failure>)>, Failure> {
        let case = crate::sync::lock(&self.cases).get(index).cloned();
        let Some((name, work)) = case else { return Ok(None) };
        let ran = self.guard.watch(work.call_async::<()>(())).await.map_err(|error| self.failure(&error));
        let ran = match ran {
            Ok(()) => self.bottle.session.effects.settle().await,
            failed => failed,
        };
        Ok(Some((name, ran)))
    }

    /// Tells the project's `on_failure` why the launch failed; what goes wrong with that is told, and changes nothing.
    pub async fn on_failure(&self, failure: &Failure) {
        let work = async {
            let caught = self.lua.create_userdata(api::Caught::new(&self.lua, failure.clone())?)?;
            self.prelude("ended")?.call_async::<()>(("on_failure", caught)).await
        };
        if let Err(error) = self.guard.watch(work).await {
            let failure = self.failure(&error);
            self.bottle.events.tell(Event::Log(format!("on_failure: {failure}")));
        }
    }

    /// The project's hooks, each with when, name and place: outermost first. Runs its files on an engine in memory.
    ///
    /// # Errors
    /// The files are malformed or fail, with the line.
    pub async fn hooks(program: &Program) -> Result<Vec<(String, String, Option<ScriptLocation>)>, Failure> {
        let Some(hooks) = program.hooks() else { return Ok(Vec::new()) };
        let vm = Self::new(&Bottle::in_memory(), program)?;
        let work = async {
            let hooks = vm.load(&hooks).await?;
            vm.prelude("list_hooks")?.call_async::<Vec<Table>>(hooks).await
        };
        let found = vm.guard.watch(work).await.map_err(|error| vm.failure(&error))?;
        let row = |row: Table| Ok((row.get(1)?, row.get(2)?, vm.sources.defined(&row.get::<Function>(3)?)));
        found.into_iter().map(row).collect::<mlua::Result<_>>().map_err(|error| vm.failure(&error))
    }

    async fn load(&self, script: &Script) -> mlua::Result<Value> {
        self.sources.add(script);
        let environment: Table = self.prelude("environment")?.call(())?;
        script.load(&self.lua, &environment).call_async(()).await
    }

    fn prelude(&self, name: &str) -> mlua::Result<Function> {
        self.core.raw_get(name)
    }

    fn failure(&self, error: &mlua::Error) -> Failure {
        error::failure(error, &self.sources)
    }

    /// What the teardown runs of the script, by places: deferred functions, and the project's `on_teardown` before all.
    pub fn take_defers(&self) -> BTreeMap<u64, Defer> {
        let functions = std::mem::take(&mut *crate::sync::lock(&self.defers));
        let mut defers: BTreeMap<u64, Defer> = BTreeMap::new();
        for (seq, function) in functions {
            defers.insert(seq, self.defer(seq, "defer", function.call_async(())));
        }
        if self.program.hooks().is_some()
            && let Ok(ended) = self.prelude("ended")
        {
            let call = ended.call_async("on_teardown");
            // Before everything that has a place.
            defers.insert(u64::MAX - 1, self.defer(u64::MAX - 1, "on_teardown", call));
        }
        defers
    }

    fn defer(
        &self,
        seq: u64,
        kind: &'static str,
        call: impl Future<Output = mlua::Result<()>> + Send + 'static,
    ) -> Defer {
        let (guard, sources, bottle) = (self.guard.clone(), self.sources.clone(), self.bottle.clone());
        let run = async move {
            bottle.session.tear_down_after(seq);
            let ran = guard.watch(call).await;
            ran.map_err(|error| {
                let failure = error::failure(&error, &sources);
                let at = failure.at.as_ref().map(|place| format!("{place}: ")).unwrap_or_default();
                format!("{at}{failure}")
            })
        };
        Defer { kind, name: kind.to_owned(), run: Box::pin(run) }
    }
}

const AGENT_OR_NOTHING: &str = "return what run_agent gave, or nothing";

fn bad_return(script: &Script, what: &str, hint: &str) -> Failure {
    Failure::new(Class::Input, format!("{}: {what}", script.name)).hint(hint)
}
