//! The Lua machine of one bottle: runs the recipe, the project's hooks, and the deferred functions.

use std::collections::BTreeMap;
use std::sync::Arc;

use mlua::{Function, Lua, LuaOptions, LuaSerdeExt, StdLib, Table, Value};

use super::api::{Cases, Caught, Context, Defers, Handle, core, describe, serialize_options};
use super::error;
use super::globals::ALLOWED;
use super::guard::Guard;
use super::limits::MAX_MEMORY;
use super::script::{Program, Script};
use super::sources::Sources;
use super::{memory, require};
use crate::plan::LaunchPlan;
use crate::primitive::{Agent, Bottle, Event, in_memory};
use crate::session::{Class, Defer, Failure, ScriptLocation};
use crate::sync::lock;

/// A Lua machine for one bottle.
pub struct Vm {
    lua: Lua,
    /// The primitives and the prelude's own functions. Scripts of users never see it.
    core: Table,
    guard: Arc<Guard>,
    sources: Arc<Sources>,
    defers: Defers,
    program: Program,
    bottle: Arc<Bottle>,
    cases: Cases,
}

impl Vm {
    /// Creates a machine with a bottle's primitives.
    ///
    /// # Errors
    /// The built-in library does not load, which is a bug in bottler.
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
        let told = bottle.clone();
        let on_burst = move |computes| told.note_script(computes);
        let guard = Guard::install(&lua, &sources, bottle.host().burst, on_burst)?;
        let (defers, cases) = (Defers::default(), Cases::default());
        let context = Context {
            bottle: bottle.clone(),
            sources: sources.clone(),
            defers: defers.clone(),
            grants: Arc::new(program.grants.clone()),
            cases: cases.clone(),
        };
        // Scripts get a separate table of globals; mlua goes on using the machine's own.
        let globals = lua.create_table()?;
        for name in ALLOWED {
            globals.raw_set(name, lua.globals().get::<Value>(name)?)?;
        }
        let core = core(&lua, &context)?;
        let modules = require::Modules { project: program.project.clone(), core: core.clone() };
        core.raw_set("require", require::function(&lua, &sources, modules)?)?;
        let prelude = Script::library("core", require::library("core").unwrap_or_default());
        prelude.load(&lua, &globals).call::<()>((core.clone(), globals.clone()))?;
        Ok(Self { lua, core, guard, sources, defers, program: program.clone(), bottle: bottle.clone(), cases })
    }

    /// Runs the recipe to its end. Returns the agent that it returned, if any. Its objects exist then, or are being
    /// created.
    ///
    /// # Errors
    /// The script is malformed or fails; the failure names the line.
    pub async fn run(&self, plan: &LaunchPlan) -> Result<Option<Arc<Agent>>, Failure> {
        let script = &self.program.recipe;
        let work = async {
            let hooks = match self.program.hooks() {
                Some(hooks) => self.load(&hooks).await?,
                None => Value::Nil,
            };
            let recipe = self.load(script).await?;
            if !matches!(recipe, Value::Function(_) | Value::Table(_)) {
                let what = format!("the script returned {}, not a recipe", describe(&recipe));
                return Err(mlua::Error::external(bad_return(script, &what, "return recipe(function(plan) … end)")));
            }
            let plan = self.lua.to_value_with(plan, serialize_options())?;
            self.prelude("launch")?.call_async::<Value>((recipe, plan, hooks)).await
        };
        let result = self.guard.watch(work).await.map_err(|error| self.failure(&error))?;
        match result {
            Value::Nil => Ok(None),
            Value::UserData(handle) => match handle.borrow::<Handle<Agent>>() {
                Ok(agent) => Ok(Some(agent.it.clone())),
                Err(_) => Err(bad_return(script, "the recipe returned a handle of another kind", AGENT_OR_NOTHING)),
            },
            other => {
                let what = format!("the recipe returned {}", describe(&other));
                Err(bad_return(script, &what, AGENT_OR_NOTHING))
            }
        }
    }

    /// Runs a script that is not a recipe, and ignores what it returns.
    ///
    /// # Errors
    /// The script is malformed or fails; the failure names the line.
    pub async fn execute(&self, script: &Script) -> Result<(), Failure> {
        let work = self.load(script);
        self.guard.watch(work).await.map(drop).map_err(|error| self.failure(&error))
    }

    /// Runs a test case of a file that was executed, by its index from 0. Returns its name and its result; `None`
    /// after the last case.
    ///
    /// # Errors
    /// None: a case's own failure is in the result.
    pub async fn run_case(&self, index: usize) -> Result<Option<(String, Result<(), Failure>)>, Failure> {
        let case = lock(&self.cases).get(index).cloned();
        let Some((name, work)) = case else { return Ok(None) };
        let ran = self.guard.watch(work.call_async::<()>(())).await.map_err(|error| self.failure(&error));
        let ran = match ran {
            Ok(()) => self.bottle.session.effects.settle().await,
            failed => failed,
        };
        Ok(Some((name, ran)))
    }

    /// Calls the project's `on_failure` with the reason of the failure. Its own errors are reported and change
    /// nothing.
    pub async fn on_failure(&self, failure: &Failure) {
        let work = async {
            let caught = self.lua.create_userdata(Caught::new(&self.lua, failure.clone())?)?;
            self.prelude("ended")?.call_async::<()>(("on_failure", caught)).await
        };
        if let Err(error) = self.guard.watch(work).await {
            let failure = self.failure(&error);
            self.bottle.events.tell(Event::Log(format!("on_failure: {failure}")));
        }
    }

    /// The project's hooks, each with its kind, name and location, the outermost first. Runs the project's files on
    /// an engine in memory.
    ///
    /// # Errors
    /// The files are malformed or fail; the failure names the line.
    pub async fn hooks(program: &Program) -> Result<Vec<(String, String, Option<ScriptLocation>)>, Failure> {
        let Some(hooks) = program.hooks() else { return Ok(Vec::new()) };
        let vm = Self::new(&in_memory(), program)?;
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

    /// The teardown steps of the script, by sequence number: the project's `on_teardown`, which runs first, and
    /// deferred functions.
    pub fn take_defers(&self) -> BTreeMap<u64, Defer> {
        let functions = std::mem::take(&mut *lock(&self.defers));
        let mut defers: BTreeMap<u64, Defer> = BTreeMap::new();
        for (seq, function) in functions {
            defers.insert(seq, self.defer(seq, "defer", function.call_async(())));
        }
        if self.program.hooks().is_some()
            && let Ok(ended) = self.prelude("ended")
        {
            let call = ended.call_async("on_teardown");
            // Runs before everything that has a sequence number.
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

const AGENT_OR_NOTHING: &str = "return the result of run_agent, or nothing";

fn bad_return(script: &Script, what: &str, hint: &str) -> Failure {
    Failure::new(Class::Input, format!("{}: {what}", script.name)).hint(hint)
}
