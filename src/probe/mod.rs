//! The probe: tries to get out of the network namespace it runs in, and says of each attempt what happened.
//!
//! `init` runs it before it lets the agent's command start (promise 1); the built-in agent `probe` runs more of it as
//! an agent would. An attempt that the kernel or egress refused is as expected. A time-out is not: silence at the
//! sender proves nothing.

mod datagram;
mod direct;
mod files;
mod kernel;
mod proxy;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};

use crate::engine::{Bounds, Resources};
use crate::init::Far;

/// The environment variable that tells the agent `probe` its [`Targets`].
pub const VARIABLE: &str = "BOTTLER_PROBE";

/// One attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// What was tried.
    pub attempt: String,
    /// What a tight bottle answers.
    pub expected: String,
    /// What happened.
    pub happened: String,
    /// Whether that is as expected.
    pub ok: bool,
}

impl Line {
    fn new(attempt: impl Into<String>, expected: &str, ok: bool, happened: impl Into<String>) -> Self {
        Self { attempt: attempt.into(), expected: expected.into(), happened: happened.into(), ok }
    }
}

/// What to try.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Targets {
    /// Egress, as this namespace reaches it.
    pub proxy: SocketAddrV4,
    /// Where egress keeps places for the repeated proof: those of the agent may all be taken.
    #[serde(default)]
    pub proof: Option<Far>,
    /// Addresses that exist outside and must not be reached, with what they are.
    pub direct: Vec<Target>,
    /// The counterpart that is reached through egress, and that counts what comes any other way.
    pub upstream: Option<Upstream>,
    /// The planned bounds, to read back.
    pub resources: Resources,
    /// Whether the kernel here should be gVisor's: its `/proc` tells neither filters nor bounds, which are the host's.
    #[serde(default)]
    pub gvisor: bool,
    /// The network that this namespace is on, in a bottle that is not sealed. What is sent there leaves this namespace;
    /// whether it arrives anywhere, the host says.
    #[serde(default)]
    pub inside: Option<Inside>,
}

/// A network that leads to the bottle's own sidecars and nowhere else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inside {
    /// An address of it that nobody has: a route by it leads nowhere.
    pub nobody: Ipv4Addr,
    /// Egress' address on it, which is also the only server of names, and answers nothing.
    pub egress: Ipv4Addr,
    /// The port at which somebody on the engine's host listens; 0 where nobody does.
    #[serde(default)]
    pub port: u16,
}

impl Inside {
    /// The port at which somebody on the engine's host listens, if anybody does.
    fn heard(&self) -> Option<u16> {
        (self.port != 0).then_some(self.port)
    }
}

/// An address on this machine that an attempt goes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// What is there, in words.
    pub name: String,
    /// Where.
    pub address: Ipv4Addr,
    /// The TCP port to try.
    pub port: u16,
}

/// The sidecar `upstream`, as the probe knows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// Its name, with port, at egress.
    pub host: String,
    /// Its address on the network it shares with egress.
    pub address: Ipv4Addr,
}

/// What the line of an attempt says that sent something on the network inside.
pub const SENT: &str = "sent";

/// Waits until something can be read. Not every kernel knows a time-out on the socket itself (gVisor on the host's sockets).
fn readable(socket: &impl AsFd, patience: Duration) -> std::io::Result<()> {
    let patience = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
    let mut polled = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    match poll(&mut polled, patience)? {
        0 => Err(std::io::ErrorKind::TimedOut.into()),
        _ => Ok(()),
    }
}

/// What is expected of an attempt: that it cannot be made, or on a network, that nothing comes of it.
fn expected(inside: Option<&Inside>, sealed: &'static str) -> &'static str {
    if inside.is_some() { "nothing arrives" } else { sealed }
}

/// Whether any attempt sent something on the network inside: then the host has something to say.
pub fn sent(lines: &[Line]) -> bool {
    lines.iter().any(|line| line.happened.starts_with(SENT))
}

/// Whether a probe's lines are all as expected.
pub fn passed(lines: &[Line]) -> bool {
    !lines.is_empty() && lines.iter().all(|line| line.ok)
}

/// The planned bounds against those that the engine's host enforces.
pub fn bounds(planned: &Resources, enforced: Bounds) -> Vec<Line> {
    let line = |attempt: &str, expected: i64, enforced: u64| {
        let (expected, happened) = (expected.to_string(), enforced.to_string());
        Line::new(format!("bound: {attempt}, by the engine"), &expected.clone(), expected == happened, happened)
    };
    vec![line("memory, bytes", planned.memory, enforced.memory), line("processes", planned.pids, enforced.pids)]
}

/// What `init` asks before the release: everything that needs no counterpart.
pub fn release(targets: &Targets) -> Vec<Line> {
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
    lines.extend(kernel::limits(&targets.resources, targets.gvisor));
    lines.extend(files::executable());
    lines
}

/// What the agent `probe` tries: all of it, and last what the counterpart received.
pub fn full(targets: &Targets) -> Vec<Line> {
    let mut lines = proxy::allowed(targets);
    lines.extend(release(targets));
    lines.extend(proxy::forbidden(targets));
    lines.extend(kernel::calls(targets.gvisor));
    lines.extend(files::all(targets.gvisor));
    lines.extend(proxy::receipts(targets));
    lines
}

type Attempt<'a> = Box<dyn FnOnce() -> Vec<Line> + Send + 'a>;

/// Runs groups of attempts side by side: where a bottle leaks, each of them waits for a time-out.
fn in_parallel(groups: Vec<Attempt<'_>>) -> Vec<Line> {
    std::thread::scope(|scope| {
        let running: Vec<_> = groups.into_iter().map(|group| scope.spawn(group)).collect();
        running
            .into_iter()
            .flat_map(|thread| {
                thread.join().unwrap_or_else(|_| vec![Line::new("run the probe", "finished", false, "it panicked")])
            })
            .collect()
    })
}

/// The role's name on the command line of an exec that repeats the release probe.
pub const AGAIN: &str = "probe-again";

/// Repeats the release probe: a line of JSON in, one out.
///
/// # Errors
/// There are no targets, or a standard stream is closed.
pub fn again() -> anyhow::Result<()> {
    use std::io::Write;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    let lines = release(&serde_json::from_str(&line)?);
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, &lines)?;
    Ok(writeln!(out)?)
}

/// The agent `probe`: reads its targets from the environment, prints its lines as JSON.
///
/// # Errors
/// There are no targets, or standard output is closed.
pub fn agent() -> anyhow::Result<()> {
    use std::io::Write;
    let targets: Targets = serde_json::from_str(&std::env::var(VARIABLE)?)?;
    let lines = full(&targets);
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, &lines)?;
    writeln!(out)?;
    anyhow::ensure!(passed(&lines), "the bottle is not tight");
    Ok(())
}
