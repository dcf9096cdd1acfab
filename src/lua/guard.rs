//! What stops a script that does not stop itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use mlua::{HookTriggers, Lua, VmState};

/// How long a script may compute between two waits.
const MAX_BURST: Duration = Duration::from_secs(5);
/// How often the clock is looked at, in instructions.
const EVERY: u32 = 10_000;

/// Watches scripts. An error raised by a hook could be caught by the script; so a runaway is *suspended* instead, and
/// whoever drives it drops it.
pub(super) struct Guard {
    origin: Instant,
    /// When the running burst began, in milliseconds since `origin`.
    began: AtomicU64,
    runaway: AtomicBool,
}

impl Guard {
    pub(super) fn install(lua: &Lua) -> mlua::Result<Arc<Self>> {
        let guard =
            Arc::new(Self { origin: Instant::now(), began: AtomicU64::new(0), runaway: AtomicBool::new(false) });
        let hook = guard.clone();
        lua.set_global_hook(HookTriggers::new().every_nth_instruction(EVERY), move |_, _| {
            if hook.now() - hook.began.load(Ordering::Relaxed) < MAX_BURST.as_secs() * 1000 {
                return Ok(VmState::Continue);
            }
            hook.runaway.store(true, Ordering::Relaxed);
            Ok(VmState::Yield)
        })?;
        Ok(guard)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Drives a script, and gives it up when it computes for too long.
    pub(super) async fn watch<T>(&self, script: impl Future<Output = mlua::Result<T>>) -> mlua::Result<T> {
        let mut script = std::pin::pin!(script);
        self.runaway.store(false, Ordering::Relaxed);
        std::future::poll_fn(|context| {
            self.began.store(self.now(), Ordering::Relaxed);
            let polled = script.as_mut().poll(context);
            if polled.is_pending() && self.runaway.load(Ordering::Relaxed) {
                let message = format!("the script computed for {} s without waiting for anything", MAX_BURST.as_secs());
                return Poll::Ready(Err(mlua::Error::RuntimeError(message)));
            }
            polled
        })
        .await
    }
}
