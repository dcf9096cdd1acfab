//! Processes by number and start time, which together name one process until the next boot.

use std::path::Path;

/// `NUMBER.START`, with the start in clock ticks since boot (proc(5)). None if the process has ended, also if its parent has not
/// waited for it yet.
pub fn process_identity(number: &str) -> Option<String> {
    let stat = std::fs::read_to_string(Path::new("/proc").join(number).join("stat")).ok()?;
    // The name, in brackets, may contain anything.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let (state, began) = (fields.first()?, fields.get(19)?);
    (!matches!(*state, "Z" | "X")).then(|| format!("{number}.{began}"))
}

/// Whether a process named by [`process_identity`] is running.
pub fn is_running(identity: &str) -> bool {
    identity.split_once('.').is_some_and(|(number, _)| process_identity(number).as_deref() == Some(identity))
}
