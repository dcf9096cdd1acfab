//! PID 1 of the containers that run somebody else's command: `init` in the agent's, `serve` in an ordinary image's.
//!
//! `init` relays the sidecars' services, proves that the bottle is tight, takes what the agent is given, and only then
//! starts the agent's command. It runs as the plan's user, without capabilities, and is not dumpable: the agent cannot
//! read it or trace it.

pub mod beside;
mod child;
pub mod files;
mod java;
mod relay;
mod release;
pub mod serve;

use std::collections::BTreeMap;
use std::net::SocketAddrV4;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{Signal, SignalKind, signal};

pub use release::{Answer, File, Release, Request, bridge};

use crate::probe;

/// The role's name on the command line; `init` alone is what users type for a manifest to begin with.
pub const ROLE: &str = "agent-init";
/// A memory file system of the agent's user: init's socket until the release, the CA bundle after it.
pub const RUN_DIR: &str = "/run/bottler";
/// Where the agent's container sees the sidecars' volumes, read-only, each under its sidecar's name.
pub const SERVICES_DIR: &str = "/run/bottler-services";
/// The role's name on the command line that runs the operator's commands.
pub const ENTER: &str = "enter";
/// The bottle's CA certificate.
pub const CA_FILE: &str = "/run/bottler/ca.pem";
/// The image's own certificates and the bottle's.
pub const BUNDLE_FILE: &str = "/run/bottler/ca-bundle.pem";
/// A folder with the same, for those who read folders.
pub const BUNDLE_DIR: &str = "/run/bottler/certs";
/// The same as a store of Java's, and its password: nothing in it is secret, and Java's own has this one, too.
pub const JAVA_STORE: &str = "/run/bottler/truststore.jks";
/// See [`JAVA_STORE`].
pub const JAVA_PASSWORD: &str = "changeit";
/// The image's own certificates alone, where our layer has put them aside.
pub const OWN_BUNDLE: &str = "/etc/bottler-own-certificates.pem";
/// Where images keep their certificates: Debian, Fedora, Alpine, SUSE.
pub const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
];
/// What the agent was told beyond its container's variables: for those of the operator's commands that run beside it.
pub const ENV_FILE: &str = "/run/bottler/env.json";

/// What init is told on its command line; nothing here is secret.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Loopback addresses, and where they lead.
    pub relays: BTreeMap<SocketAddrV4, Far>,
    /// Whether the kernel is gVisor's.
    #[serde(default)]
    pub gvisor: bool,
}

/// The far end of a relay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Far {
    /// A sidecar's socket, below [`SERVICES_DIR`]: `egress/socket`.
    Socket(String),
    /// A sidecar's address on the network inside.
    Address(SocketAddrV4),
}

/// `bottler enter COMMAND…`, run by an exec: the command, with what the agent was told. Returns only if it cannot.
///
/// # Errors
/// There is no command, or it cannot be started.
pub fn enter(words: &[&str]) -> anyhow::Result<()> {
    use std::os::unix::process::CommandExt;
    let (program, arguments) = words.split_first().context("there is no command")?;
    // Before the release nothing has been told.
    let told = std::fs::read(ENV_FILE).unwrap_or_else(|_| b"{}".to_vec());
    let env: BTreeMap<String, String> = serde_json::from_slice(&told).context("read what the agent was told")?;
    Err(std::process::Command::new(program).args(arguments).envs(env).exec())
        .with_context(|| format!("start {program:?}"))
}

/// The signals that are passed on to the agent; before there is one, they end the bottle.
fn signals() -> std::io::Result<Vec<Signal>> {
    PASSED_ON.iter().map(|&kind| signal(SignalKind::from_raw(kind as i32))).collect()
}

const PASSED_ON: [nix::sys::signal::Signal; 4] = [
    nix::sys::signal::Signal::SIGTERM,
    nix::sys::signal::Signal::SIGINT,
    nix::sys::signal::Signal::SIGHUP,
    nix::sys::signal::Signal::SIGQUIT,
];

/// The next signal that came, as an index into [`PASSED_ON`].
async fn next_signal(signals: &mut [Signal]) -> nix::sys::signal::Signal {
    let waiting = signals.iter_mut().map(|signal| Box::pin(signal.recv()));
    let (_, index, _) = futures_util::future::select_all(waiting).await;
    PASSED_ON[index]
}

/// Runs until the agent's command has ended; its exit code.
///
/// # Errors
/// The configuration is bad, a relay cannot listen, or the command cannot be started.
pub async fn run(config: &str) -> anyhow::Result<i32> {
    let config: Config = serde_json::from_str(config).context("read init's configuration")?;
    let mut signals = signals()?;
    relay::start(&config.relays, config.gvisor).await?;
    let release = tokio::select! {
        release = release::receive(probe::release) => release?,
        signal = next_signal(&mut signals) => return Ok(128 + signal as i32),
    };
    let task = child::Task { command: &release.command, env: &release.env, workdir: &release.workdir, output: None };
    Ok(child::start(task)?.end(&mut signals).await)
}
