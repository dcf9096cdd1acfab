//! One call to the engine: its deadline, and what became of it in our words.

use std::future::Future;
use std::time::Duration;

use bollard::errors::Error;

use crate::engine::error::classify;
use crate::engine::{EngineError, ErrorKind, Removal, Result};

/// Runs one call under its deadline and names it in whatever goes wrong.
pub(super) async fn call<T>(
    operation: &'static str,
    object: &str,
    deadline: Duration,
    work: impl Future<Output = std::result::Result<T, Error>> + Send,
) -> Result<T> {
    match tokio::time::timeout(deadline, work).await {
        Ok(answer) => answer.map_err(|error| failure(operation, object, error)),
        Err(_) => Err(EngineError {
            operation,
            object: object.to_owned(),
            kind: ErrorKind::Deadline,
            message: format!("no answer within {} s", deadline.as_secs()),
        }),
    }
}

pub(super) fn failure(operation: &'static str, object: &str, error: Error) -> EngineError {
    let (kind, message) = match error {
        Error::DockerResponseServerError { status_code, message } => (classify(status_code, &message), message),
        Error::DockerStreamError { error } => (classify(500, &error), error),
        Error::SocketNotFoundError(path) => (ErrorKind::Unavailable, format!("no socket at {path}")),
        Error::RequestTimeoutError => (ErrorKind::Deadline, "no answer".into()),
        Error::IOError { err } if err.kind() == std::io::ErrorKind::Other => (ErrorKind::Unavailable, err.to_string()),
        other => transport(&other),
    };
    EngineError { operation, object: object.to_owned(), kind, message }
}

/// Why the engine could not be talked to: the innermost cause is the one with the facts.
fn transport(error: &Error) -> (ErrorKind, String) {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let message = cause.to_string();
    let kind = match cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind) {
        Some(std::io::ErrorKind::PermissionDenied) => ErrorKind::Permission,
        Some(_) => ErrorKind::Unavailable,
        None => ErrorKind::Other,
    };
    (kind, message)
}

/// "Not there" is an answer to a removal, not a failure.
pub(super) fn removal(answer: Result<()>) -> Result<Removal> {
    match answer {
        Ok(()) => Ok(Removal::Removed),
        Err(error) if error.kind == ErrorKind::NotFound => Ok(Removal::WasGone),
        Err(error) => Err(error),
    }
}
