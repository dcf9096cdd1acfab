//! The names that scripts can use, and findings about other names.

use std::collections::BTreeMap;

use crate::lua::reference::{Class as ReferenceClass, Function, classes, functions};
use crate::lua::script::Script;
use crate::session::{Class, Failure, ScriptLocation};

/// The names that scripts can use.
pub(super) struct Known {
    pub(super) functions: BTreeMap<&'static str, &'static Function>,
    pub(super) classes: BTreeMap<String, ReferenceClass>,
}

impl Known {
    pub(super) fn new() -> Self {
        Self {
            functions: functions().iter().map(|function| (function.name, function)).collect(),
            classes: classes().into_iter().map(|class| (class.name.clone(), class)).collect(),
        }
    }

    /// The classes that a parameter's or result's type names.
    pub(super) fn classes_of(&self, ty: &str) -> Vec<&ReferenceClass> {
        ty.trim_end_matches('?').split('|').filter_map(|name| self.classes.get(name)).collect()
    }
}

/// A finding: a mistake in the script.
pub(super) struct Finding {
    pub(super) line: usize,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl Finding {
    pub(super) fn failure(self, script: &Script) -> Failure {
        let text = script.source.lines().nth(self.line.saturating_sub(1)).unwrap_or_default().trim().to_owned();
        let place = ScriptLocation { script: script.name.clone(), line: self.line, text };
        let failure = Failure::new(Class::Input, self.message).at(Some(&place));
        match self.hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}
