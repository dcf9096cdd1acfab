//! Runs recipes: the Lua machine with its limits, and the primitives as Lua functions. Only this folder names mlua.
//!
//! A recipe, and above all a project's own files, may be hostile: a repository brings them along. Scripts have no
//! file, process or network access except through primitives; memory, computing time and the size of arguments are
//! bounded; code of the project is read once, after the user has trusted it.

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
