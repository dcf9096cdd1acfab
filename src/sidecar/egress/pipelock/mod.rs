//! `engine: pipelock`: behind bottler's own gate, Pipelock inspects what has passed (github.com/luckyPipewrench/pipelock,
//! 2.3; its configuration is in its `docs/configuration.md`). It runs as a child of egress, in egress' container, from the
//! image that the manifest names. The agent's requests reach it over loopback, as an upstream proxy that intercepts TLS.
//!
//! Rules:
//! * Everything that bottler decides is decided before: hosts, ports, methods, paths, addresses, credentials, pushes. Pipelock
//!   can only refuse more. Its own allowlist has the policy's hosts.
//! * It has a CA of its own, which only egress trusts. The key of the bottle's CA is not in its reach.
//! * Hosts with a credential, with `tls: tunnel` or with `scan: off` pass Pipelock unread: it refuses every credential in a
//!   header. Requests of the bottle's own sidecars and plain TCP do not pass it at all. Bottler's own scanner sees them.
//! * A change is a new file and a signal. It is acknowledged once Pipelock's log has the digest of that file; what Pipelock
//!   rejects is not enforced anywhere, and the previous file comes back. It rejects what would make it look at less.
//! * When Pipelock ends, egress ends, so that the agent is paused.
//!
//! Attacks that this stops: a request that reaches Pipelock's own pages (`/fetch`, `/ws`, `/stats`) or a host that only its
//! looser wildcard matches: bottler's gate forwards neither.

mod authority;
mod log;
mod process;
pub(super) mod refusal;
mod settings;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use self::authority::InnerAuthority;
use self::process::Running;
use self::settings::Settings;
use super::snapshot::Inspector;
use crate::layout::agent::{BUNDLES, MAX_IMAGE_FILE};
use crate::layout::pipelock as layout;
use crate::policy::EnforcedPolicy;
use crate::scan::KnownSecret;
use crate::sidecar::audit::Log;

/// How Pipelock is started, in egress' configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PipelockConfig {
    /// The program, in the image.
    pub program: PathBuf,
    /// The hosts that have a credential, as in `egress.allow`. They are fixed: Pipelock takes no change that makes it stop
    /// reading a host.
    pub held: Vec<String>,
}

/// Pipelock, running.
pub(super) struct Pipelock {
    folder: PathBuf,
    /// What is enforced. The lock serializes changes.
    settings: Mutex<Settings>,
    running: Running,
    inspector: Inspector,
}

impl Pipelock {
    /// Writes the first configuration, starts the program, and waits until it is ready.
    ///
    /// # Errors
    /// A file cannot be written, or the program does not become ready: with its own words.
    pub(super) async fn start(
        config: &PipelockConfig,
        folder: &Path,
        settings: Settings,
        log: &Log,
    ) -> anyhow::Result<Arc<Self>> {
        let authority = InnerAuthority::new(log.bottle())?;
        write(&folder.join(layout::CERTIFICATE), authority.certificate.as_bytes())?;
        write(&folder.join(layout::KEY), authority.key.as_bytes())?;
        write(&folder.join(layout::ROOTS), roots(&settings.roots())?.as_bytes())?;
        let digest = put(folder, &settings)?;
        let running = Running::start(&config.program, folder, &digest, log.clone()).await?;
        let settings = Mutex::new(settings);
        let inspector = Inspector { port: layout::PORT, certificate: authority.certificate };
        Ok(Arc::new(Self { folder: folder.to_owned(), settings, running, inspector }))
    }

    /// Waits until it has ended; returns how.
    pub(super) async fn ended(&self) -> String {
        self.running.ended().await
    }

    /// How egress reaches it.
    pub(super) fn inspector(&self) -> &Inspector {
        &self.inspector
    }

    /// Applies a change, and waits until Pipelock enforces it.
    ///
    /// # Errors
    /// Pipelock rejects it: it still enforces the previous one.
    async fn change(&self, change: impl FnOnce(Settings) -> Settings + Send) -> Result<(), String> {
        let mut settings = self.settings.lock().await;
        let next = change(settings.clone());
        if next == *settings {
            return Ok(());
        }
        let failed = |why: String| format!("Pipelock does not take the change, and enforces what it did before: {why}");
        let written = put(&self.folder, &next).map_err(|error| failed(format!("{error:#}")));
        let taken = match written {
            Ok(digest) => self.running.reload(&digest).await.map_err(failed),
            Err(why) => Err(why),
        };
        match taken {
            Ok(()) => *settings = next,
            Err(why) => {
                // A later signal must not bring back what was rejected.
                if let Err(error) = put(&self.folder, &settings) {
                    return Err(format!("{why}; and its previous file cannot be restored: {error:#}"));
                }
                return Err(why);
            }
        }
        Ok(())
    }

    /// Enforces another policy.
    ///
    /// # Errors
    /// Pipelock rejects it.
    pub(super) async fn enforce(&self, policy: &EnforcedPolicy) -> Result<(), String> {
        self.change(|settings| settings.with_policy(policy)).await
    }

    /// Searches for other secrets.
    ///
    /// # Errors
    /// Pipelock rejects it.
    pub(super) async fn set_secrets(&self, secrets: &[KnownSecret]) -> Result<(), String> {
        self.change(|settings| settings.with_secrets(secrets)).await
    }
}

/// The settings of a launch.
pub(super) fn settings(config: &PipelockConfig, policy: &EnforcedPolicy, secrets: &[KnownSecret]) -> Settings {
    Settings::of(&config.held).with_policy(policy).with_secrets(secrets)
}

/// Writes the files that change; returns the digest of the configuration.
fn put(folder: &Path, settings: &Settings) -> anyhow::Result<String> {
    // Pipelock reads the secrets when it reads its configuration, so they must be there before.
    write(&folder.join(layout::SECRETS), settings.secrets_file().as_bytes())?;
    let config = settings.render(folder)?;
    write(&folder.join(layout::CONFIG), config.as_bytes())?;
    Ok(settings::digest(&config))
}

/// Replaces a file that only this user reads.
fn write(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    crate::host::replace_in_memory(path, content).with_context(|| format!("write {}", path.display()))
}

/// The authorities for destinations: the image's own, and the policy's.
fn roots(more: &[String]) -> anyhow::Result<String> {
    let found = BUNDLES.iter().find_map(|path| {
        let file = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
        (file.len() <= MAX_IMAGE_FILE as u64).then(|| std::fs::read_to_string(path).ok())?
    });
    let own = found.unwrap_or_default();
    anyhow::ensure!(
        !own.is_empty() || !more.is_empty(),
        "the image of Pipelock has no certificates of public authorities ({}): use one that has them, or name some with \
         `egress: {{roots: […]}}`",
        BUNDLES.join(", ")
    );
    Ok(std::iter::once(own.as_str()).chain(more.iter().map(String::as_str)).collect::<Vec<_>>().join("\n"))
}
