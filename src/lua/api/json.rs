//! JSON: decoding allocates in Lua's own memory, and encoding is bounded.

use std::fmt;
use std::io;

use mlua::{Lua, LuaString, Table, Value};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::context::Context;
use crate::lua::error::raise;
use crate::lua::memory::Args;
use crate::session::{Class, Failure};

/// Maximum length of encoded text, in bytes.
const MAX_TEXT: usize = 64 << 20;

pub(super) fn install(lua: &Lua, context: &Context, core: &Table) -> mlua::Result<()> {
    let bad = |c: &Context, lua: &Lua, what: &str, error: &dyn fmt::Display| {
        raise(Failure::new(Class::Input, format!("json.{what}: {error}")).at(c.place(lua).as_ref()))
    };
    let c = context.clone();
    core.raw_set(
        "json_encode",
        lua.create_function(move |lua, given: Args<Value>| {
            let mut text = Bounded(Vec::new());
            // Through a value with sorted keys, because Lua's order differs between runs.
            let written =
                serde_json::to_value(&given.values).and_then(|value| serde_json::to_writer(&mut text, &value));
            written.map_err(|error| bad(&c, lua, "encode", &error))?;
            lua.create_string(text.0)
        })?,
    )?;
    let c = context.clone();
    core.raw_set(
        "json_decode",
        lua.create_function(move |lua, text: LuaString| {
            let bytes = text.as_bytes();
            let mut reader = serde_json::Deserializer::from_slice(&bytes);
            let value = LuaValue(lua).deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
            value.map_err(|error| bad(&c, lua, "decode", &error))
        })?,
    )
}

struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_TEXT {
            return Err(io::Error::other(format!("the text is longer than {} MiB", MAX_TEXT >> 20)));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Builds Lua values while parsing; null becomes nil.
#[derive(Clone, Copy)]
struct LuaValue<'a>(&'a Lua);

impl<'de> DeserializeSeed<'de> for LuaValue<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

fn failed<E: serde::de::Error>(error: mlua::Error) -> E {
    match error {
        mlua::Error::MemoryError(_) => E::custom(crate::lua::limits::too_much()),
        other => E::custom(other),
    }
}

impl<'de> Visitor<'de> for LuaValue<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Nil)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Boolean(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    #[expect(clippy::cast_precision_loss, reason = "as Lua itself reads an integer that is too large")]
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::Number(value as f64), Value::Integer))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Number(value))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Value, E> {
        self.0.create_string(text).map(Value::String).map_err(failed)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let table = self.0.create_table().map_err(failed)?;
        let mut index = 0;
        while let Some(value) = from.next_element_seed(self)? {
            index += 1;
            if !value.is_nil() {
                table.raw_set(index, value).map_err(failed)?;
            }
        }
        Ok(Value::Table(table))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let table = self.0.create_table().map_err(failed)?;
        while let Some(key) = from.next_key_seed(self)? {
            let value = from.next_value_seed(self)?;
            table.raw_set(key, value).map_err(failed)?;
        }
        Ok(Value::Table(table))
    }
}
