//! Scripts as text: a recipe, and the project's files around it.

use std::collections::BTreeMap;

use mlua::chunk::{Chunk, ChunkMode};
use mlua::{Lua, Table};

/// A script.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Script {
    /// Its name in messages: `scripts/launch.lua`.
    pub name: String,
    /// Its text.
    pub source: String,
}

/// What a launch runs: a recipe, and the project's files around it.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Program {
    /// The recipe.
    pub recipe: Script,
    /// The project's files that count, by their names below `.bottler/`: `hooks.lua`, `lib/db.lua`. Read once.
    pub project: BTreeMap<String, String>,
    /// What the user's manifest lets scripts do.
    pub grants: Grants,
}

impl Program {
    /// A recipe by itself.
    pub fn of(recipe: Script) -> Self {
        Self { recipe, project: BTreeMap::new(), grants: Grants::none() }
    }

    /// The same project around another recipe.
    #[must_use]
    pub fn with(&self, recipe: Script) -> Self {
        Self { recipe, ..self.clone() }
    }

    /// The project's hooks, if it has some.
    pub fn hooks(&self) -> Option<Script> {
        Some(Script::of_project("hooks.lua", self.project.get("hooks.lua")?))
    }
}

/// How the names of a project's own files begin in messages.
pub(super) const PROJECT: &str = ".bottler/";

/// What a file of the project is called in messages.
fn project_name(path: &str) -> String {
    format!("{PROJECT}{path}")
}

/// What the user's manifest lets scripts do beyond their primitives.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Grants {
    /// Things that isolate and that a project's hooks may replace, by name.
    pub replace: Vec<String>,
    /// Commands that `host.run` may run: a command is let through that begins as one of these.
    pub host_commands: Vec<Vec<String>>,
}

impl Grants {
    /// Nothing.
    pub fn none() -> Self {
        Self { replace: Vec::new(), host_commands: Vec::new() }
    }
}

impl Script {
    /// A file of the project's, by its name below `.bottler/`.
    pub fn of_project(path: &str, source: &str) -> Self {
        Self { name: project_name(path), source: source.to_owned() }
    }

    pub(super) fn library(name: &str, source: &str) -> Self {
        Self { name: format!("stdlib/{name}.lua"), source: source.to_owned() }
    }

    /// A chunk of text, never of bytecode, that sees these globals.
    pub(super) fn load<'a>(&'a self, lua: &Lua, globals: &Table) -> Chunk<'a> {
        let chunk = lua.load(&self.source).set_name(format!("@{}", self.name));
        chunk.set_mode(ChunkMode::Text).set_environment(globals.clone())
    }
}

/// Whether a script is part of bottler's library, of which users see nothing.
pub(super) fn is_library(script: &str) -> bool {
    script.starts_with("stdlib/")
}
