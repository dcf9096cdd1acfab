//! The texts of loaded scripts, to quote a line in an error.

use std::collections::BTreeMap;
use std::sync::Mutex;

use mlua::Function;

use super::script::Script;
use crate::session::ScriptLocation;
use crate::sync::lock;

/// The texts of loaded scripts, by name.
#[derive(Default)]
pub(super) struct Sources(Mutex<BTreeMap<String, String>>);

impl Sources {
    pub(super) fn add(&self, script: &Script) {
        let mut known = lock(&self.0);
        known.insert(script.name.clone(), script.source.clone());
    }

    /// The text of a line, counted from 1; empty if it is unknown.
    pub(super) fn line(&self, script: &str, line: usize) -> String {
        let known = lock(&self.0);
        let text = known.get(script).and_then(|source| source.lines().nth(line.checked_sub(1)?));
        text.unwrap_or_default().trim().to_owned()
    }

    /// The location where a function is defined.
    pub(super) fn defined(&self, function: &Function) -> Option<ScriptLocation> {
        let info = function.info();
        let script = info.source?.strip_prefix('@')?.to_owned();
        Some(self.place(&script, info.line_defined?))
    }

    pub(super) fn place(&self, script: &str, line: usize) -> ScriptLocation {
        ScriptLocation { script: script.to_owned(), line, text: self.line(script, line) }
    }
}
