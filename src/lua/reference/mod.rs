//! Describes what scripts can call, as data: for the editor's stubs, the printed reference, and `lua check`.
//!
//! Tables of options are described by the doc comments of the Rust structures that read them. A test checks that
//! every function and method that scripts can reach is described here, and nothing else.

mod classes;
mod functions;
mod render;
mod schema;
mod types;

pub use classes::{classes, options_of};
pub use functions::functions;
pub use render::{SETTINGS, markdown, stubs, text};
pub use types::{Class, Field, Function, Param};
