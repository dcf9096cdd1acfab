//! `ctl`: what an operator asks a running sidecar, over a socket in the sidecar's own memory. An exec of this executable in
//! the sidecar's container carries the question there; the agent's container does not see the socket.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tokio::net::{UnixListener, UnixStream};

use super::Applied;
use crate::layout::sidecar::{CTL_DIR, CTL_SOCKET};
use crate::policy::Enforced;
use crate::wire::{Reader, send};

/// The role's name on the command line.
pub const ROLE: &str = "ctl";
/// Longest question, in bytes.
const MAX_QUESTION: usize = 4 << 20;
/// How long a question may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait when nothing can be accepted.
const PAUSE: Duration = Duration::from_millis(50);

/// What is asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// What it has done so far.
    Stats,
    /// To enforce a policy from now on. Asked where its standard input has ended with a connection.
    Enforce(Box<Enforced>),
    /// To tell what was counted and not told yet.
    Flush,
}

/// What is answered.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer<S> {
    /// What it has done so far.
    Stats(S),
    /// It is done.
    Done,
    /// What became of the policy.
    Applied(Applied),
    /// The question cannot be read.
    Failed(String),
}

/// Listens for questions and answers each with a line. Does nothing where there is no place for a socket.
///
/// # Errors
/// The socket cannot be made.
pub(super) fn serve<S: Serialize + Send + Sync>(
    answer: impl Fn(Question) -> Answer<S> + Clone + Send + 'static,
) -> anyhow::Result<()> {
    let folder = Path::new(CTL_DIR);
    if !folder.is_dir() {
        return Ok(());
    }
    let path = folder.join(CTL_SOCKET);
    let listener = UnixListener::bind(&path).with_context(|| format!("listen on {}", path.display()))?;
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600))?;
    tokio::spawn(async move {
        // Whatever the agent has taken, one descriptor is an operator's.
        let mut reserved = File::open("/dev/null").ok();
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let answer = answer.clone();
                    // Whoever asks nothing is left alone after a while.
                    tokio::spawn(tokio::time::timeout(PATIENCE, async move { reply(stream, answer).await }));
                }
                // There are none left: the next question gets it.
                Err(_) if reserved.is_some() => {
                    reserved = None;
                    continue;
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
            reserved = reserved.or_else(|| File::open("/dev/null").ok());
        }
    });
    Ok(())
}

async fn reply<S: Serialize>(stream: UnixStream, answer: impl Fn(Question) -> Answer<S>) -> anyhow::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let answer = match Reader::new(reader, MAX_QUESTION).value().await {
        Ok(Some(question)) => answer(question),
        Ok(None) => return Ok(()),
        Err(error) => Answer::Failed(format!("read the question: {error}")),
    };
    Ok(send(&mut writer, &answer).await?)
}

/// Run by an exec: carries one question from standard input to the socket, and the answer back.
///
/// # Errors
/// The sidecar does not listen, or a stream breaks.
pub async fn ask() -> anyhow::Result<()> {
    let stream =
        UnixStream::connect(Path::new(CTL_DIR).join(CTL_SOCKET)).await.context("the sidecar has no such socket")?;
    let (mut from, mut to) = stream.into_split();
    let question = Reader::new(tokio::io::stdin(), MAX_QUESTION).value::<serde_json::Value>().await?;
    send(&mut to, &question.context("nothing was asked")?).await?;
    // A sidecar that hangs gets no crowd of those who wait for it.
    let answered = tokio::time::timeout(PATIENCE, tokio::io::copy(&mut from, &mut tokio::io::stdout())).await;
    answered.context("the sidecar does not answer")??;
    Ok(())
}
