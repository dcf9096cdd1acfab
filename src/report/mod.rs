//! What people see: progress, tables, errors. Data goes to standard output, everything else to standard error.

mod failure;
mod fresh;
mod progress;
mod screen;
mod table;

pub use failure::{executed, failure, left, not_tight};
pub use fresh::leave_line_open;
pub use progress::{Progress, evidence, kept, times};
pub use screen::Screen;
pub use table::{probe_table, table};

/// Makes text from a bottle harmless for a terminal: of control characters only line ends and tabs remain.
pub fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}
