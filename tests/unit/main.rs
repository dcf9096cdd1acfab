//! What needs no engine: manifests, recipes on the engine in memory, documents, the order of modules.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod documents;
mod door;
mod golden;
mod layering;
mod lua;
mod lua_handles;
mod lua_limits;
mod lua_shared;
mod lua_tools;
mod manifest;
mod native_plans;
#[path = "../support/mod.rs"]
mod support;
mod unwind;
mod workspace;
