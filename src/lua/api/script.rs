//! Functions about the script itself: `step`, `log`, `progress`, `fail`, `defer`, `deadline`, `prompt`, `confirm`,
//! and hooks.

use mlua::{Function, Lua, LuaSerdeExt, MultiValue, Table, Value, Variadic};

use super::context::Context;
use super::convert::describe;
use super::options::Options;
use super::secret::Secret;
use crate::lua::error::raise;
use crate::lua::memory::Args;
use crate::primitive::{Event, Question, Seconds, StepState, within};
use crate::session::{Class, Failure, ScriptLocation};

/// How many characters of a step's name or a log line are shown.
const MAX_TEXT: usize = 500;
/// How many functions a script may defer.
const MAX_DEFERS: usize = 1000;

pub(super) fn install(lua: &Lua, context: &Context, core: &Table) -> mlua::Result<()> {
    telling(lua, context, core)?;
    bounding(lua, context, core)?;
    asking(lua, context, core)?;
    pause(lua, context, core)
}

fn telling(lua: &Lua, context: &Context, core: &Table) -> mlua::Result<()> {
    let events = context.bottle.events.clone();
    core.raw_set(
        "log",
        lua.create_function(move |_, given: Args<Variadic<Value>>| {
            let words: mlua::Result<Vec<String>> = given.values.iter().map(Value::to_string).collect();
            events.tell(Event::Log(shown(&words?.join(" "))));
            Ok(())
        })?,
    )?;
    let events = context.bottle.events.clone();
    core.raw_set(
        "progress",
        lua.create_function(move |_, given: Args<String>| {
            events.tell(Event::Progress(shown(&given.values)));
            Ok(())
        })?,
    )?;
    let events = context.bottle.events.clone();
    core.raw_set(
        "step",
        lua.create_async_function(move |_, given: Args<(String, Function)>| {
            let events = events.clone();
            async move {
                let ((name, work), _) = given.take();
                let name = shown(&name);
                events.step(&name, StepState::Started);
                let result = work.call_async::<MultiValue>(()).await;
                events.step(&name, if result.is_ok() { StepState::Done } else { StepState::Failed });
                result
            }
        })?,
    )?;
    let c = context.clone();
    core.raw_set(
        "note_hook",
        lua.create_function(move |_, (when, name, hook): (String, String, Function)| {
            c.bottle.events.tell(Event::Hook { when, name, at: c.sources.defined(&hook) });
            Ok(())
        })?,
    )
}

fn bounding(lua: &Lua, context: &Context, core: &Table) -> mlua::Result<()> {
    let c = context.clone();
    core.raw_set(
        "fail",
        lua.create_function(move |lua, given: Args<(Value, Option<Table>)>| {
            let ((message, options), _held) = given.take();
            let mut failure = Failure::new(Class::Input, shown(&message.to_string()?)).at(c.place(lua).as_ref());
            let hint = options.map(|options| options.get::<Option<String>>("hint")).transpose()?.flatten();
            failure.hint = hint.map(|hint| shown(&hint));
            Err::<(), _>(raise(failure))
        })?,
    )?;
    let c = context.clone();
    core.raw_set(
        "defer",
        lua.create_function(move |lua, function: Value| {
            let at = c.place(lua);
            let bad = |message: String| raise(Failure::new(Class::Input, message).at(at.as_ref()));
            let Value::Function(function) = function else {
                return Err(bad(format!("defer: takes a function, not {}", describe(&function))));
            };
            let mut defers = crate::sync::lock(&c.defers);
            if defers.len() >= MAX_DEFERS {
                return Err(bad(format!("defer: there are {MAX_DEFERS} already")));
            }
            defers.insert(c.bottle.session.next_seq(), function);
            Ok(())
        })?,
    )?;
    // `what` names the bounded operation in errors: the prelude's `deadline`, or a hook.
    let c = context.clone();
    core.raw_set(
        "within",
        lua.create_async_function(
            move |lua, (what, limit, work, arguments): (String, Value, Function, Variadic<Value>)| {
                let c = c.clone();
                async move {
                    let at = c.place(&lua);
                    let bad = |_| {
                        raise(
                            Failure::new(Class::Input, format!("{what}: the first argument is a time")).at(at.as_ref()),
                        )
                    };
                    let limit: Seconds = lua.from_value(limit).map_err(bad)?;
                    let limit = c.or_raise(limit.duration(&what), at.as_ref())?;
                    // The function's own error is not a timeout, and passes through unchanged.
                    let work = async { Ok(work.call_async::<MultiValue>(arguments).await) };
                    c.or_raise(within(&what, Some(limit), work).await, at.as_ref())?
                }
            },
        )?,
    )
}

fn pause(lua: &Lua, context: &Context, core: &Table) -> mlua::Result<()> {
    let c = context.clone();
    core.raw_set(
        "sleep",
        lua.create_async_function(move |lua, (base, doublings): (Value, u32)| {
            let c = c.clone();
            async move {
                let at = c.place(&lua);
                let base: Seconds = lua.from_value(base)?;
                let base = c.or_raise(base.duration("retry"), at.as_ref())?;
                let pause = base.saturating_mul(1 << doublings.saturating_sub(1).min(16));
                tokio::time::sleep(pause).await;
                Ok(())
            }
        })?,
    )
}

/// The options of `prompt`.
#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct PromptOptions {
    /// Whether the answer is hidden and returned as a secret.
    #[serde(default)]
    secret: bool,
}

fn asking(lua: &Lua, context: &Context, core: &Table) -> mlua::Result<()> {
    let c = context.clone();
    core.raw_set(
        "prompt",
        lua.create_async_function(move |lua, given: Args<(String, Value)>| {
            let c = c.clone();
            async move {
                let ((text, options), _held) = given.take();
                let at = c.place(&lua);
                let options: PromptOptions = Options::new(&lua, "prompt", options, at.as_ref())?.rest(&lua)?;
                let what = if options.secret { Question::Secret } else { Question::Line };
                let answer = c.or_raise(c.bottle.ask(what, &question(&text, at.as_ref())).await, at.as_ref())?;
                if options.secret {
                    lua.create_userdata(Secret::new(&lua, answer, &c)?).map(Value::UserData)
                } else {
                    lua.create_string(answer).map(Value::String)
                }
            }
        })?,
    )?;
    let c = context.clone();
    core.raw_set(
        "confirm",
        lua.create_async_function(move |lua, given: Args<String>| {
            let c = c.clone();
            async move {
                let (text, _held) = given.take();
                let at = c.place(&lua);
                let answer =
                    c.or_raise(c.bottle.ask(Question::Confirm, &question(&text, at.as_ref())).await, at.as_ref())?;
                Ok(matches!(answer.trim(), "y" | "Y" | "yes" | "Yes"))
            }
        })?,
    )
}

/// The text that is shown. A project's question is marked, because the project is not the user and might imitate
/// bottler.
fn question(text: &str, at: Option<&ScriptLocation>) -> String {
    let project = at.filter(|at| at.script.starts_with(crate::lua::script::PROJECT));
    project.map(|at| format!("[{at} asks] ")).unwrap_or_default() + &shown(text)
}

fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect()
}
