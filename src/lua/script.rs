//! Scripts as text: a recipe, and the project's files around it.

use std::collections::BTreeMap;

use mlua::chunk::{Chunk, ChunkMode};
use mlua::{Lua, Table};

/// A script.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Script {
    /// Its name in messages, such as `scripts/launch.lua`.
    pub name: String,
    /// Its source code.
    pub source: String,
}

/// What a launch runs: a recipe, and the project's files.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Program {
    /// The recipe.
    pub recipe: Script,
    /// The project's Lua files, by their paths below `.bottler/`: `hooks.lua`, `lib/db.lua`. They are read only once,
    /// so that a later change has no effect.
    pub project: BTreeMap<String, String>,
    /// What the user's manifest allows scripts to do.
    pub grants: Grants,
}

impl Program {
    /// A recipe without a project.
    pub fn of(recipe: Script) -> Self {
        Self { recipe, project: BTreeMap::new(), grants: Grants::none() }
    }

    /// The same project with another recipe.
    #[must_use]
    pub fn with(&self, recipe: Script) -> Self {
        Self { recipe, ..self.clone() }
    }

    /// The project's hooks, if it has any.
    pub fn hooks(&self) -> Option<Script> {
        Some(Script::of_project("hooks.lua", self.project.get("hooks.lua")?))
    }
}

/// The prefix of a project file's name in messages.
pub(super) const PROJECT: &str = ".bottler/";

/// The name of a project file in messages.
fn project_name(path: &str) -> String {
    format!("{PROJECT}{path}")
}

/// What the user's manifest allows scripts to do beyond their primitives.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Grants {
    /// The parts of the isolation that a project's hooks may replace, by name.
    pub replace: Vec<String>,
    /// Commands that `host.run` may run. A command is allowed if its first words are one of these.
    pub host_commands: Vec<Vec<String>>,
}

impl Grants {
    /// Allows nothing.
    pub fn none() -> Self {
        Self { replace: Vec::new(), host_commands: Vec::new() }
    }
}

impl Script {
    /// A file of the project, by its path below `.bottler/`.
    pub fn of_project(path: &str, source: &str) -> Self {
        Self { name: project_name(path), source: source.to_owned() }
    }

    pub(super) fn library(name: &str, source: &str) -> Self {
        Self { name: format!("stdlib/{name}.lua"), source: source.to_owned() }
    }

    /// A chunk with these globals. Bytecode is refused.
    pub(super) fn load<'a>(&'a self, lua: &Lua, globals: &Table) -> Chunk<'a> {
        let chunk = lua.load(&self.source).set_name(format!("@{}", self.name));
        chunk.set_mode(ChunkMode::Text).set_environment(globals.clone())
    }
}

/// Whether a script is part of bottler's library, which error messages do not show.
pub(super) fn is_library(script: &str) -> bool {
    script.starts_with("stdlib/")
}
