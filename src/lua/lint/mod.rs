//! Checks a script without running it: unknown globals, and names that a table of options or a handle does not have.
//! Unlike a rehearsal, it also checks branches that are not taken.

mod known;
mod scope;

use full_moon::LuaVersion;

use super::error;
use super::guard::Guard;
use super::script::Script;
use super::sources::Sources;
use crate::session::{Class, Failure};
use known::Known;
use scope::Walk;

/// Maximum length of a script, in bytes.
const MAX_SCRIPT: usize = 128 << 10;
/// Stack size of the parser's thread, in bytes. The parser recurses once per operator of `1 + 1 + …`; Lua does not.
const STACK: usize = 512 << 20;

/// Checks a script. Returns findings in the order of lines.
///
/// # Errors
/// The script is malformed or too long.
pub fn lint(script: &Script) -> Result<Vec<Failure>, Failure> {
    syntax(script)?;
    if script.source.len() > MAX_SCRIPT {
        let message = format!("{}: it is longer than {} KiB, and is not checked", script.name, MAX_SCRIPT >> 10);
        return Err(Failure::new(Class::Input, message).hint("move parts of it into modules, for `require`"));
    }
    let failed = |why: &str| Failure::new(Class::Internal, format!("look at {}: {why}", script.name));
    let guard = Guard::of_lint(script).map_err(|error| failed(&error.to_string()))?;
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK);
        let looking = thread.spawn_scoped(scope, || guard.run(|| Ok(look(script))));
        let looking = looking.map_err(|error| failed(&error.to_string()))?;
        looking.join().unwrap_or_else(|_| Err(failed("a bug in bottler")))
    })
}

fn look(script: &Script) -> Vec<Failure> {
    let parsed = full_moon::parse_fallible(&script.source, LuaVersion::lua54());
    // The parser rejects a script that Lua accepts; there is nothing to check.
    if !parsed.errors().is_empty() {
        return Vec::new();
    }
    let known = Known::new();
    let mut walk = Walk::new(&known);
    walk.block(parsed.ast().nodes());
    let mut found = walk.found;
    found.sort_by_key(|finding| finding.line);
    found.into_iter().map(|finding| finding.failure(script)).collect()
}

/// Checks the syntax with Lua's own parser, and returns Lua's message.
fn syntax(script: &Script) -> Result<(), Failure> {
    let lua = mlua::Lua::new_with(mlua::StdLib::NONE, mlua::LuaOptions::default());
    let internal = |error: mlua::Error| Failure::new(Class::Internal, format!("start the Lua machine: {error}"));
    let lua = lua.map_err(internal)?;
    let globals = lua.create_table().map_err(internal)?;
    let sources = Sources::default();
    sources.add(script);
    let loaded = script.load(&lua, &globals).into_function();
    loaded.map(drop).map_err(|problem| error::failure(&problem, &sources))
}
