//! Stops a script that computes for too long. [`super::watchdog`] handles the cases in which this is not possible.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use mlua::debug::{Debug, DebugEvent};
use mlua::{HookTriggers, Lua, VmState};

use super::burst::Stopwatch;
use super::error::raise;
use super::script::Script;
use super::sources::Sources;
use super::watchdog::{self, Watchdog};
use crate::primitive::MAX_BURST;

/// How often the clock is read, in instructions.
const EVERY: u32 = 10_000;

/// Watches the scripts of one Lua machine.
pub(super) struct Guard {
    stopwatch: Arc<Stopwatch>,
    /// How often the script has been told to stop.
    stopped: AtomicUsize,
    watchdog: &'static Watchdog,
    /// Called when a script starts to compute, and when it waits or ends.
    on_burst: OnBurst,
}

/// Receives whether a script computes.
type OnBurst = Box<dyn Fn(bool) + Send + Sync>;

impl Guard {
    /// Watches a machine. The hook records every line, which costs about 0.1 µs: no hook runs inside a C function, so
    /// the line that called it is all that an error can name.
    pub(super) fn install(
        lua: &Lua,
        sources: &Arc<Sources>,
        burst: Duration,
        on_burst: impl Fn(bool) + Send + Sync + 'static,
    ) -> mlua::Result<Arc<Self>> {
        let guard = Self::new(burst, "the script computed", sources, Box::new(on_burst))?;
        let hook = guard.clone();
        let triggers = HookTriggers::new().every_line().every_nth_instruction(EVERY);
        lua.set_global_hook(triggers, move |_, debug| hook.check(debug))?;
        Ok(guard)
    }

    /// Watches the linter, which parses a script without running it.
    pub(super) fn of_lint(script: &Script) -> std::io::Result<Arc<Self>> {
        let guard = Self::new(MAX_BURST, "bottler checked the script", &Arc::default(), Box::new(drop))?;
        guard.stopwatch.note_script(&script.name);
        Ok(guard)
    }

    fn new(
        burst: Duration,
        what: &'static str,
        sources: &Arc<Sources>,
        on_burst: OnBurst,
    ) -> std::io::Result<Arc<Self>> {
        let stopwatch = Arc::new(Stopwatch::new(burst, what, sources));
        let watchdog = watchdog::watch(&stopwatch)?;
        Ok(Arc::new(Self { stopwatch, stopped: AtomicUsize::new(0), watchdog, on_burst }))
    }

    fn check(&self, debug: &Debug<'_>) -> mlua::Result<VmState> {
        if debug.event() == DebugEvent::Line {
            self.stopwatch.note_line(debug);
            return Ok(VmState::Continue);
        }
        if self.stopwatch.over().is_none_or(|over| over.is_zero()) {
            return Ok(VmState::Continue);
        }
        // If Lua cannot be suspended here, as in a comparator, yielding has no effect, so this alternates with an
        // error. The script may catch the error, but the catching code can then be suspended.
        if self.stopped.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
            Ok(VmState::Yield)
        } else {
            Err(raise(self.stopwatch.failure()))
        }
    }

    /// Polls a script's future, and fails it when it computes for too long.
    pub(super) fn watch<T>(
        self: &Arc<Self>,
        script: impl Future<Output = mlua::Result<T>> + Send,
    ) -> impl Future<Output = mlua::Result<T>> + Send {
        self.stopped.store(0, Ordering::Relaxed);
        Watched { guard: self.clone(), script: Some(Box::pin(script)) }
    }

    /// Runs a closure that may run Lua on this thread.
    pub(super) fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        let _running = self.stopwatch.start();
        self.watchdog.wake();
        (self.on_burst)(true);
        let done = work();
        (self.on_burst)(false);
        done
    }
}

/// A watched future. It is dropped under watch, too, because that runs the script's `__close` functions.
struct Watched<F> {
    guard: Arc<Guard>,
    script: Option<Pin<Box<F>>>,
}

impl<T, F: Future<Output = mlua::Result<T>>> Future for Watched<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let guard = self.guard.clone();
        let Some(script) = &mut self.script else { return Poll::Pending };
        let polled = guard.run(|| script.as_mut().poll(context));
        let done = matches!(polled, Poll::Ready(Ok(_)));
        if guard.stopped.load(Ordering::Relaxed) > 0 && !done {
            return Poll::Ready(Err(raise(guard.stopwatch.failure())));
        }
        polled
    }
}

impl<F> Drop for Watched<F> {
    fn drop(&mut self) {
        if let Some(script) = self.script.take() {
            self.guard.run(|| drop(script));
        }
    }
}
