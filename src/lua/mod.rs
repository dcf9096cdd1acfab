//! Recipes: the Lua machine with its limits, and the primitives as scripts see them. Only this folder names mlua.

mod api;
mod burst;
mod error;
mod globals;
mod guard;
mod limits;
pub mod lint;
mod memory;
pub mod reference;
mod require;
mod script;
mod sources;
mod vm;
mod watchdog;

pub use require::{built_in as built_in_recipe, names as built_in_names};
pub use script::{Grants, Program, Script};
pub use vm::Vm;
pub use watchdog::on_runaway;
