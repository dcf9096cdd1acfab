//! The names that scripts find without a `require`.

use super::reference;

/// All that a script has of Lua. Not there: code that nobody has seen, files and processes, a way to standard output,
/// turning collection off, and coroutines of its own, in which primitives that wait would break.
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

/// The names of all globals.
pub(super) fn globals() -> impl Iterator<Item = &'static str> {
    let own = reference::functions().iter().map(|function| function.name.split('.').next().unwrap_or_default());
    ALLOWED.into_iter().chain(own)
}
