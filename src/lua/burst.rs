//! Measures a burst: the time that a script computes on a thread without waiting, and the line that it has reached.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mlua::debug::Debug;
use nix::time::ClockId;
use nix::unistd::{Pid, gettid};

use super::script::is_library;
use super::sources::Sources;
use crate::session::{Class, Failure};
use crate::sync::lock;

/// The processor time that a thread has used.
fn time_of(thread: Pid) -> Option<Duration> {
    // The id of a thread's clock is built as clock_getcpuclockid(3) does for processes: CPUCLOCK_PERTHREAD_MASK and
    // CPUCLOCK_SCHED in the kernel's include/linux/posix-timers_types.h.
    let clock = ClockId::from_raw((!thread.as_raw() << 3) | 4 | 2);
    clock.now().ok().map(Duration::from)
}

/// Measures the bursts of one Lua machine.
pub(super) struct Stopwatch {
    /// How long a script may compute between two waits, in processor time.
    limit: Duration,
    /// What is measured, for the error.
    what: &'static str,
    running: Mutex<Option<Burst>>,
    /// The name of the running script.
    script: Mutex<Option<String>>,
    line: AtomicUsize,
    sources: Arc<Sources>,
}

/// A burst in progress.
#[derive(Clone, Copy)]
struct Burst {
    thread: Pid,
    /// The thread's processor time at the start.
    began: Duration,
}

impl Stopwatch {
    pub(super) fn new(limit: Duration, what: &'static str, sources: &Arc<Sources>) -> Self {
        Self {
            limit,
            what,
            running: Mutex::default(),
            script: Mutex::default(),
            line: AtomicUsize::new(0),
            sources: sources.clone(),
        }
    }

    /// Records the current script, for operations that run none of its lines.
    pub(super) fn note_script(&self, name: &str) {
        *lock(&self.script) = Some(name.to_owned());
    }

    /// Records the current line, unless it is in bottler's library: the user's line that called it is more useful.
    pub(super) fn note_line(&self, debug: &Debug<'_>) {
        let source = debug.source().source;
        let Some(script) = source.as_deref().and_then(|source| source.strip_prefix('@')) else { return };
        if is_library(script) {
            return;
        }
        let mut known = lock(&self.script);
        if known.as_deref() != Some(script) {
            *known = Some(script.to_owned());
        }
        self.line.store(debug.current_line().unwrap_or_default(), Ordering::Relaxed);
    }

    /// By how much the current burst exceeds the limit; `None` if nothing runs.
    pub(super) fn over(&self) -> Option<Duration> {
        let running = (*lock(&self.running))?;
        let used = time_of(running.thread)?.saturating_sub(running.began);
        Some(used.saturating_sub(self.limit))
    }

    pub(super) fn is_running(&self) -> bool {
        lock(&self.running).is_some()
    }

    /// The failure for which the process must end, because the script was told to stop and still runs.
    pub(super) fn overdue(&self, grace: Duration) -> Option<Failure> {
        (self.over()? > grace).then(|| self.failure())
    }

    /// The failure of a script that computed for too long.
    pub(super) fn failure(&self) -> Failure {
        let message = format!("{} for {} s without waiting for anything", self.what, self.limit.as_secs_f64());
        let line = self.line.load(Ordering::Relaxed);
        let place = lock(&self.script).as_ref().map(|script| self.sources.place(script, line));
        Failure::new(Class::Input, message)
            .hint("this is the last line that ran; a function that it called may not return")
            .at(place.as_ref())
    }

    /// Starts a burst on this thread. It ends when the result is dropped, including by a panic.
    pub(super) fn start(&self) -> Running<'_> {
        let thread = gettid();
        let began = time_of(thread).unwrap_or_default();
        *lock(&self.running) = Some(Burst { thread, began });
        Running(&self.running)
    }
}

/// A burst in progress; dropping it ends the burst.
pub(super) struct Running<'a>(&'a Mutex<Option<Burst>>);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        *lock(self.0) = None;
    }
}
