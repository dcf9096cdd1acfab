//! `require`: `std.…` is what is compiled in, and nothing else is.

use std::sync::Arc;

use mlua::{Function, Lua, Table, Value};

use super::{Script, Sources};

/// The recipes that come with bottler: `std.<name>`, and `--recipe <name>`.
const RECIPES: &[(&str, &str)] =
    &[("launch", include_str!("../../scripts/launch.lua")), ("probe", include_str!("../../scripts/probe.lua"))];

/// The library: `std.<name>`. `core` is the prelude and cannot be required.
const LIBRARY: &[(&str, &str)] =
    &[("core", include_str!("../../stdlib/core.lua")), ("sidecars", include_str!("../../stdlib/sidecars.lua"))];

/// A recipe that comes with bottler.
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

fn module(name: &str) -> Option<Script> {
    let short = name.strip_prefix("std.")?;
    let library = library(short).filter(|_| short != "core");
    built_in(short).or_else(|| Some(Script::library(short, library?)))
}

/// The function: what it loads sees these globals, once.
pub(super) fn function(lua: &Lua, sources: &Arc<Sources>, globals: &Table) -> mlua::Result<Function> {
    let loaded: Table = lua.create_table()?;
    let (sources, globals) = (sources.clone(), globals.clone());
    lua.create_function(move |lua, name: String| {
        if let known @ (Value::Table(_) | Value::Function(_) | Value::UserData(_)) = loaded.raw_get(name.as_str())? {
            return Ok(known);
        }
        let Some(script) = module(&name) else {
            let known: Vec<String> = RECIPES
                .iter()
                .chain(LIBRARY)
                .map(|(name, _)| format!("std.{name}"))
                .filter(|name| name != "std.core")
                .collect();
            return Err(mlua::Error::RuntimeError(format!("there is no module {name:?}; known: {}", known.join(", "))));
        };
        sources.add(&script);
        let value: Value = script.load(lua, &globals).call(())?;
        loaded.raw_set(name, &value)?;
        Ok(value)
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
