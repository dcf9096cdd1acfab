//! Parses a primitive's table of options: handles are taken out by name, and serde reads the rest.

use std::collections::BTreeMap;
use std::sync::Arc;

use mlua::{Lua, Table, Value};
use serde::de::DeserializeOwned;

use super::convert::describe;
use super::handle::{Handle, Thing};
use super::secret::Secret;
use crate::lua::error::raise;
use crate::lua::memory::{self, Charge};
use crate::lua::reference;
use crate::session::{Class, Failure, ScriptLocation};

pub(super) struct Options<'a> {
    primitive: &'static str,
    entries: BTreeMap<String, Value>,
    at: Option<&'a ScriptLocation>,
    /// The memory that copies of it use.
    charge: Charge,
}

impl<'a> Options<'a> {
    /// Reads a table.
    pub(super) fn new(
        lua: &Lua,
        primitive: &'static str,
        value: Value,
        at: Option<&'a ScriptLocation>,
    ) -> mlua::Result<Self> {
        let mut options = Self { primitive, entries: BTreeMap::new(), at, charge: memory::charge_for(lua, [&value])? };
        let table = match value {
            Value::Table(table) => table,
            Value::Nil => return Ok(options),
            other => return Err(options.bad(&format!("takes a table of options, not {}", describe(&other)))),
        };
        for entry in table.pairs::<Value, Value>() {
            let (key, value) = entry?;
            let Value::String(key) = &key else {
                return Err(options.bad(&format!("takes named options only, as in {primitive} {{ name = … }}")));
            };
            options.entries.insert(key.to_string_lossy(), value);
        }
        Ok(options)
    }

    /// Counts its memory until the bottle ends.
    pub(super) fn keep(self) {
        self.charge.keep();
    }

    pub(super) fn bad(&self, message: &str) -> mlua::Error {
        raise(self.failure(message))
    }

    fn failure(&self, message: &str) -> Failure {
        Failure::new(Class::Input, format!("{}: {message}", self.primitive)).at(self.at)
    }

    /// Converts a value to a handle's object, which must not be closed.
    pub(super) fn convert<T: Thing>(&self, name: &str, value: &Value) -> mlua::Result<Arc<T>> {
        let handle = value.as_userdata().and_then(|handle| handle.borrow::<Handle<T>>().ok());
        let handle =
            handle.ok_or_else(|| self.bad(&format!("option {name} takes {}, not {}", T::ORIGIN, describe(value))))?;
        handle.living(self.at)
    }

    pub(super) fn handle<T: Thing>(&mut self, name: &str) -> mlua::Result<Arc<T>> {
        match self.optional_handle(name)? {
            Some(handle) => Ok(handle),
            None => Err(self.bad(&format!("option {name} is missing: {}", T::ORIGIN))),
        }
    }

    pub(super) fn optional_handle<T: Thing>(&mut self, name: &str) -> mlua::Result<Option<Arc<T>>> {
        self.entries.remove(name).map(|value| self.convert(name, &value)).transpose()
    }

    /// Takes a handle or a list of handles.
    pub(super) fn handles<T: Thing>(&mut self, name: &str) -> mlua::Result<Vec<Arc<T>>> {
        match self.entries.remove(name) {
            None => Ok(Vec::new()),
            Some(Value::Table(list)) => {
                list.sequence_values::<Value>().map(|value| self.convert(name, &value?)).collect()
            }
            Some(value) => Ok(vec![self.convert(name, &value)?]),
        }
    }

    /// Takes a table of handles by name.
    pub(super) fn named_handles<T: Thing>(&mut self, name: &str) -> mlua::Result<BTreeMap<String, Arc<T>>> {
        match self.entries.remove(name) {
            None => Ok(BTreeMap::new()),
            Some(Value::Table(table)) => table
                .pairs::<Value, Value>()
                .map(|entry| {
                    let (key, value) = entry?;
                    let Value::String(key) = key else {
                        return Err(self.bad(&format!("option {name} takes a table by name, not a list")));
                    };
                    Ok((key.to_string_lossy(), self.convert(name, &value)?))
                })
                .collect(),
            Some(value) => Err(self.bad(&format!("option {name} takes a table, not {}", describe(&value)))),
        }
    }

