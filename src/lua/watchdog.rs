//! Ends a script that never yields the processor.
//!
//! Three mechanisms stop a script; each covers what the one before cannot:
//! 1. The hook *suspends* the script at the next instruction, and its driver drops it. An error could be caught by the
//!    script.
//! 2. Where Lua cannot be suspended (a comparator, a callback of `gsub`, a metamethod, the body of a required module),
//!    the hook raises an error, so that the C function around it returns and the script can be suspended.
//! 3. Where no hook runs (inside a C function: a search that backtracks, `string.rep` of an empty string), or every
//!    error is caught, nothing in the process can stop the thread. The watchdog, a separate thread, ends the process.
//!
//! Time is the processor time of the thread that runs the script, so a busy machine does not stop scripts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use super::burst::Stopwatch;
use crate::session::{Class, Failure, crash};
use crate::sync::lock;

/// How long a script may exceed its time before the process is ended; within it, the hook normally stops the script.
const GRACE: Duration = Duration::from_millis(500);
/// How often running scripts are checked. While none runs, the watchdog sleeps.
const LOOK: Duration = Duration::from_millis(100);

/// Called before the process ends.
type LastWords = Box<dyn Fn(&Failure) + Send + Sync>;

static LAST_WORDS: OnceLock<LastWords> = OnceLock::new();
static WATCHDOG: OnceLock<Watchdog> = OnceLock::new();

/// Sets what this process does before the watchdog ends it: report the failure. It must return within seconds.
/// Without it, the failure is written to standard error. Only the first call has an effect.
pub fn on_runaway(last_words: impl Fn(&Failure) + Send + Sync + 'static) {
    let _ = LAST_WORDS.set(Box::new(last_words));
}

/// The watchdog's thread, and the stopwatches that it checks.
pub(super) struct Watchdog {
    stopwatches: Mutex<Vec<Weak<Stopwatch>>>,
    thread: std::thread::Thread,
    asleep: Arc<AtomicBool>,
}

/// Watches a machine's scripts until the machine is dropped.
///
/// # Errors
/// The thread cannot be started.
pub(super) fn watch(stopwatch: &Arc<Stopwatch>) -> std::io::Result<&'static Watchdog> {
    let watchdog = match WATCHDOG.get() {
        Some(watchdog) => watchdog,
        None => start()?,
    };
    let mut stopwatches = lock(&watchdog.stopwatches);
    stopwatches.retain(|stopwatch| stopwatch.strong_count() > 0);
    stopwatches.push(Arc::downgrade(stopwatch));
    drop(stopwatches);
    Ok(watchdog)
}

fn start() -> std::io::Result<&'static Watchdog> {
    let asleep = Arc::new(AtomicBool::new(false));
    let flag = asleep.clone();
    let thread = std::thread::Builder::new().name("watchdog".into()).spawn(move || {
        loop {
            let watchdog = WATCHDOG.get();
            if let Some(failure) = watchdog.and_then(Watchdog::runaway) {
                end(&failure);
            }
            if watchdog.is_none_or(Watchdog::is_busy) {
                std::thread::sleep(LOOK);
                continue;
            }
            flag.store(true, Ordering::SeqCst);
            // A script that started before the flag was set has not woken the thread, so check again.
            if watchdog.is_none_or(Watchdog::is_busy) {
                flag.store(false, Ordering::SeqCst);
            } else {
                std::thread::park();
            }
        }
    })?;
    // If two callers start a thread at the same time, both threads watch the same stopwatches, which is harmless.
    Ok(WATCHDOG.get_or_init(|| Watchdog { stopwatches: Mutex::default(), thread: thread.thread().clone(), asleep }))
}

impl Watchdog {
    /// Wakes the thread if it sleeps, because a script runs.
    pub(super) fn wake(&self) {
        if self.asleep.swap(false, Ordering::SeqCst) {
            self.thread.unpark();
        }
    }

    fn stopwatches(&self) -> Vec<Arc<Stopwatch>> {
        lock(&self.stopwatches).iter().filter_map(Weak::upgrade).collect()
    }

    fn is_busy(&self) -> bool {
        self.stopwatches().iter().any(|stopwatch| stopwatch.is_running())
    }

    fn runaway(&self) -> Option<Failure> {
        self.stopwatches().iter().find_map(|stopwatch| stopwatch.overdue(GRACE))
    }
}

/// Ends the process.
fn end(failure: &Failure) -> ! {
    if let Some(last_words) = LAST_WORDS.get() {
        last_words(failure);
    } else {
        let at = failure.at.as_ref().map(|at| format!("{at}: ")).unwrap_or_default();
        eprintln!("bottler: {at}{failure}");
    }
    crash::end_process(Class::Input.exit_code())
}
