//! Crash logs of background processes: a file in the state directory is the process' standard error. It is created
//! before the process starts and removed at its end if it is empty.

use std::backtrace::Backtrace;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::host::make_private;

/// The folder of the state directory.
const FOLDER: &str = "logs";
/// Most files that are kept; the oldest are removed first.
const MAX_FILES: usize = 50;
/// Most bytes of panic messages that one process writes.
const MAX_WRITTEN: usize = 64 << 10;

/// The log file of a bottle's processes.
pub fn path(state: &Path, id: &str) -> PathBuf {
    state.join(FOLDER).join(format!("{id}.log"))
}

/// The log file, if anything was written to it.
pub fn written(state: &Path, id: &str) -> Option<PathBuf> {
    let path = path(state, id);
    path.metadata().is_ok_and(|file| file.len() > 0).then_some(path)
}

/// Opens the log file for a process that is about to start.
///
/// # Errors
/// The file cannot be created.
pub fn open(state: &Path, id: &str) -> io::Result<File> {
    let path = path(state, id);
    let folder = state.join(FOLDER);
    make_private(&folder)?;
    prune(&folder);
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// Removes the log file if it is empty.
pub fn close(state: &Path, id: &str) {
    if written(state, id).is_none() {
        let _ = std::fs::remove_file(path(state, id));
    }
}

/// Removes the oldest files. A file that cannot be removed does not fail the launch.
fn prune(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let age = |entry: io::Result<std::fs::DirEntry>| {
        let entry = entry.ok()?;
        Some((entry.metadata().ok()?.modified().ok()?, entry.path()))
    };
    let mut files: Vec<_> = entries.filter_map(age).collect();
    files.sort();
    let surplus = (files.len() + 1).saturating_sub(MAX_FILES);
    for (_, path) in files.into_iter().take(surplus) {
        let _ = std::fs::remove_file(path);
    }
}

/// Exits at once, because a thread or a call of this process may never end. If this is a holder, its reaper removes the
/// bottle.
#[expect(clippy::exit, reason = "a thread that never ends would hold back any other end")]
pub fn end_process(code: u8) -> ! {
    std::process::exit(code.into())
}

/// Installs a panic hook that writes location and backtrace to standard error.
pub fn note_panics(role: &'static str) {
    static LEFT: AtomicUsize = AtomicUsize::new(MAX_WRITTEN);
    std::panic::set_hook(Box::new(move |panic| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("without a name");
        let trace = Backtrace::force_capture();
        let text = format!("{now} {role} {}, thread {name}: {panic}\n{trace}\n", std::process::id());
        let take = |left: usize| Some(left - text.len().min(left));
        let left = LEFT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).unwrap_or_default();
        let _ = io::stderr().write_all(&text.as_bytes()[..text.len().min(left)]);
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Run by the test below, as a process of its own.
    #[test]
    #[ignore = "it panics"]
    fn panics_often() {
        note_panics("holder");
        for _ in 0..100 {
            let _ = std::thread::Builder::new().name("launch".into()).spawn(|| panic!("a mistake")).unwrap().join();
        }
    }

    #[test]
    fn a_panic_leaves_its_place_and_trace_and_many_no_more_than_the_bound() {
        let state = tempfile::tempdir().unwrap();
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "session::crash::tests::panics_often", "--ignored", "--nocapture"]);
        let done = command.stdout(std::process::Stdio::null()).stderr(open(state.path(), "a-1").unwrap()).status();
        assert!(done.unwrap().success());
        let text = std::fs::read_to_string(written(state.path(), "a-1").unwrap()).unwrap();
        for words in ["holder", "thread launch", "src/session/crash.rs:", "a mistake"] {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert!(text.len() < MAX_WRITTEN + 4096, "{}", text.len());
    }

    #[test]
    fn files_without_content_go_and_only_the_latest_are_kept() {
        let state = tempfile::tempdir().unwrap();
        drop(open(state.path(), "empty-1").unwrap());
        close(state.path(), "empty-1");
        assert!(!path(state.path(), "empty-1").exists());
        for number in 0..MAX_FILES + 10 {
            open(state.path(), &format!("a-{number}")).unwrap().write_all(b"x").unwrap();
        }
        close(state.path(), "a-59");
        assert_eq!(std::fs::read_dir(state.path().join(FOLDER)).unwrap().count(), MAX_FILES);
        assert_eq!(written(state.path(), "a-59"), Some(path(state.path(), "a-59")));
    }
}
