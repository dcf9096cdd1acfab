//! Rust's values as Lua's, and Lua's in words.

use mlua::{Lua, LuaSerdeExt, Value};
use serde::Serialize;

/// How Rust's values become Lua's: what is absent is nil.
pub(in crate::lua) fn serialize_options() -> mlua::serde::ser::Options {
    mlua::serde::ser::Options::new()
        .serialize_none_to_null(false)
        .serialize_unit_to_null(false)
        .set_array_metatable(false)
}

/// A result as a table; what is absent is nil.
pub(super) fn to_lua(lua: &Lua, value: &impl Serialize) -> mlua::Result<Value> {
    lua.to_value_with(value, serialize_options())
}

/// A value in words: what it is, never what is in it.
pub(in crate::lua) fn describe(value: &Value) -> String {
    match value {
        Value::Nil => "nothing".to_owned(),
        Value::Integer(_) => "an integer".to_owned(),
        Value::UserData(handle) => {
            let title = Value::UserData(handle.clone()).to_string().unwrap_or_default();
            format!("the handle of {title}")
        }
        other => format!("a {}", other.type_name()),
    }
}
