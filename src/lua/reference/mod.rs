//! What scripts can call, as data: for the editor's stubs, the printed reference, and `lua check`.
//!
//! Tables of options come from the Rust structures that read them, with their doc comments; a test holds that every
//! function and method that a script can reach is described here, and that nothing else is.

mod classes;
mod functions;
mod render;
mod schema;
mod types;

pub use classes::{classes, options_of};
pub use functions::functions;
pub use render::{SETTINGS, markdown, stubs, text};
pub use types::{Class, Field, Function, Param};
