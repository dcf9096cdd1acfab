//! Opens the engine and the state directory for a command.

use std::sync::Arc;

use super::failure::input;
use super::print::print_message;
use crate::engine::Engine;
use crate::engine::choice::{connect, is_named, native_in_use, resolve};
use crate::session::{Class, Failure, StateDir};

/// Every engine that may have bottles of this user, with its address, and the state directory: the default engine first, then
/// the native one where it has been used. Where nobody has named the default engine, the native one does without it.
///
/// # Errors
/// The default engine does not answer.
pub(super) async fn engines() -> Result<(Vec<(String, Arc<dyn Engine>)>, StateDir), Failure> {
    let default = find_engine()?;
    let native = native_in_use().filter(|native| *native != default);
    let mut engines = Vec::new();
    match reach(&default).await {
        Ok(engine) => engines.push((default, engine)),
        Err(failure) if is_named() || native.is_none() => return Err(failure),
        Err(failure) => {
            let text = format!("warning: only the native engine's bottles are seen: {}", failure.message);
            print_message(&crate::report::printable(&text));
        }
    }
    if let Some(native) = native {
        let engine = reach(&native).await?;
        engines.push((native, engine));
    }
    Ok((engines, state()?))
}

/// Connects to an engine.
///
/// # Errors
/// It does not answer.
pub(super) async fn reach(endpoint: &str) -> Result<Arc<dyn Engine>, Failure> {
    let engine = connect(endpoint)?;
    engine.info().await?;
    Ok(engine)
}

pub(super) fn find_engine() -> Result<String, Failure> {
    find_named_engine(None)
}

/// The same, where the command line may name it.
pub(super) fn find_named_engine(name: Option<&str>) -> Result<String, Failure> {
    resolve(name).map_err(|why| Failure::new(Class::Engine, why).hint("`docker context ls` shows what there is"))
}

/// # Errors
/// No bottle of that name is running.
pub(super) fn check_running(state: &StateDir, bottle: &str) -> Result<(), Failure> {
    if state.is_alive(bottle) {
        return Ok(());
    }
    Err(input(format!("there is no running bottle {bottle}")).hint("`bottler ps` lists them"))
}

pub(super) fn state() -> Result<StateDir, Failure> {
    let state = StateDir::open().map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::PermissionDenied => {
                "run it as the user whose it is, or set XDG_STATE_HOME to a folder of this user's"
            }
            _ => "set XDG_STATE_HOME to a writable directory",
        };
        Failure::new(Class::Internal, format!("open the state directory: {error}")).hint(hint)
    })?;
    if let Some(notice) = &state.notice {
        print_message(&crate::report::printable(&format!("warning: {notice}")));
    }
    Ok(state)
}
