//! `ctl`: a command to a running sidecar, over a socket in the sidecar's own memory. An exec of this executable in the
//! sidecar's container connects to it; the agent's container cannot see the socket.

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
/// Maximum length of a command, in bytes.
const MAX_COMMAND: usize = 4 << 20;
/// The time limit for a command to arrive.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait when accepting fails.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves commands, each acknowledged with a line. Does nothing if there is no folder for the socket.
///
/// # Errors
/// The socket cannot be created.
pub(super) fn serve<R: Role>(role: &Arc<R>) -> anyhow::Result<()> {
    let folder = Path::new(CTL_DIR);
    if !folder.is_dir() {
        return Ok(());
    }
    let path = folder.join(CTL_SOCKET);
    let listener = socket::listen(&path, socket::OWN)?;
    let role = role.clone();
    crate::task::spawn(async move {
        // One file descriptor is reserved for the operator, however many the agent uses.
        let mut reserved = File::open("/dev/null").ok();
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let role = role.clone();
                    // A client that sends nothing is disconnected.
                    crate::task::spawn(tokio::time::timeout(
                        PATIENCE,
                        async move { reply(stream, role.as_ref()).await },
                    ));
                }
                // Out of descriptors: the reserved one is freed for the next command.
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

/// Run by an exec: sends one command from standard input to the socket, and prints the acknowledgement.
///
/// # Errors
/// The sidecar does not listen, or a stream breaks.
pub async fn ask() -> anyhow::Result<()> {
    let stream =
        UnixStream::connect(Path::new(CTL_DIR).join(CTL_SOCKET)).await.context("the sidecar has no such socket")?;
    let (mut from, mut to) = stream.into_split();
    let command = Reader::new(tokio::io::stdin(), MAX_COMMAND).value::<serde_json::Value>().await?;
    send(&mut to, &command.context("no command came")?).await?;
    // Limits how many execs can wait for a sidecar that hangs.
    let answered = tokio::time::timeout(PATIENCE, tokio::io::copy(&mut from, &mut tokio::io::stdout())).await;
    answered.context("the sidecar does not answer")??;
    Ok(())
}
