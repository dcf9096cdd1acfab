//! bottler runs an AI coding agent, with full permissions, in a *bottle*: a container with no route out, served by
//! sidecars that decide what leaves. A Lua recipe launches it; whatever the recipe made is undone.
//!
//! Dependencies go one way: `cli → holder → lua → primitive → session → engine`; `sidecar` and `init` use `policy`.
//! `tests/unit/layering` holds that; `src/README.md` is the map.

pub mod audit;
pub mod cli;
pub mod credential;
pub mod dispatch;
pub mod engine;
mod git_ref;
pub mod holder;
pub mod host;
pub mod init;
pub mod layout;
pub mod lua;
pub mod manifest;
pub mod net;
pub mod plan;
pub mod policy;
pub mod primitive;
pub mod probe;
pub mod project;
pub mod rehearsal;
pub mod report;
pub mod scan;
pub mod session;
pub mod sidecar;
mod splice;
mod suggest;
mod sync;
mod task;
pub mod wire;
pub mod workspace;
