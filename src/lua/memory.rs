//! Counts the memory that scripts use outside of Lua's allocator: copies of values given to primitives, and what
//! handles hold. It counts towards the script's limit.
//!
//! Every function that copies a script's values measures them first: a table can contain one long string a million
//! times, or tables that contain each other, and the copy would be far larger than the original.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mlua::{FromLuaMulti, Lua, MultiValue, Value};

use super::error::raise;
use super::limits::{MAX_MEMORY, too_much};
use crate::session::{Class, Failure};

/// Maximum size of one call's arguments, in bytes.
const MAX_GIVEN: usize = 64 << 20;
/// Bytes that a value uses besides its content, whatever it is copied into.
const VALUE: usize = 64;
/// Maximum nesting of tables, as in JSON.
const MAX_DEPTH: usize = 128;

/// The bytes in use.
#[derive(Default)]
struct Meter(Arc<AtomicUsize>);

/// A number of bytes in use; dropping it returns them.
#[derive(Debug)]
pub(super) struct Charge {
    used: Arc<AtomicUsize>,
    bytes: usize,
}

impl Charge {
    /// Never returns the bytes, because the copy outlives the call and the script.
    pub(super) fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Starts counting.
pub(super) fn install(lua: &Lua) {
    lua.set_app_data(Meter::default());
}

/// Counts bytes.
///
/// # Errors
/// The script would exceed its limit.
pub(super) fn charge(lua: &Lua, bytes: usize) -> mlua::Result<Charge> {
    let used = lua.app_data_ref::<Meter>().map(|meter| meter.0.clone()).unwrap_or_default();
    let fits = || used.load(Ordering::Relaxed).saturating_add(bytes).saturating_add(lua.used_memory()) <= MAX_MEMORY;
    if !fits() {
        // Unreferenced handles are counted until Lua collects them.
        lua.gc_collect()?;
        if !fits() {
            return Err(raise(too_much()));
        }
    }
    used.fetch_add(bytes, Ordering::Relaxed);
    Ok(Charge { used, bytes })
}

/// Measures values that are about to be copied, and counts them.
///
/// # Errors
/// They are too large, or nested too deeply.
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
        raise(Failure::new(Class::Input, message).hint("a value that several tables share counts once for each"))
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

/// Arguments of a function that copies them. They are measured first, and counted until the function returns.
pub(super) struct Args<T> {
    pub(super) values: T,
    charge: Charge,
}

impl<T> Args<T> {
    /// The arguments, and their charge.
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
