//! The probe: tries to leave its network namespace, and reports the result of each attempt.
//!
//! `init` runs it before it starts the agent's command (promise 1). The built-in agent `probe` runs more attempts, as
//! an agent would. A refusal by the kernel or by egress is as expected. A timeout is not: silence at the sender proves
//! nothing.

mod datagram;
mod direct;
mod files;
mod kernel;
mod line;
mod proxy;
mod targets;
mod wait;

pub use line::{ProbeResult, SENT, passed, sent};
pub use targets::{Counterpart, DirectTarget, InsideNetwork, Targets};

use anyhow::Context;

use crate::engine::{Bounds, Resources};
use crate::wire::{BlockingReader, send_blocking};

/// The environment variable with the [`Targets`] of the agent `probe`.
pub const VARIABLE: &str = "BOTTLER_PROBE";

/// Compares the planned limits with those that the engine enforces.
pub fn bounds(planned: &Resources, enforced: Bounds) -> Vec<ProbeResult> {
    let line = |attempt: &str, expected: i64, enforced: u64| {
        let (expected, happened) = (expected.to_string(), enforced.to_string());
        ProbeResult::new(format!("bound: {attempt}, by the engine"), &expected.clone(), expected == happened, happened)
    };
    vec![line("memory, bytes", planned.memory, enforced.memory), line("processes", planned.pids, enforced.pids)]
}

/// The attempts before the release: all that need no counterpart.
pub fn release(targets: &Targets) -> Vec<ProbeResult> {
    let mut lines = proxy::canary(targets);
    let inside = targets.inside.as_ref();
    lines.extend(direct::interfaces(inside));
    lines.extend(in_parallel(vec![
        Box::new(|| direct::tcp(&targets.direct, inside)),
        Box::new(|| datagram::options(&targets.direct, inside)),
        Box::new(|| datagram::ipv6(inside)),
        Box::new(|| datagram::connections(&targets.direct, inside)),
        Box::new(|| direct::routes(inside)),
        Box::new(|| direct::names(inside)),
    ]));
    lines.extend(kernel::sockets());
    lines.extend(kernel::limits(&targets.resources, targets.gvisor, targets.unbounded));
    lines.extend(files::executable());
    lines
}

/// The attempts of the agent `probe`: all of them, and finally what the counterpart received.
pub fn full(targets: &Targets) -> Vec<ProbeResult> {
    let mut lines = proxy::allowed(targets);
    lines.extend(release(targets));
    lines.extend(proxy::forbidden(targets));
    lines.extend(kernel::calls(targets.gvisor));
    lines.extend(files::all(targets.gvisor));
    lines.extend(proxy::receipts(targets));
    lines
}

type Attempt<'a> = Box<dyn FnOnce() -> Vec<ProbeResult> + Send + 'a>;

/// Runs groups of attempts concurrently: in a bottle that leaks, each waits for a timeout.
fn in_parallel(groups: Vec<Attempt<'_>>) -> Vec<ProbeResult> {
    std::thread::scope(|scope| {
        let running: Vec<_> = groups.into_iter().map(|group| scope.spawn(group)).collect();
        running
            .into_iter()
            .flat_map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| vec![ProbeResult::new("run the probe", "finished", false, "it panicked")])
            })
            .collect()
    })
}

/// The role's name on the command line of an exec that repeats the release probe.
pub const AGAIN: &str = "probe-again";

/// Maximum length of the line of targets, in bytes.
const MAX_LINE: usize = 1 << 20;

/// Repeats the release probe: reads targets and prints results, each a line of JSON.
///
/// # Errors
/// There are no targets, or a standard stream is closed.
pub fn again() -> anyhow::Result<()> {
    let targets: Option<Targets> = BlockingReader::new(std::io::stdin().lock(), MAX_LINE).value()?;
    let lines = release(&targets.context("there are no targets")?);
    Ok(send_blocking(&mut std::io::stdout().lock(), &lines)?)
}

/// The agent `probe`: reads targets from the environment and prints results as JSON.
///
/// # Errors
/// There are no targets, or standard output is closed.
pub fn agent() -> anyhow::Result<()> {
    let targets: Targets = serde_json::from_str(&std::env::var(VARIABLE)?)?;
    let lines = full(&targets);
    send_blocking(&mut std::io::stdout().lock(), &lines)?;
    anyhow::ensure!(passed(&lines), "the bottle is not tight");
    Ok(())
}
