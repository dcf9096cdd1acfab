//! What can be said of a script without running it: unknown globals, and names that a table of options or a handle
//! does not have. Branches that a rehearsal does not take are looked at too.

mod scope;

use std::collections::BTreeMap;

use full_moon::LuaVersion;

use super::guard::Guard;
use super::{ALLOWED, Script, error, reference};
use crate::session::{Class, Failure, ScriptLocation};
use scope::Walk;

/// Longest script that is looked at, in bytes.
const MAX_SCRIPT: usize = 128 << 10;
/// The stack for that: the parser nests as deep as `1 + 1 + …` is long, and Lua does not.
const STACK: usize = 512 << 20;

/// Looks at a script; what it finds, in the order of lines.
///
/// # Errors
/// The script is malformed, or too long: the only finding then.
pub fn lint(script: &Script) -> Result<Vec<Failure>, Failure> {
    syntax(script)?;
    if script.source.len() > MAX_SCRIPT {
        let message = format!("{}: it is longer than {} KiB, and is not looked at", script.name, MAX_SCRIPT >> 10);
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
    // What Lua itself takes and this parser does not is not looked at.
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

/// Whether Lua takes it, in Lua's own words.
fn syntax(script: &Script) -> Result<(), Failure> {
    let lua = mlua::Lua::new_with(mlua::StdLib::NONE, mlua::LuaOptions::default());
    let internal = |error: mlua::Error| Failure::new(Class::Internal, format!("start the Lua machine: {error}"));
    let lua = lua.map_err(internal)?;
    let globals = lua.create_table().map_err(internal)?;
    let sources = super::Sources::default();
    sources.add(script);
    let loaded = script.load(&lua, &globals).into_function();
    loaded.map(drop).map_err(|problem| error::failure(&problem, &sources))
}

/// The names of all globals.
pub(super) fn globals() -> impl Iterator<Item = &'static str> {
    let own = reference::functions().iter().map(|function| function.name.split('.').next().unwrap_or_default());
    ALLOWED.into_iter().chain(own)
}

/// What scripts can name.
struct Known {
    functions: BTreeMap<&'static str, &'static reference::Function>,
    classes: BTreeMap<String, reference::Class>,
}

impl Known {
    fn new() -> Self {
        Self {
            functions: reference::functions().iter().map(|function| (function.name, function)).collect(),
            classes: reference::classes().into_iter().map(|class| (class.name.clone(), class)).collect(),
        }
    }

    /// The classes that a parameter's or result's type names.
    fn classes_of(&self, ty: &str) -> Vec<&reference::Class> {
        ty.trim_end_matches('?').split('|').filter_map(|name| self.classes.get(name)).collect()
    }
}

/// A mistake.
struct Finding {
    line: usize,
    message: String,
    hint: Option<String>,
}

impl Finding {
    fn failure(self, script: &Script) -> Failure {
        let text = script.source.lines().nth(self.line.saturating_sub(1)).unwrap_or_default().trim().to_owned();
        let place = ScriptLocation { script: script.name.clone(), line: self.line, text };
        let failure = Failure::new(Class::Input, self.message).at(Some(&place));
        match self.hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}
