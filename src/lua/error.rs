//! Lua's errors → failures: the typed one inside if there is one, the script line, no traceback, no Rust.

use super::Sources;
use crate::session::{Class, Failure, ScriptLocation};

/// Reads what went wrong out of an error that left a script.
pub(super) fn failure(error: &mlua::Error, sources: &Sources) -> Failure {
    let mut failure = innermost(error);
    if failure.at.is_none() {
        let (at, message) = split(&failure.message);
        failure.message = message;
        failure.at = at.or_else(|| traceback(error)).map(Box::new);
    }
    if let Some(place) = &mut failure.at {
        place.text = sources.line(&place.script, place.line);
    }
    failure
}

fn innermost(error: &mlua::Error) -> Failure {
    match error {
        mlua::Error::CallbackError { cause, .. } | mlua::Error::WithContext { cause, .. } => innermost(cause),
        mlua::Error::ExternalError(inner) => match inner.downcast_ref::<Failure>() {
            Some(failure) => failure.clone(),
            None => Failure::new(Class::Input, inner.to_string()),
        },
        mlua::Error::RuntimeError(message) | mlua::Error::SyntaxError { message, .. } => {
            let message = message.split("\nstack traceback:").next().unwrap_or_default();
            Failure::new(Class::Input, message.trim())
        }
        mlua::Error::MemoryError(_) => super::memory::too_much(),
        other => Failure::new(Class::Input, other.to_string().split("\nstack traceback:").next().unwrap_or_default()),
    }
}

/// Takes `script:line: ` off the front of a message.
fn split(message: &str) -> (Option<ScriptLocation>, String) {
    let mut parts = message.splitn(3, ':');
    if let (Some(script), Some(line), Some(rest)) = (parts.next(), parts.next(), parts.next())
        && let Ok(line) = line.parse()
        && std::path::Path::new(script).extension().is_some_and(|extension| extension == "lua")
    {
        let place = ScriptLocation { script: script.to_owned(), line, text: String::new() };
        return (Some(place), rest.trim().to_owned());
    }
    (None, message.to_owned())
}

/// The first line of a user's script in a traceback.
fn traceback(error: &mlua::Error) -> Option<ScriptLocation> {
    let mlua::Error::CallbackError { traceback, cause } = error else { return None };
    let frame = |line: &str| split(line.trim()).0.filter(|place| !is_library(&place.script));
    traceback.lines().find_map(frame).or_else(|| self::traceback(cause))
}

/// Whether a script is part of bottler's library, of which users see nothing.
pub(super) fn is_library(script: &str) -> bool {
    script.starts_with("stdlib/")
}
