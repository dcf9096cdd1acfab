//! What scripts ask of a running container, the agent's or a sidecar's: log, files, stop, pause.

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

/// Lines of a log where the script does not say.
const LOG_LINES: usize = 200;
/// Most of a log that is kept, in bytes.
const MAX_LOG: usize = 1 << 20;
/// How long a copy may take.
const COPY: Duration = Duration::from_mins(1);
/// How long a container may take to end by itself where the script does not say.
const PATIENCE: Duration = Duration::from_secs(5);

/// What `logs` takes.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogOptions {
    /// How many lines, the last ones; 200 when absent.
    pub lines: Option<usize>,
}

/// What `copy_in` takes.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CopyInOptions {
    /// Where; absolute. Its folders are made.
    pub path: String,
    /// Its permission bits in octal, as in `"0644"`, which is what it gets when absent.
    pub mode: Option<String>,
}

/// What `copy_out` takes.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CopyOutOptions {
    /// Which file; absolute.
    pub path: String,
}

/// What `stop` takes.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StopOptions {
    /// How long it may take to end by itself before it is killed; 5 s when absent.
    pub timeout: Option<Seconds>,
}

/// The last lines that a container wrote, to both streams, up to 1 MiB.
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

/// Writes a file in a running container, as the container's user: by its own helper, never by the engine's archive
/// call, which follows links that the agent may change meanwhile.
///
/// # Errors
/// The path is not absolute, the content too large, or the container's user may not write there.
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

/// Reads a file of a running container, as the container's user.
///
/// # Errors
/// It is no regular file, is larger than 16 MiB, or the container's user may not read it.
pub async fn copy_out(engine: &dyn Engine, id: &str, options: &CopyOutOptions) -> Result<Vec<u8>, Failure> {
    check_path("copy_out", &options.path)?;
    helper(engine, id, &["get", &options.path], &[]).await
}

/// Asks a container to end, and kills it when the time is over.
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
