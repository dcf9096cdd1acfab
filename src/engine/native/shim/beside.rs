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

use super::process::{Started, await_ready, channel, spawn};
use super::reply::{failed, say, send};
use super::state::Shim;
use super::streams::{Reader, Writer, exit_code, next, open_streams};
use crate::engine::ErrorKind;
use crate::engine::native::cgroup;
use crate::engine::native::child::{self, Entry};
use crate::engine::native::protocol::{Frame, Reply, Task};

/// How long a process may take to join the container: its engine waits longer for the answer.
const JOIN: Duration = Duration::from_secs(10);
/// How long one that is killed is waited for, to read why it failed. A frozen one does not end before it thaws.
const LAST: Duration = Duration::from_secs(2);

/// Runs something to its end, with a client's streams as its own. When the client has `gone`, it is killed, but for a command on a
/// terminal, which goes on.
pub(super) async fn run(
    shim: &Arc<Shim>,
    task: Task,
    mut from: impl AsyncRead + Unpin,
    to: &mut (impl AsyncWrite + Unpin),
    gone: impl Future<Output = ()>,
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
    let (Started { mut child, parent }, terminal, _channel) = match start(shim, task, tty).await {
        Ok(started) => started,
        Err((kind, why)) => return say(to, &failed(kind, why)).await,
    };
    let number = shim.beside.next_number();
    let terminal = terminal.map(Arc::new);
    if let Some(terminal) = &terminal {
        shim.beside.add(number, terminal.clone());
    }
    let (frames, mut outputs) = mpsc::channel(1);
    let end = async {
        let pump = |stream, frame| pump(stream, frame, frames.clone());
        let input = open_streams(&mut child, terminal.as_deref(), pump)?;
        drop(frames);
        // Afterwards: of a client that is gone by now, the command's terminal is read all the same.
        say(to, &Reply::Exec(number)).await?;
        relay(&mut child, &mut outputs, input, &mut from, to).await
    };
    let end = tokio::select! {
        end = end => end,
        () = gone => Err(std::io::ErrorKind::BrokenPipe.into()),
    };
    if end.is_err() {
        if terminal.is_some() {
            let unread = async { while outputs.recv().await.is_some() {} };
            let _ = tokio::join!(unread, child.wait());
        } else {
            // Nobody waits for what the client started.
            let _ = child.kill().await;
        }
    }
    shim.beside.remove(number);
    drop(parent);
    end
}

type Joined = (Started, Option<OwnedFd>, tokio::net::UnixStream);

/// Starts a process, with its terminal and the channel to it.
async fn start(shim: &Shim, task: Task, tty: bool) -> Result<Joined, (ErrorKind, String)> {
    let failed = |error: anyhow::Error| (ErrorKind::Other, format!("{error:#}"));
    let begun = async {
        let (near, far) = channel()?;
        let entry = crate::wire::line(&Entry { first: shim.first, task })?;
        let streams = if tty { Stdio::null } else { Stdio::piped };
        let words = [child::ENTER, &far.as_raw_fd().to_string(), &shim.users.word()];
        let namespace = Some(shim.parent.namespace.clone());
        anyhow::Ok((spawn(&words, far, [streams(), streams(), streams()], namespace).await?, near, entry))
    };
    let late = || {
        let why = "it did not join the container within 10 s: something in there may have stopped it (SIGSTOP)";
        (ErrorKind::Deadline, why.to_owned())
    };
    let until = tokio::time::Instant::now() + JOIN;
    let begun = tokio::time::timeout_at(until, begun).await.map_err(|_| late())?;
    let (started, mut near, entry) = begun.map_err(failed)?;
    let ready = async {
        let told = near.write_all(&entry).await;
        let terminal = await_ready(&near, || Ok(())).await?;
        told?;
        anyhow::Ok(terminal)
    };
    match tokio::time::timeout_at(until, ready).await {
        Ok(Ok(terminal)) => Ok((started, terminal, near)),
        Ok(Err(error)) => {
            let said = give_up(started).await;
            Err(failed(error.context(said)))
        }
        Err(_) => {
            give_up(started).await;
            Err(late())
        }
    }
}

/// Kills a process that did not become ready; what it wrote on its standard error, which says why.
async fn give_up(Started { mut child, parent }: Started) -> String {
    let _ = child.start_kill();
    if tokio::time::timeout(LAST, child.wait()).await.is_err() {
        // The container's first process does not end before it has been waited for.
        crate::task::spawn(async move {
            let _ = child.wait().await;
            drop(parent);
        });
        return String::new();
    }
    let said = child.stderr.take().and_then(|stream| stream.into_owned_fd().ok()).map(std::fs::File::from);
    said.and_then(|stream| std::io::read_to_string(stream).ok()).unwrap_or_default().trim().to_owned()
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
