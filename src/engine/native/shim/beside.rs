//! What runs beside a container's command: commands of the operator's and of bottler's own, and the helpers that copy files.
//!
//! Each is waited for here, whatever happens to its client: they are in the container's PID namespace, whose first process ends only
//! when nobody is left in it, not even a zombie.

use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::process::{await_ready, channel, spawn};
use super::reply::{failed, say, send};
use super::state::Shim;
use super::streams::{Reader, Writer, exit_code, next, open_streams};
use crate::engine::ErrorKind;
use crate::engine::native::cgroup;
use crate::engine::native::child::{self, Entry};
use crate::engine::native::protocol::{Frame, Reply, Task};

/// Runs something to its end, with a client's streams as its own.
pub(super) async fn run(
    shim: &Arc<Shim>,
    task: Task,
    mut from: impl AsyncRead + Unpin,
    to: &mut (impl AsyncWrite + Unpin),
) -> std::io::Result<()> {
    let started = *shim.started.borrow();
    let is_copy = !matches!(task, Task::Command(_));
    if started == is_copy {
        let why = if started { "files are copied this way only before it has run" } else { "it does not run" };
        return say(to, &failed(ErrorKind::Other, why)).await;
    }
    if shim.copying && !matches!(task, Task::Pack(_)) {
        return say(to, &failed(ErrorKind::Other, "it has ended")).await;
    }
    if cgroup::may_be_frozen(&shim.setup.groups) {
        return say(to, &failed(ErrorKind::Other, "it is paused")).await;
    }
    let tty = matches!(&task, Task::Command(process) if process.tty);
    // Its end of the channel is open as long as the shim lives: the process looks.
    let (mut child, terminal, _channel) = match start(shim, task, tty).await {
        Ok(started) => started,
        Err(error) => return say(to, &failed(ErrorKind::Other, format!("{error:#}"))).await,
    };
    let number = shim.beside.next_number();
    let terminal = terminal.map(Arc::new);
    if let Some(terminal) = &terminal {
        shim.beside.add(number, terminal.clone());
    }
    let end = async {
        say(to, &Reply::Exec(number)).await?;
        let (frames, mut outputs) = mpsc::channel(1);
        let pump = |stream, frame| pump(stream, frame, frames.clone());
        let input = open_streams(&mut child, terminal.as_deref(), pump)?;
        drop(frames);
        relay(&mut child, &mut outputs, input, &mut from, to).await
    };
    let end = end.await;
    shim.beside.remove(number);
    if end.is_err() {
        // The client has gone: nobody waits for what it started.
        let _ = child.kill().await;
    }
    end
}

type Started = (tokio::process::Child, Option<OwnedFd>, tokio::net::UnixStream);

/// Starts a process, with its terminal and the channel to it.
async fn start(shim: &Shim, task: Task, tty: bool) -> anyhow::Result<Started> {
    let (mut near, far) = channel()?;
    let entry = crate::wire::line(&Entry { first: shim.first, task })?;
    let streams = if tty { Stdio::null } else { Stdio::piped };
    let words = [child::ENTER, &far.as_raw_fd().to_string()];
    let mut child = spawn(&words, far, streams(), streams(), streams())?;
    let told = near.write_all(&entry).await;
    match await_ready(&near, || Ok(())).await.and_then(|terminal| told.map(|()| terminal).map_err(anyhow::Error::from))
    {
        Ok(terminal) => Ok((child, terminal, near)),
        Err(error) => {
            // It says why on its standard error. It must be waited for: the container's first process does not end before that.
            let _ = child.kill().await;
            let said = child.stderr.take().and_then(|stream| stream.into_owned_fd().ok()).map(std::fs::File::from);
            let said = said.and_then(|stream| std::io::read_to_string(stream).ok()).unwrap_or_default();
            Err(error.context(said.trim().to_owned()))
        }
    }
}

fn pump(mut from: Reader, frame: fn(Bytes) -> Frame, to: mpsc::Sender<Frame>) {
    crate::task::spawn(async move {
        while let Some(bytes) = next(&mut from).await {
            if to.send(frame(bytes)).await.is_err() {
                return;
            }
        }
    });
}

/// How long the streams of a process that has ended may be silent before they are left to what it started, which keeps them.
const SILENCE: Duration = Duration::from_millis(50);

/// Passes streams both ways until the process has ended and all that it wrote is passed on.
async fn relay(
    child: &mut tokio::process::Child,
    outputs: &mut mpsc::Receiver<Frame>,
    mut input: Option<Writer>,
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> std::io::Result<()> {
    let feed = async {
        while let (Some(bytes), Some(open)) = (next(from).await, &mut input) {
            if open.write_all(&bytes).await.is_err() || open.flush().await.is_err() {
                break;
            }
        }
        drop(input);
        std::future::pending().await
    };
    let pass = async {
        let mut ended = None;
        loop {
            tokio::select! {
                frame = outputs.recv() => match frame {
                    Some(frame) => send(to, &frame).await?,
                    None => break,
                },
                status = child.wait(), if ended.is_none() => ended = Some(status?),
                () = tokio::time::sleep(SILENCE), if ended.is_some() => break,
            }
        }
        let status = match ended {
            Some(status) => status,
            None => child.wait().await?,
        };
        send(to, &Frame::Exit(i32::try_from(exit_code(status)).unwrap_or(255))).await?;
        to.shutdown().await
    };
    tokio::select! {
        passed = pass => passed,
        never = feed => never,
    }
}
