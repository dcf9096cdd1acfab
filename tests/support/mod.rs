//! Shared by tests: launches on the fake engine, bottler as a process, and leaving the engine as it was.

#![allow(dead_code, unreachable_pub, reason = "every test file uses a part of it")]

pub mod documents;
pub mod engine;
pub mod fake;
pub mod fault;
pub mod images;
pub mod memory;
pub mod native;
pub mod npm;
pub mod origin;
pub mod process;
pub mod pypi;
pub mod registry;
pub mod sleeper;
pub mod tmux;
pub mod vendors;
