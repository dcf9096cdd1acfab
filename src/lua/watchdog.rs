//! What ends a script that never gives the processor back.
//!
//! Three things stop a script, each where the one before cannot:
//! 1. The hook *suspends* it at the next instruction, and whoever drives it drops it. An error could be caught by the script.
//! 2. Where Lua cannot be suspended (a comparator, a callback of `gsub`, a metamethod, the body of a required module), the
//!    hook raises an error, so that the C function around it ends and the script can be suspended.
//! 3. Where no hook runs (inside a C function: a search that backtracks, `string.rep` of an empty string) or every error is
//!    caught, nothing in the process can take the thread back. The watchdog, a thread of its own, ends the process.
//!
//! Time is the processor time of the thread that drives the script: a busy machine ends nobody.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use super::burst::Stopwatch;
use crate::session::{Class, Failure, crash};
use crate::sync::lock;

/// How much longer than its time a script may compute before the process is ended: time for the hook to stop it.
const GRACE: Duration = Duration::from_millis(500);
/// How often running scripts are looked at. While none runs, the watchdog sleeps.
const LOOK: Duration = Duration::from_millis(100);

/// What is done before the process ends.
type LastWords = Box<dyn Fn(&Failure) + Send + Sync>;

static LAST_WORDS: OnceLock<LastWords> = OnceLock::new();
static WATCHDOG: OnceLock<Watchdog> = OnceLock::new();

/// Says what this process does before the watchdog ends it for a script: tell somebody. It must return within seconds. Without
/// it, the failure is written to standard error. Only the first call counts.
pub fn on_runaway(last_words: impl Fn(&Failure) + Send + Sync + 'static) {
    let _ = LAST_WORDS.set(Box::new(last_words));
}

/// The thread, and whom it watches.
pub(super) struct Watchdog {
    stopwatches: Mutex<Vec<Weak<Stopwatch>>>,
    thread: std::thread::Thread,
    asleep: Arc<AtomicBool>,
}

/// Has a machine's scripts watched for as long as it lives.
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
            // A script that began before the flag was seen has wakened nobody.
            if watchdog.is_none_or(Watchdog::is_busy) {
                flag.store(false, Ordering::SeqCst);
            } else {
                std::thread::park();
            }
        }
    })?;
    // Whoever comes second has started a thread too many, which watches the same.
    Ok(WATCHDOG.get_or_init(|| Watchdog { stopwatches: Mutex::default(), thread: thread.thread().clone(), asleep }))
}

impl Watchdog {
    /// Wakes the thread, where it sleeps: a script runs.
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
