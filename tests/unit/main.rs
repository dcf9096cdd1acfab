//! Tests without an engine: manifests, recipes on the engine in memory, documents, dependencies between modules.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod documents;
mod door;
mod golden;
mod layering;
mod limits;
mod lua;
mod lua_handles;
mod lua_limits;
mod lua_shared;
mod lua_tools;
mod manifest;
mod native_plans;
mod presets;
#[path = "../support/mod.rs"]
mod support;
mod unwind;
mod workspace;
