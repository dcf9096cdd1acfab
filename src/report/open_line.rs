//! Tracks whether the terminal's last line is unfinished, so that the next message starts on a new line.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the last line is unfinished. Global, because there is one terminal and several writers.
static OPEN: AtomicBool = AtomicBool::new(false);

/// Records whether the last line is unfinished.
pub fn leave_line_open(open: bool) {
    OPEN.store(open, Ordering::Relaxed);
}

/// A newline if the last line is unfinished, else nothing.
pub(super) fn end_of_open_line() -> &'static str {
    if OPEN.swap(false, Ordering::Relaxed) { "\n" } else { "" }
}
