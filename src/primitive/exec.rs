//! `exec`: runs a command in a running container to its end.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;

use super::seconds::{Seconds, within};
use crate::engine::{Engine, ExecSpec, Output};
use crate::session::{Class, Failure};

/// How much of each stream is kept, in bytes.
pub(super) const MAX_OUTPUT: usize = 1 << 20;
/// The default time limit of a command, in seconds.
pub(super) const DEFAULT_TIMEOUT: f64 = 60.0;

/// The options of `exec`.
#[derive(Debug, Clone, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecOptions {
    /// The command and its arguments.
    pub command: Vec<String>,
    /// Environment variables in addition to the container's.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The working directory.
    pub workdir: Option<String>,
    /// The standard input; empty by default.
    pub stdin: Option<String>,
    /// How long it may take; 60 s by default.
    pub timeout: Option<Seconds>,
}

/// The result of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct ExecResult {
    /// Its exit code.
    pub exit_code: i64,
    /// Its standard output, up to a limit.
    pub stdout: String,
    /// Its standard error, up to a limit.
    pub stderr: String,
    /// Whether output was cut off at the limit.
    pub truncated: bool,
}

/// Runs a command in a container and waits for its end. A non-zero exit code is a result, not an error.
///
/// # Errors
/// The engine refuses, or the time limit is exceeded; then the command may continue.
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

/// The result of a command, in bytes.
pub(super) struct CommandOutput {
    pub(super) exit_code: i64,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
    /// Whether output was cut off at the limit.
    pub(super) truncated: bool,
}

/// Runs a command, writes its input, and reads both streams to their ends; keeps `bound` bytes of each.
pub(super) async fn run_to_end(
    engine: &dyn Engine,
    container: &str,
    spec: &ExecSpec,
    stdin: &[u8],
    bound: usize,
) -> Result<CommandOutput, Failure> {
    let (id, mut streams) = engine.exec(container, spec).await?;
    // A command may close its input early; its exit code is what counts.
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
