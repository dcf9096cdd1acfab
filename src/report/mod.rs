//! Output for people: progress, tables, errors. Data goes to standard output, everything else to standard error.

mod escaped;
mod failure;
mod open_line;
mod printable;
mod progress;
mod screen;
mod table;

pub use escaped::{ascii_json, escaped};
pub use failure::{executed_paths, failure, not_tight, not_undone};
pub use open_line::leave_line_open;
pub use printable::printable;
pub use progress::{Progress, evidence, kept, times};
pub use screen::Screen;
pub use table::{probe_table, table};
