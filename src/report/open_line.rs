//! Whether the terminal's cursor is at the beginning of a line: what is written there next, by whomever, begins a line of its
//! own.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether somebody has left a line of the terminal without its end. There is one terminal, and many who write to it.
static OPEN: AtomicBool = AtomicBool::new(false);

/// Notes whether what was written to the terminal has left a line without its end.
pub fn leave_line_open(open: bool) {
    OPEN.store(open, Ordering::Relaxed);
}

/// What ends the line that somebody has left open, if one has.
pub(super) fn end_of_open_line() -> &'static str {
    if OPEN.swap(false, Ordering::Relaxed) { "\n" } else { "" }
}
