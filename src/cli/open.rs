//! Opens the engine and the state directory for a command.

use std::sync::Arc;

use super::failure::input;
use super::print::print_message;
use crate::engine::Engine;
use crate::engine::choice::{connect, resolve};
use crate::session::{Class, Failure, StateDir};

/// The engine's address, the engine, and this user's bottles.
pub(super) async fn engine() -> Result<(String, Arc<dyn Engine>, StateDir), Failure> {
    let endpoint = find_engine()?;
    let engine = connect(&endpoint)?;
    engine.info().await?;
    Ok((endpoint, engine, state()?))
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
        Failure::new(Class::Internal, format!("open the state directory: {error}"))
            .hint("set XDG_STATE_HOME to a writable directory")
    })?;
    if let Some(notice) = &state.notice {
        print_message(&crate::report::printable(&format!("warning: {notice}")));
    }
    Ok(state)
}
