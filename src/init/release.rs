//! The release protocol: lines of JSON between the holder and init, over an exec's streams and init's socket.
//!
//! The holder requests the proof, and init responds with the probe's results. Then the holder sends what the agent
//! receives. Init stores all of it before the command starts; the socket is removed by then.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncRead;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::{place, program};
use crate::layout::agent::{BUNDLE_DIR, BUNDLE_FILE, CA_FILE, ENV_FILE, JAVA_STORE, OWN_BUNDLE, RUN_DIR};
use crate::probe::{ProbeResult, Targets, passed};
use crate::sidecar::stdio;
use crate::wire::{Reader, send};

/// Maximum size of a message, in bytes: a prompt and some files.
const MAX_MESSAGE: usize = 64 << 20;
/// The time limit for init's socket to appear after the container's start.
const APPEAR: Duration = Duration::from_secs(10);

/// How long the command waits for [`Request::Start`], of a holder that may be gone.
const START: Duration = Duration::from_secs(5);

/// A request of the holder.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Run the probe.
    Prove(Box<Targets>),
    /// Prepare the command, and start it after [`Request::Start`].
    Release(Box<Release>),
    /// The response to the release has arrived; the command may start.
    Start,
}

/// A response of init.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// The probe's results.
    Proof(Vec<ProbeResult>),
    /// Everything is in place; the command starts.
    Released,
    /// The image has not the command's program: where it was looked for.
    NoProgram(String),
    /// The request failed.
    Failed(String),
}

/// What the agent receives. Secrets are sent this way only, and are in no configuration.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// The command and its arguments.
    pub command: Vec<String>,
    /// The working directory.
    pub workdir: String,
    /// Environment variables in addition to the container's.
    pub env: BTreeMap<String, String>,
    /// Files, owned by the agent's user.
    pub files: Vec<File>,
    /// The bottle's CA certificate, in PEM.
    pub ca: Option<String>,
    /// The agent's home, if an earlier agent has left it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<String>,
}

/// A file to write.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// The absolute path.
    pub path: String,
    /// The content.
    pub content: String,
    /// The permission bits.
    pub mode: u32,
}

/// Serves one holder on init's socket until the release.
pub(super) async fn receive(prove: fn(&Targets) -> Vec<ProbeResult>) -> anyhow::Result<Release> {
    let path = Path::new(RUN_DIR).join("init");
    let listener = UnixListener::bind(&path).with_context(|| format!("listen on {}", path.display()))?;
    let (stream, _) = listener.accept().await?;
    drop(listener);
    std::fs::remove_file(&path)?;
    let (reader, mut writer) = stream.into_split();
    let mut reader = Reader::new(reader, MAX_MESSAGE);
    let mut tight = false;
    loop {
        let answer = match next(&mut reader).await? {
            Request::Prove(targets) => {
                let lines = crate::task::blocking(move || prove(&targets)).await?;
                tight = passed(&lines);
                Response::Proof(lines)
            }
            Request::Start => continue,
            Request::Release(_) if !tight => Response::Failed("the probe has not passed".into()),
            // The program may be one of the files.
            Request::Release(release) => match put(&release).map(|()| find(&release)) {
                Ok(Ok(())) => {
                    send(&mut writer, &Response::Released).await?;
                    // A short command would end, and its container with it, before the engine has passed the response on.
                    let _ = timeout(START, reader.value::<Request>()).await;
                    return Ok(*release);
                }
                Ok(Err(why)) => Response::NoProgram(why),
                Err(error) => Response::Failed(format!("{error:#}")),
            },
        };
        send(&mut writer, &answer).await?;
    }
}

/// Looks for the command's program.
fn find(release: &Release) -> Result<(), String> {
    let Some(program) = release.command.first() else { return Ok(()) };
    program::check(program, release.env.get("PATH").map(String::as_str), Path::new(&release.workdir))
}

async fn next(reader: &mut Reader<impl AsyncRead + Unpin>) -> anyhow::Result<Request> {
    reader.value().await.context("listen to the holder")?.context("the holder is gone")
}

fn put(release: &Release) -> anyhow::Result<()> {
    if let Some(ca) = &release.ca {
        put_certificates(ca)?;
    }
    let env = serde_json::to_string(&release.env)?;
    write(ENV_FILE, &env, 0o600)?;
    let left = release.left.as_deref();
    release.files.iter().try_for_each(|file| place::write(&file.path, file.content.as_bytes(), file.mode, left))
}

/// Writes the bottle's CA, and the image's own certificates with it, where programs look for them.
pub(super) fn put_certificates(ca: &str) -> anyhow::Result<()> {
    let own = std::fs::read_to_string(OWN_BUNDLE).unwrap_or_default();
    let all = format!("{own}\n{ca}");
    write(CA_FILE, ca, 0o644)?;
    write(BUNDLE_FILE, &all, 0o644)?;
    write(&format!("{BUNDLE_DIR}/ca-bundle.pem"), &all, 0o644)?;
    write(JAVA_STORE, super::java::store(&all), 0o644)
}

/// Writes a file into the folder in memory, which is new.
fn write(path: &str, content: impl AsRef<[u8]>, mode: u32) -> anyhow::Result<()> {
    place::write(path, content.as_ref(), mode, None)
}

/// `bottler ctl`, run by an exec: connects its standard streams to init's socket.
///
/// # Errors
/// Init does not listen, or a stream breaks.
pub async fn bridge() -> anyhow::Result<()> {
    let stream = timeout(APPEAR, appear()).await.context("init does not listen")?;
    // The response to a release is the last message; the holder keeps its end open until then.
    stdio::join(stream).await
}

/// Init binds its socket within a millisecond of its start, long before an exec connects; otherwise this retries.
async fn appear() -> UnixStream {
    loop {
        if let Ok(stream) = UnixStream::connect(Path::new(RUN_DIR).join("init")).await {
            return stream;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
