//! The names that scripts can use without `require`.

use super::reference;

/// All of Lua's own globals that scripts get. Left out: loading code from strings, files and processes, standard
/// output, control of the garbage collector, and coroutines, in which primitives that wait would fail.
pub(super) const ALLOWED: [&str; 21] = [
    "assert",
    "error",
    "getmetatable",
    "ipairs",
    "math",
    "next",
    "pairs",
    "pcall",
    "rawequal",
    "rawget",
    "rawlen",
    "rawset",
    "select",
    "setmetatable",
    "string",
    "table",
    "tonumber",
    "tostring",
    "type",
    "utf8",
    "xpcall",
];

/// All global names.
pub(super) fn globals() -> impl Iterator<Item = &'static str> {
    let own = reference::functions().iter().map(|function| function.name.split('.').next().unwrap_or_default());
    ALLOWED.into_iter().chain(own)
}
