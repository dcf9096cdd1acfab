//! `ctl`: one command to a running sidecar of any role, over a socket in the sidecar's own memory. An exec of this executable in
//! the sidecar's container carries the command there; the agent's container does not see the socket.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::UnixStream;

use super::message::{Acknowledgement, CommandOutcome};
use super::role::{Role, carry_out};
use super::socket;
use crate::layout::sidecar::{CTL_DIR, CTL_SOCKET};
use crate::wire::{Reader, send};

/// The role's name on the command line.
pub const ROLE: &str = "ctl";
/// Longest command, in bytes.
const MAX_COMMAND: usize = 4 << 20;
/// How long a command may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait when nothing can be accepted.
const PAUSE: Duration = Duration::from_millis(50);

/// Listens for commands and acknowledges each with a line. Does nothing where there is no place for a socket.
///
/// # Errors
/// The socket cannot be made.
pub(super) fn serve<R: Role>(role: &Arc<R>) -> anyhow::Result<()> {
    let folder = Path::new(CTL_DIR);
    if !folder.is_dir() {
        return Ok(());
    }
    let path = folder.join(CTL_SOCKET);
    let listener = socket::listen(&path, socket::OWN)?;
    let role = role.clone();
    tokio::spawn(async move {
        // Whatever the agent has taken, one descriptor is an operator's.
        let mut reserved = File::open("/dev/null").ok();
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let role = role.clone();
                    // Whoever asks nothing is left alone after a while.
                    tokio::spawn(tokio::time::timeout(PATIENCE, async move { reply(stream, role.as_ref()).await }));
                }
                // There are none left: the next command gets it.
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

async fn reply<R: Role>(stream: UnixStream, role: &R) -> anyhow::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let acknowledged = match Reader::new(reader, MAX_COMMAND).value().await {
        Ok(Some(command)) => carry_out(role, command).await,
        Ok(None) => return Ok(()),
        Err(error) => Acknowledgement { n: 0, outcome: CommandOutcome::Refused(format!("read the command: {error}")) },
    };
    Ok(send(&mut writer, &acknowledged).await?)
}

/// Run by an exec: carries one command from standard input to the socket, and the acknowledgement back.
///
/// # Errors
/// The sidecar does not listen, or a stream breaks.
pub async fn ask() -> anyhow::Result<()> {
    let stream =
        UnixStream::connect(Path::new(CTL_DIR).join(CTL_SOCKET)).await.context("the sidecar has no such socket")?;
    let (mut from, mut to) = stream.into_split();
    let command = Reader::new(tokio::io::stdin(), MAX_COMMAND).value::<serde_json::Value>().await?;
    send(&mut to, &command.context("no command came")?).await?;
    // A sidecar that hangs gets no crowd of those who wait for it.
    let answered = tokio::time::timeout(PATIENCE, tokio::io::copy(&mut from, &mut tokio::io::stdout())).await;
    answered.context("the sidecar does not answer")??;
    Ok(())
}
