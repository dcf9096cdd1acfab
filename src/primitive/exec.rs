//! `exec`: a command in a running container, to its end.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;

use super::seconds::{Seconds, within};
use crate::engine::{Engine, ExecSpec, Output};
use crate::session::{Class, Failure};

/// Most that is kept of each stream, in bytes.
pub(super) const MAX_OUTPUT: usize = 1 << 20;
/// How long a command may take where the script does not say, in seconds.
pub(super) const DEFAULT_TIMEOUT: f64 = 60.0;

/// What `exec` takes.
#[derive(Debug, Clone, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecOptions {
    /// The command and its arguments.
    pub command: Vec<String>,
    /// Variables beyond the container's own.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The directory it starts in.
    pub workdir: Option<String>,
    /// What it reads; nothing when absent.
    pub stdin: Option<String>,
    /// How long it may take; 60 s when absent.
    pub timeout: Option<Seconds>,
}

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct ExecResult {
    /// Its exit code.
    pub exit_code: i64,
    /// What it wrote, up to a bound.
    pub stdout: String,
    /// What it wrote to standard error, up to a bound.
    pub stderr: String,
    /// Whether more was written than is kept.
    pub truncated: bool,
}

/// Runs a command in a container and waits for its end. A non-zero exit code is a result.
///
/// # Errors
/// The engine refuses, or the time is over; the command may run on then.
pub async fn exec(engine: &dyn Engine, container: &str, options: &ExecOptions) -> Result<ExecResult, Failure> {
    if options.command.is_empty() {
        return Err(Failure::new(Class::Input, "exec: command is empty"));
    }
    let limit = options.timeout.clone().unwrap_or(Seconds::Number(DEFAULT_TIMEOUT)).duration("exec")?;
    within(&format!("exec {:?}", options.command[0]), Some(limit), run(engine, container, options)).await
}

async fn run(engine: &dyn Engine, container: &str, options: &ExecOptions) -> Result<ExecResult, Failure> {
    let spec = ExecSpec {
        command: options.command.clone(),
        user: None,
        env: options.env.iter().map(|(name, value)| format!("{name}={value}")).collect(),
        workdir: options.workdir.clone(),
        tty: false,
    };
    let stdin = options.stdin.as_deref().unwrap_or_default().as_bytes();
    let CommandOutput { exit_code, stdout, stderr, truncated } =
        run_to_end(engine, container, &spec, stdin, MAX_OUTPUT).await?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(ExecResult { exit_code, stdout: text(stdout), stderr: text(stderr), truncated })
}

/// What a command did, in bytes.
pub(super) struct CommandOutput {
    pub(super) exit_code: i64,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
    /// Whether more was written than is kept.
    pub(super) truncated: bool,
}

/// Runs a command, gives it its input, and reads both streams to their ends; `bound` bytes of each are kept.
pub(super) async fn run_to_end(
    engine: &dyn Engine,
    container: &str,
    spec: &ExecSpec,
    stdin: &[u8],
    bound: usize,
) -> Result<CommandOutput, Failure> {
    let (id, mut streams) = engine.exec(container, spec).await?;
    // A command that does not read may close its end first; its exit code says the rest.
    let _ = streams.input.write_all(stdin).await;
    let _ = streams.input.shutdown().await;
    let (mut stdout, mut stderr, mut truncated) = (Vec::new(), Vec::new(), false);
    while let Some(piece) = streams.output.next().await {
        let (to, bytes) = match piece? {
            Output::Stdout(bytes) => (&mut stdout, bytes),
            Output::Stderr(bytes) => (&mut stderr, bytes),
        };
        let room = bound - to.len();
        truncated |= bytes.len() > room;
        to.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
    Ok(CommandOutput { exit_code: engine.exec_exit_code(&id).await?, stdout, stderr, truncated })
}
