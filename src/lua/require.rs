//! `require`: `std.…` names are compiled in; other names are the project's files, which the user has trusted.

use std::collections::BTreeMap;
use std::sync::Arc;

use mlua::{Function, Lua, Table, Value};

use super::script::{Script, is_library};
use super::sources::Sources;

/// The built-in recipes: `std.<name>`, and `--recipe <name>`.
const RECIPES: &[(&str, &str)] = &[
    ("ci", include_str!("../../scripts/ci.lua")),
    ("fan-out", include_str!("../../scripts/fan-out.lua")),
    ("launch", include_str!("../../scripts/launch.lua")),
    ("minimal", include_str!("../../scripts/minimal.lua")),
    ("probe", include_str!("../../scripts/probe.lua")),
    ("review-loop", include_str!("../../scripts/review-loop.lua")),
    ("with-postgres", include_str!("../../scripts/with-postgres.lua")),
];

/// The library: `std.<name>`. `core` is the prelude and cannot be required.
const LIBRARY: &[(&str, &str)] = &[
    ("core", include_str!("../../stdlib/core.lua")),
    ("json", include_str!("../../stdlib/json.lua")),
    ("retry", include_str!("../../stdlib/retry.lua")),
    ("sidecars", include_str!("../../stdlib/sidecars.lua")),
    ("test", include_str!("../../stdlib/test.lua")),
];

/// The prefix of built-in modules.
const OWN: &str = "std.";

/// The names of the built-in recipes.
pub fn names() -> Vec<&'static str> {
    RECIPES.iter().map(|(name, _)| *name).collect()
}

/// A built-in recipe, by its name.
pub fn built_in(name: &str) -> Option<Script> {
    let source = find(RECIPES, name)?;
    Some(Script { name: format!("scripts/{name}.lua"), source: source.to_owned() })
}

pub(super) fn library(name: &str) -> Option<&'static str> {
    find(LIBRARY, name)
}

fn find(table: &'static [(&str, &str)], name: &str) -> Option<&'static str> {
    table.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// The modules that `require` finds besides the built-in ones.
pub(super) struct Modules {
    /// The project's files, by their paths below `.bottler/`.
    pub(super) project: BTreeMap<String, String>,
    /// The prelude's functions, which only the library's files receive.
    pub(super) core: Table,
}

impl Modules {
    /// `std.x` is compiled in; `lib.db` is `.bottler/lib/db.lua`.
    fn find(&self, name: &str) -> Option<Script> {
        if let Some(short) = name.strip_prefix(OWN) {
            let library = library(short).filter(|_| short != "core");
            return built_in(short).or_else(|| Some(Script::library(short, library?)));
        }
        let path = format!("{}.lua", name.replace('.', "/"));
        let source = self.project.get(&path)?.clone();
        Some(Script::of_project(&path, &source))
    }

    fn known(&self) -> String {
        let built_in = RECIPES.iter().chain(LIBRARY).map(|(name, _)| format!("std.{name}"));
        let own = self.project.keys().filter_map(|path| path.strip_suffix(".lua")).map(|path| path.replace('/', "."));
        built_in.chain(own).filter(|name| name != "std.core").collect::<Vec<_>>().join(", ")
    }
}

/// Creates the function. It runs each module once.
pub(super) fn function(lua: &Lua, sources: &Arc<Sources>, modules: Modules) -> mlua::Result<Function> {
    let loaded: Table = lua.create_table()?;
    let sources = sources.clone();
    lua.create_function(move |lua, name: String| {
        // All scripts share a built-in module's result, so each gets a read-only view of it.
        let give = |value: Value| {
            if name.starts_with(OWN) {
                modules.core.get::<Function>("seal")?.call((name.as_str(), value))
            } else {
                Ok(value)
            }
        };
        match loaded.raw_get(name.as_str())? {
            Value::Nil => {}
            Value::Boolean(false) => {
                return Err(mlua::Error::RuntimeError(format!("module {name:?} requires itself")));
            }
            known => return give(known),
        }
        let Some(script) = modules.find(&name) else {
            let message = format!("there is no module {name:?}; known: {}", modules.known());
            return Err(mlua::Error::RuntimeError(message));
        };
        sources.add(&script);
        loaded.raw_set(name.as_str(), false)?;
        let own = is_library(&script.name).then(|| modules.core.clone());
        let environment: Table = modules.core.get::<Function>("environment")?.call(())?;
        let value: mlua::Result<Value> = script.load(lua, &environment).call(own);
        if value.is_err() {
            loaded.raw_set(name.as_str(), Value::Nil)?;
        }
        let value = match value? {
            Value::Nil => Value::Boolean(true),
            value => value,
        };
        loaded.raw_set(name.as_str(), &value)?;
        give(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_hold_every_file_of_their_folders() {
        for (folder, table) in [("scripts", RECIPES), ("stdlib", LIBRARY)] {
            let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
            let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
            let mut files: Vec<String> = files
                .filter(|path| path.extension().is_some_and(|extension| extension == "lua"))
                .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
                .collect();
            files.sort();
            let mut known: Vec<String> = table.iter().map(|(name, _)| (*name).to_owned()).collect();
            known.sort();
            assert_eq!(files, known);
        }
    }
}
