//! `host.run`: runs a command on the host, if the user's own manifest lists it.
//!
//! A recipe or a project's hooks may be hostile. The command must be one that the user has listed, and it only runs
//! before the agent's command has started, so that it never executes what an agent has changed.

use std::process::Stdio;

use schemars::JsonSchema;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::bottle::Bottle;
use super::exec::{DEFAULT_TIMEOUT, ExecResult, MAX_OUTPUT};
use super::seconds::{Seconds, within};
use crate::session::{Class, Failure};

/// The options of `host.run`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostOptions {
    /// The command and its arguments; its first words must be listed in the manifest.
    pub command: Vec<String>,
    /// How long it may take until it is killed; 60 s by default.
    pub timeout: Option<Seconds>,
}

/// Runs a command in the directory of the launch, before the agent's command has started.
///
/// # Errors
/// The manifest does not list it, the agent has been released, it cannot be run, or it exceeds its time
/// limit.
pub async fn host_run(bottle: &Bottle, options: &HostOptions, listed: &[Vec<String>]) -> Result<ExecResult, Failure> {
    let Some((program, arguments)) = options.command.split_first() else {
        return Err(Failure::new(Class::Input, "host.run: command is empty"));
    };
    let line = options.command.join(" ");
    if !listed.iter().any(|prefix| !prefix.is_empty() && options.command.starts_with(prefix)) {
        let entry = serde_json::to_string(&options.command).unwrap_or_default();
        return Err(Failure::new(Class::Input, format!("host.run {line:?}: the manifest does not list it"))
            .hint(format!("add `host_commands: [{entry}]` to your own bottler.yaml, if you want scripts to run it")));
    }
    if bottle.is_released() {
        return Err(Failure::new(Class::Input, format!("host.run {line:?}: the agent has been released"))
            .hint("run it before agent:wait(); what an agent may have changed is not run on the host"));
    }
    let limit = options.timeout.clone().unwrap_or(Seconds::Number(DEFAULT_TIMEOUT)).duration("host.run")?;
    let Some(directory) = &bottle.host.directory else {
        return Ok(ExecResult { exit_code: 0, stdout: String::new(), stderr: String::new(), truncated: false });
    };
    let failed = |error: std::io::Error| Failure::new(Class::Operation, format!("host.run {line:?}: {error}"));
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).current_dir(directory).kill_on_drop(true);
    command.env_clear().envs(&bottle.host.command_env);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let work = async { tokio::try_join!(bounded(out), bounded(err), child.wait()).map_err(failed) };
    let ended = within(&format!("host.run {line:?}"), Some(limit), work).await;
    let ((stdout, cut_out), (stderr, cut_err), status) = ended?;
    let exit_code = status.code().unwrap_or(-1).into();
    Ok(ExecResult { exit_code, stdout, stderr, truncated: cut_out || cut_err })
}

/// Reads to the end, and keeps a bounded part.
async fn bounded(from: Option<impl AsyncRead + Unpin>) -> std::io::Result<(String, bool)> {
    let Some(mut from) = from else { return Ok((String::new(), false)) };
    let mut kept = Vec::new();
    (&mut from).take(MAX_OUTPUT as u64).read_to_end(&mut kept).await?;
    let dropped = tokio::io::copy(&mut from, &mut tokio::io::sink()).await?;
    Ok((String::from_utf8_lossy(&kept).into_owned(), dropped > 0))
}
