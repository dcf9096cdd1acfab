//! What people see: progress, tables, errors. Data goes to standard output, everything else to standard error.

mod failure;
mod fresh;
mod printable;
mod progress;
mod screen;
mod table;

pub use failure::{executed, failure, left, not_tight};
pub use fresh::leave_line_open;
pub use printable::printable;
pub use progress::{Progress, evidence, kept, times};
pub use screen::Screen;
pub use table::{probe_table, table};
