//! Converts Lua errors to failures: the typed failure inside, if there is one, with the script line and without a
//! traceback.

use super::limits::too_much;
use super::script::is_library;
use super::sources::Sources;
use crate::session::{Class, Failure, ScriptLocation};

/// Converts an error that left a script.
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
        mlua::Error::MemoryError(_) => too_much(),
        other => Failure::new(Class::Input, other.to_string().split("\nstack traceback:").next().unwrap_or_default()),
    }
}

/// Splits `script:line: ` off a message.
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

/// Converts a failure to an error that scripts can catch.
pub(super) fn raise(failure: Failure) -> mlua::Error {
    mlua::Error::external(failure)
}
