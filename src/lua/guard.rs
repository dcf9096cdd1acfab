//! The time that a script may compute, and the line that it is at. `watchdog` says what happens beyond it.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use mlua::debug::Debug;
use mlua::{HookTriggers, Lua, VmState};
use nix::unistd::{Pid, gettid};

use super::error::is_library;
use super::watchdog::{self, Watchdog};
use super::{Script, Sources, api};
use crate::primitive::MAX_BURST;
use crate::session::{Class, Failure};
use crate::sync::lock;

/// How often the clock is looked at, in instructions.
const EVERY: u32 = 10_000;

/// Watches the scripts of one machine.
pub(super) struct Guard {
    /// How long a script may compute between two waits, in processor time.
    burst: Duration,
    /// What it is that takes so long.
    what: &'static str,
    running: Mutex<Option<Running>>,
    /// How often the script has been told to stop.
    stopped: AtomicUsize,
    /// Where it is: the script's name, and the line.
    script: Mutex<Option<String>>,
    line: AtomicUsize,
    sources: Arc<Sources>,
    watchdog: OnceLock<&'static Watchdog>,
}

/// A burst: the script computes on a thread.
#[derive(Clone, Copy)]
struct Running {
    thread: Pid,
    /// The thread's processor time at its beginning.
    began: Duration,
}

impl Guard {
    /// Watches a machine. The line is looked at on every line, which costs about 0.1 µs: a C function runs no hook, and the
    /// line that called it is all that can be told of it.
    pub(super) fn install(lua: &Lua, sources: &Arc<Sources>, burst: Duration) -> mlua::Result<Arc<Self>> {
        let guard = Self::new(burst, "the script computed", sources)?;
        let hook = guard.clone();
        let triggers = HookTriggers::new().every_line().every_nth_instruction(EVERY);
        lua.set_global_hook(triggers, move |_, debug| hook.look(debug))?;
        Ok(guard)
    }

    /// Watches what looks at a script without running it.
    pub(super) fn of_lint(script: &Script) -> std::io::Result<Arc<Self>> {
        let guard = Self::new(MAX_BURST, "bottler looked at the script", &Arc::default())?;
        *lock(&guard.script) = Some(script.name.clone());
        Ok(guard)
    }

    fn new(burst: Duration, what: &'static str, sources: &Arc<Sources>) -> std::io::Result<Arc<Self>> {
        let guard = Arc::new(Self {
            burst,
            what,
            running: Mutex::default(),
            stopped: AtomicUsize::new(0),
            script: Mutex::default(),
            line: AtomicUsize::new(0),
            sources: sources.clone(),
            watchdog: OnceLock::new(),
        });
        let _ = guard.watchdog.set(watchdog::watch(&guard)?);
        Ok(guard)
    }

    fn look(&self, debug: &Debug<'_>) -> mlua::Result<VmState> {
        if debug.event() == mlua::debug::DebugEvent::Line {
            self.note(debug);
            return Ok(VmState::Continue);
        }
        if self.over().is_none_or(|over| over.is_zero()) {
            return Ok(VmState::Continue);
        }
        // Where it cannot be suspended, as in a comparator, that has no effect. By turns, for the error may be caught, and what
        // caught it may be where it can be suspended.
        if self.stopped.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
            Ok(VmState::Yield)
        } else {
            Err(api::raise(self.failure()))
        }
    }

    /// Notes the line, unless it is one of bottler's library: the user's own that called it says more.
    fn note(&self, debug: &Debug<'_>) {
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

    /// By how much the burst that is running is over its time; `None` where none runs.
    fn over(&self) -> Option<Duration> {
        let running = (*lock(&self.running))?;
        let used = watchdog::time_of(running.thread)?.saturating_sub(running.began);
        Some(used.saturating_sub(self.burst))
    }

    pub(super) fn is_running(&self) -> bool {
        lock(&self.running).is_some()
    }

    /// Why the process must end: the script was told to stop, and runs on.
    pub(super) fn overdue(&self, grace: Duration) -> Option<Failure> {
        (self.over()? > grace).then(|| self.failure())
    }

    fn failure(&self) -> Failure {
        let message = format!("{} for {} s without waiting for anything", self.what, self.burst.as_secs_f64());
        let line = self.line.load(Ordering::Relaxed);
        let place = lock(&self.script).as_ref().map(|script| self.sources.place(script, line));
        Failure::new(Class::Input, message)
            .hint("the line is the last that ran; what it called may be what does not end")
            .at(place.as_ref())
    }

    /// Drives a script, and gives it up when it computes for too long.
    pub(super) fn watch<T>(
        self: &Arc<Self>,
        script: impl Future<Output = mlua::Result<T>> + Send,
    ) -> impl Future<Output = mlua::Result<T>> + Send {
        self.stopped.store(0, Ordering::Relaxed);
        Watched { guard: self.clone(), script: Some(Box::pin(script)) }
    }

    /// Runs something that may run Lua on this thread.
    pub(super) fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        let thread = gettid();
        let began = watchdog::time_of(thread).unwrap_or_default();
        *lock(&self.running) = Some(Running { thread, began });
        if let Some(watchdog) = self.watchdog.get() {
            watchdog.wake();
        }
        let _ended = Ended(&self.running);
        work()
    }
}

/// Ends a burst, also where it panics.
struct Ended<'a>(&'a Mutex<Option<Running>>);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        *lock(self.0) = None;
    }
}

/// A script under watch. It is dropped under watch, too: dropping it runs its `__close` functions.
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
            return Poll::Ready(Err(api::raise(guard.failure())));
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
