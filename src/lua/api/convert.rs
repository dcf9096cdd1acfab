//! Converts Rust values to Lua, and describes Lua values as text.

use mlua::{Lua, LuaSerdeExt, Value};
use serde::Serialize;

/// How Rust values are converted: absent values become nil.
pub(in crate::lua) fn serialize_options() -> mlua::serde::ser::Options {
    mlua::serde::ser::Options::new()
        .serialize_none_to_null(false)
        .serialize_unit_to_null(false)
        .set_array_metatable(false)
}

/// Converts a result to a Lua value; absent fields are nil.
pub(super) fn to_lua(lua: &Lua, value: &impl Serialize) -> mlua::Result<Value> {
    lua.to_value_with(value, serialize_options())
}

/// Describes a value by its type, never by its content, which may be secret.
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
