//! Operations on a running container, the agent's or a sidecar's: logs, files, stop, pause.

use std::time::Duration;

use futures_util::StreamExt;
use schemars::JsonSchema;
use serde::Deserialize;

use super::exec::run_to_end;
use super::name::is_absolute;
use super::seconds::Seconds;
use crate::engine::{Engine, ExecSpec, Output};
use crate::init::files;
use crate::layout::EXECUTABLE;
use crate::session::{Class, Failure};

/// The default number of log lines.
const LOG_LINES: usize = 200;
/// Maximum size of a log, in bytes.
const MAX_LOG: usize = 1 << 20;
/// How long a copy may take.
const COPY: Duration = Duration::from_mins(1);
/// How long a container may take to end by default.
const PATIENCE: Duration = Duration::from_secs(5);

/// The options of `logs`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogOptions {
    /// How many lines, from the end; 200 by default.
    pub lines: Option<usize>,
}

/// The options of `copy_in`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CopyInOptions {
    /// The absolute path. Missing parent folders are created.
    pub path: String,
    /// The permission bits in octal, such as `"0644"`, which is the default.
    pub mode: Option<String>,
}

/// The options of `copy_out`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CopyOutOptions {
    /// The absolute path of the file.
    pub path: String,
}

/// The options of `stop`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StopOptions {
    /// How long it may take to end by itself before it is killed; 5 s by default.
    pub timeout: Option<Seconds>,
}

/// The last lines of a container's output, both streams together, up to 1 MiB.
///
/// # Errors
/// The engine refuses.
pub async fn logs(engine: &dyn Engine, id: &str, options: &LogOptions) -> Result<String, Failure> {
    let mut pieces = engine.container_logs(id, Some(options.lines.unwrap_or(LOG_LINES)), false).await?;
    let mut text = Vec::new();
    while let Some(piece) = pieces.next().await {
        let (Output::Stdout(bytes) | Output::Stderr(bytes)) = piece?;
        text.extend_from_slice(&bytes[..bytes.len().min(MAX_LOG - text.len())]);
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Writes a file inside a running container, as the container's user. This uses bottler's own helper, because the
/// engine's archive call follows links that the agent may change meanwhile.
///
/// # Errors
/// The path is not absolute, the content is too large, or the container's user may not write there.
pub async fn copy_in(engine: &dyn Engine, id: &str, options: &CopyInOptions, content: &[u8]) -> Result<(), Failure> {
    let mode = options.mode.as_deref().unwrap_or("0644");
    check_path("copy_in", &options.path)?;
    if content.len() > files::MAX_FILE {
        return Err(Failure::new(
            Class::Input,
            format!("copy_in {}: {} bytes are more than {}", options.path, content.len(), files::MAX_FILE),
        ));
    }
    helper(engine, id, &["put", &options.path, mode], content).await.map(drop)
}

/// Reads a file inside a running container, as the container's user.
///
/// # Errors
/// It is not a regular file, is larger than 16 MiB, or the container's user may not read it.
pub async fn copy_out(engine: &dyn Engine, id: &str, options: &CopyOutOptions) -> Result<Vec<u8>, Failure> {
    check_path("copy_out", &options.path)?;
    helper(engine, id, &["get", &options.path], &[]).await
}

/// Asks a container to end, and kills it after the timeout.
///
/// # Errors
/// The engine refuses.
pub async fn stop(engine: &dyn Engine, id: &str, options: &StopOptions) -> Result<(), Failure> {
    let patience = options.timeout.as_ref().map_or(Ok(PATIENCE), |timeout| timeout.duration("stop"))?;
    Ok(engine.container_stop(id, patience).await?)
}

fn check_path(what: &str, path: &str) -> Result<(), Failure> {
    if is_absolute(path) {
        Ok(())
    } else {
        Err(Failure::new(Class::Input, format!("{what}: {path:?} is not an absolute path")))
    }
}

async fn helper(engine: &dyn Engine, id: &str, words: &[&str], input: &[u8]) -> Result<Vec<u8>, Failure> {
    let command = [EXECUTABLE, files::ROLE].iter().chain(words).map(|&word| word.to_owned()).collect();
    let spec = ExecSpec::plain(command);
    let what = format!("{} {}", if words[0] == "put" { "copy_in" } else { "copy_out" }, words[1]);
    let work = run_to_end(engine, id, &spec, input, files::MAX_FILE);
    let late = |_| Failure::new(Class::Operation, format!("{what}: not done within {} s", COPY.as_secs()));
    let ran = tokio::time::timeout(COPY, work).await.map_err(late)??;
    if ran.exit_code == 0 {
        return Ok(ran.stdout);
    }
    let why = String::from_utf8_lossy(&ran.stderr).trim().trim_start_matches("bottler: ").to_owned();
    Err(Failure::new(Class::Operation, format!("{what}: {why}")))
}