    /// Whether an option is present.
    pub(super) fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Takes an option as a Lua value.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.entries.remove(name)
    }

    /// Takes an option that is a string.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        let text = self.entries.get(name)?.as_string()?.to_string_lossy();
        self.entries.remove(name);
        Some(text)
    }

    /// Takes the secrets out of a table of strings, and leaves plain strings in it.
    pub(super) fn secrets(&mut self, name: &str) -> mlua::Result<Vec<(String, String)>> {
        let Some(Value::Table(table)) = self.entries.get(name).cloned() else { return Ok(Vec::new()) };
        let (mut secrets, mut plain) = (Vec::new(), Vec::new());
        for entry in table.pairs::<String, Value>() {
            let (key, value) = entry?;
            match value.as_userdata().and_then(|value| value.borrow::<Secret>().ok()) {
                Some(secret) => secrets.push((key, secret.reveal().to_owned())),
                None => plain.push((key, value)),
            }
        }
        self.entries.remove(name);
        if !plain.is_empty() {
            let rest: BTreeMap<String, String> =
                plain
                    .into_iter()
                    .map(|(key, value)| match value {
                        Value::String(text) => Ok((key, text.to_string_lossy())),
                        Value::Integer(_) | Value::Number(_) => Ok((key, value.to_string()?)),
                        other => Err(self
                            .bad(&format!("option {name}.{key} takes a string or a secret, not {}", describe(&other)))),
                    })
                    .collect::<mlua::Result<_>>()?;
            secrets.extend(rest);
        }
        Ok(secrets)
    }

    /// Reads the remaining options as a structure; unknown options are errors.
    pub(super) fn rest<T: DeserializeOwned>(&self, lua: &Lua) -> mlua::Result<T> {
        let table: Table =
            lua.create_table_from(self.entries.iter().map(|(key, value)| (key.as_str(), value.clone())))?;
        let reader = mlua::serde::Deserializer::new(Value::Table(table));
        serde_path_to_error::deserialize(reader).map_err(|error| {
            let path = path(error.path());
            let (message, hint) = words(self.primitive, &path, error.inner());
            let mut failure = self.failure(&message);
            failure.hint = hint;
            raise(failure)
        })
    }
}

/// What serde expected, in terms that Lua users know.
fn plain(wanted: &str) -> &str {
    match wanted {
        "u16" => "a number from 0 to 65535",
        "u32" | "u64" | "usize" => "a whole number from 0",
        "i64" | "i32" => "a whole number",
        "f64" => "a number",
        "a sequence" => "a list",
        "a map" => "a table",
        other => other.strip_prefix("struct ").map_or(other, |_| "a table of options"),
    }
}

/// A path in the table in Lua's notation: lists start at 1.
fn path(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut text = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => text.push_str(&format!("[{}]", index + 1)),
            Segment::Map { key } if text.is_empty() => text.push_str(key),
            Segment::Map { key } => text.push_str(&format!(".{key}")),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    text
}

/// Translates serde's error to terms that Lua users know, with a suggestion.
fn words(primitive: &str, path: &str, error: &mlua::Error) -> (String, Option<String>) {
    let text = match error {
        mlua::Error::DeserializeError(text) => text.clone(),
        other => other.to_string(),
    };
    let unknown = [("unknown field ", "there is no option"), ("unknown variant ", "there is no")];
    for (prefix, said) in unknown {
        let Some((name, known)) = text.strip_prefix(prefix).and_then(|rest| rest.split_once(", expected ")) else {
            continue;
        };
        let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
        // Handles were taken out before, but they are options, too.
        let all = reference::options_of(primitive, &known).unwrap_or_default();
        let known = if all.is_empty() { known } else { all.iter().map(String::as_str).collect() };
        let name = name.trim_matches('`');
        let hint = crate::suggest::nearest(name, known.iter().copied()).map(|near| format!("did you mean {near}?"));
        let inner = match path.rsplit_once('.') {
            _ if prefix.contains("variant") => format!("option {path}: "),
            Some((outer, _)) => format!("{outer}: "),
            None => String::new(),
        };
        return (format!("{inner}{said} {name}; there are {}", known.join(", ")), hint);
    }
    if let Some((given, wanted)) = text.strip_prefix("invalid type: ").and_then(|rest| rest.split_once(", expected ")) {
        return (format!("option {path} takes {}, not {given}", plain(wanted)), None);
    }
    if let Some((given, wanted)) = text.strip_prefix("invalid value: ").and_then(|rest| rest.split_once(", expected "))
    {
        return (format!("option {path} takes {}, not {given}", plain(wanted)), None);
    }
    let inner = if path.is_empty() { String::new() } else { format!("{path}: ") };
    (inner + &text.replace("missing field", "option is missing:").replace('`', ""), None)
}
