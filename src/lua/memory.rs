//! The memory that scripts use outside of Lua's own allocator: copies of what they give to primitives, and what handles hold.
//! It counts to the same bound. Every function that copies what a script gave measures it first: a table may name one long string
//! a million times, or be made of tables that name each other, and would be copied as often.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mlua::{FromLuaMulti, Lua, MultiValue, Value};

use super::error::raise;
use super::limits::{MAX_MEMORY, too_much};
use crate::session::{Class, Failure};

/// Most that one call may be given, in bytes.
const MAX_GIVEN: usize = 64 << 20;
/// What a value takes beside its bytes, whatever it is copied into.
const VALUE: usize = 64;
/// How deep tables may be nested: as deep as JSON.
const MAX_DEPTH: usize = 128;

/// What is in use.
#[derive(Default)]
struct Meter(Arc<AtomicUsize>);

/// A part of it, until it is dropped.
#[derive(Debug)]
pub(super) struct Charge {
    used: Arc<AtomicUsize>,
    bytes: usize,
}

impl Charge {
    /// Never gives it back: what was given outlives the call, and the script.
    pub(super) fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Begins to count.
pub(super) fn install(lua: &Lua) {
    lua.set_app_data(Meter::default());
}

/// Counts some bytes.
///
/// # Errors
/// The script would use too much.
pub(super) fn charge(lua: &Lua, bytes: usize) -> mlua::Result<Charge> {
    let used = lua.app_data_ref::<Meter>().map(|meter| meter.0.clone()).unwrap_or_default();
    let fits = || used.load(Ordering::Relaxed).saturating_add(bytes).saturating_add(lua.used_memory()) <= MAX_MEMORY;
    if !fits() {
        // What nobody holds any more is counted until Lua has seen that.
        lua.gc_collect()?;
        if !fits() {
            return Err(raise(too_much()));
        }
    }
    used.fetch_add(bytes, Ordering::Relaxed);
    Ok(Charge { used, bytes })
}

/// Measures and counts what is about to be copied.
///
/// # Errors
/// It is too much, or nested without end.
pub(super) fn charge_for<'a>(lua: &Lua, given: impl IntoIterator<Item = &'a Value>) -> mlua::Result<Charge> {
    let mut left = MAX_GIVEN;
    for value in given {
        measure(value, 0, &mut left)?;
    }
    charge(lua, MAX_GIVEN - left)
}

fn measure(value: &Value, depth: usize, left: &mut usize) -> mlua::Result<()> {
    let bytes = match value {
        Value::String(text) => text.as_bytes().len(),
        _ => 0,
    };
    let rest = left.checked_sub(bytes.saturating_add(VALUE));
    *left = rest.ok_or_else(|| {
        let message = format!("this call is given more than {} MiB", MAX_GIVEN >> 20);
        raise(Failure::new(Class::Input, message).hint("what several parts share counts once for each"))
    })?;
    let Value::Table(table) = value else { return Ok(()) };
    if depth == MAX_DEPTH {
        let message = format!("a table is nested more than {MAX_DEPTH} deep, or contains itself");
        return Err(raise(Failure::new(Class::Input, message)));
    }
    for entry in table.pairs::<Value, Value>() {
        let (key, value) = entry?;
        measure(&key, depth + 1, left)?;
        measure(&value, depth + 1, left)?;
    }
    Ok(())
}

/// The arguments of a function that copies them: measured first, and counted until it returns.
pub(super) struct Args<T> {
    pub(super) values: T,
    charge: Charge,
}

impl<T> Args<T> {
    /// The arguments, and what they count.
    pub(super) fn take(self) -> (T, Charge) {
        (self.values, self.charge)
    }
}

impl<T: FromLuaMulti> FromLuaMulti for Args<T> {
    fn from_lua_multi(values: MultiValue, lua: &Lua) -> mlua::Result<Self> {
        let charge = charge_for(lua, values.iter())?;
        Ok(Self { values: T::from_lua_multi(values, lua)?, charge })
    }
}
