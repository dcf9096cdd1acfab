//! Failures of a launch: plain data that the holder sends to the client.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::engine::{EngineError, ErrorKind};

/// Classes of failure. Each has its own exit code, outside the range that agents commonly use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Invalid input from the user or in a recipe: 120.
    Input,
    /// The engine cannot be reached or used: 121.
    Engine,
    /// An operation failed or timed out: 122.
    Operation,
    /// Another bottle has this name: 123.
    Name,
    /// The bottle is not isolated: 124.
    Isolation,
    /// A failure of bottler or of this host: 125.
    Internal,
    /// Cancelled by the user: 126.
    Cancelled,
}

impl Class {
    /// Its name in JSON and in scripts.
    pub fn word(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Engine => "engine",
            Self::Operation => "operation",
            Self::Name => "name",
            Self::Isolation => "isolation",
            Self::Internal => "internal",
            Self::Cancelled => "cancelled",
        }
    }

    /// The exit code of `bottler` for this class.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Input => 120,
            Self::Engine => 121,
            Self::Operation => 122,
            Self::Name => 123,
            Self::Isolation => 124,
            Self::Internal => 125,
            Self::Cancelled => 126,
        }
    }
}

/// A location in a script.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScriptLocation {
    /// The script's name, such as `scripts/launch.lua`.
    pub script: String,
    /// The line, from 1.
    pub line: usize,
    /// The line's text.
    #[serde(default)]
    pub text: String,
}

impl fmt::Display for ScriptLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.script, self.line)
    }
}

/// A failure of a launch, or of one of its steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The class.
    pub class: Class,
    /// What was attempted, on what, and why it failed.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// The script line that caused it.
    pub at: Option<Box<ScriptLocation>>,
    /// Further causes, the nearest first.
    pub causes: Vec<String>,
}

impl Failure {
    /// A failure without a location.
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), hint: None, at: None, causes: Vec::new() }
    }

    /// Adds a hint about what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the script line, unless one is set already.
    #[must_use]
    pub fn at(mut self, place: Option<&ScriptLocation>) -> Self {
        self.at = self.at.or_else(|| place.cloned().map(Box::new));
        self
    }

    /// Adds a cause.
    #[must_use]
    pub fn cause(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        let class = match error.kind {
            ErrorKind::Unavailable | ErrorKind::Permission | ErrorKind::TooOld => Class::Engine,
            ErrorKind::NameTaken => Class::Name,
            _ => Class::Operation,
        };
        let failure = Self::new(class, error.to_string());
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}
