//! Primitives of `std.test`.

use mlua::{Function, Lua, LuaSerdeExt, Table, Value};

use super::context::Context;
use super::convert::serialize_options;
use crate::lua::error::raise;
use crate::lua::memory::Args;
use crate::session::{Class, Failure};

/// How many test cases a file may have.
const MAX_CASES: usize = 10_000;

pub(super) fn install(lua: &Lua, context: &Context, core: &Table) -> mlua::Result<()> {
    let cases = context.cases.clone();
    core.raw_set(
        "test_case",
        lua.create_function(move |_, (name, work): (String, Function)| {
            let mut cases = crate::sync::lock(&cases);
            if cases.len() >= MAX_CASES {
                return Err(raise(Failure::new(Class::Input, format!("test.case: there are {MAX_CASES} already"))));
            }
            cases.push((name, work));
            Ok(())
        })?,
    )?;
    let c = context.clone();
    core.raw_set(
        "test_plan",
        lua.create_function(move |lua, ()| lua.to_value_with(&c.bottle.plan, serialize_options()))?,
    )?;
    let c = context.clone();
    core.raw_set("test_made", lua.create_function(move |_, ()| Ok(c.bottle.announced()))?)?;
    core.raw_set("test_show", lua.create_function(|_, given: Args<Value>| Ok(show(&given.values, 0)))?)
}

/// A value as text; tables with their content, sorted by key.
fn show(value: &Value, depth: usize) -> String {
    match value {
        Value::String(text) => format!("{:?}", text.to_string_lossy()),
        Value::Table(table) if depth < 8 => {
            let mut entries: Vec<String> = table
                .pairs::<Value, Value>()
                .flatten()
                .map(|(key, value)| format!("{} = {}", show(&key, depth + 1), show(&value, depth + 1)))
                .collect();
            entries.sort();
            format!("{{ {} }}", entries.join(", "))
        }
        other => other.to_string().unwrap_or_else(|_| other.type_name().to_owned()),
    }
}
