//! What concerns the script itself: `step`, `log`, `fail`, `defer`.

use mlua::{Function, Lua, Table, Value, Variadic};

use super::{Context, raise};
use crate::primitive::{Event, StepState};
use crate::session::{Class, Failure};

/// Characters of a step's name or a log line that are shown.
const MAX_TEXT: usize = 500;

pub(super) fn install(lua: &Lua, context: &Context, core: &Table) -> mlua::Result<()> {
    let events = context.bottle.events.clone();
    core.raw_set(
        "log",
        lua.create_function(move |_, values: Variadic<Value>| {
            let words: mlua::Result<Vec<String>> = values.iter().map(Value::to_string).collect();
            events.tell(Event::Log(shown(&words?.join(" "))));
            Ok(())
        })?,
    )?;
    let events = context.bottle.events.clone();
    core.raw_set(
        "step",
        lua.create_async_function(move |_, (name, work): (String, Function)| {
            let events = events.clone();
            async move {
                let name = shown(&name);
                events.step(&name, StepState::Started);
                let result = work.call_async::<mlua::MultiValue>(()).await;
                events.step(&name, if result.is_ok() { StepState::Done } else { StepState::Failed });
                result
            }
        })?,
    )?;
    let c = context.clone();
    core.raw_set(
        "fail",
        lua.create_function(move |lua, (message, options): (String, Option<Table>)| {
            let mut failure = Failure::new(Class::Input, shown(&message)).at(c.place(lua).as_ref());
            failure.hint = options.map(|options| options.get("hint")).transpose()?.flatten();
            Err::<(), _>(raise(failure))
        })?,
    )?;
    let c = context.clone();
    core.raw_set(
        "defer",
        lua.create_function(move |_, function: Function| {
            let seq = c.bottle.session.next_seq();
            crate::sync::lock(&c.defers).insert(seq, function);
            Ok(())
        })?,
    )
}

fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect()
}
