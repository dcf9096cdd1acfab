//! Fetching from package registries: tried again, since a registry that does not answer for a moment is no fault of the code.

use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

const TRIES: u32 = 4;

/// Runs a command that fetches, until it succeeds, at most four times with a growing pause. What an earlier try left behind must
/// not disturb the next.
///
/// # Panics
///
/// If the last try fails, too: with what each of them printed.
pub fn fetch(command: &mut Command) {
    let mut printed = String::new();
    for attempt in 1..=TRIES {
        let done = command.output().unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        if done.status.success() {
            return;
        }
        let stderr = String::from_utf8_lossy(&done.stderr);
        printed += &format!("try {attempt}, {}: {stderr}\n", done.status);
        if attempt < TRIES {
            sleep(Duration::from_secs(u64::from(attempt) * 10));
        }
    }
    panic!("{command:?} failed {TRIES} times:\n{printed}");
}
