//! A client of a shim: its request, the answer, and the streams that may follow.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, Interest};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::reply::{failed, say, send};
use super::state::Shim;
use super::streams::register;
use crate::engine::native::child::GO;
use crate::engine::native::protocol::{Frame, MAX_LINE, Reply, Request};
use crate::engine::{ErrorKind, Output, TerminalSize};
use crate::sync::lock;

/// Serves a client to its end.
pub(super) async fn serve(shim: Arc<Shim>, stream: UnixStream) {
    // Where there is no descriptor left for it, a client's end is seen when it is written to.
    let connection = stream.as_fd().try_clone_to_owned();
    let (from, mut to) = stream.into_split();
    let mut from = BufReader::new(from);
    let Some(request) = request(&mut from).await else { return };
    // Whoever breaks off is not answered.
    let _ = answer(&shim, request, from, &mut to, closed(connection)).await;
}

/// Resolves when the other end of a connection has closed both directions.
async fn closed(connection: std::io::Result<OwnedFd>) {
    // Registered apart from the streams: what is cleared here, they do not miss.
    let watched = connection.and_then(|connection| register(connection, Interest::WRITABLE));
    if let Ok(watched) = watched {
        while let Ok(mut ready) = watched.ready(Interest::WRITABLE).await {
            if ready.ready().is_write_closed() {
                return;
            }
            ready.clear_ready();
        }
    }
    std::future::pending::<()>().await;
}

async fn request(from: &mut BufReader<tokio::net::unix::OwnedReadHalf>) -> Option<Request> {
    use tokio::io::AsyncBufReadExt;
    let mut line = Vec::new();
    let mut bounded = from.take(MAX_LINE as u64);
    bounded.read_until(b'\n', &mut line).await.ok()?;
    serde_json::from_slice(&line).ok()
}

async fn answer(
    shim: &Arc<Shim>,
    request: Request,
    mut from: BufReader<tokio::net::unix::OwnedReadHalf>,
    to: &mut (impl AsyncWrite + Unpin),
    gone: impl Future<Output = ()>,
) -> std::io::Result<()> {
    match request {
        Request::Start => {
            let reply = start(shim).await;
            say(to, &reply).await
        }
        Request::Wait => {
            shim.waiting.send_modify(|count| *count += 1);
            let mut ended = shim.ended.subscribe();
            let end = ended.wait_for(Option::is_some).await.ok().and_then(|end| *end);
            let told = match end {
                Some(end) => say(to, &Reply::Ended(end)).await,
                None => Ok(()),
            };
            shim.waiting.send_modify(|count| *count -= 1);
            told
        }
        Request::Attach => {
            let frames = shim.outputs.follow();
            say(to, &Reply::Done).await?;
            let input = shim.input.take(&mut from);
            let (copied, ()) = tokio::join!(copy(frames, to), input);
            copied
        }
        Request::Logs { lines, follow } => {
            let (before, frames) = shim.outputs.follow_log(lines);
            say(to, &Reply::Done).await?;
            for piece in before {
                write(to, piece).await?;
            }
            if follow { copy(frames, to).await } else { Ok(()) }
        }
        Request::Signal(number) => {
            let signal = nix::sys::signal::Signal::try_from(number).ok();
            if signal == Some(nix::sys::signal::Signal::SIGKILL) {
                shim.lifeline.end(&shim.setup.groups);
            } else {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(shim.first), signal);
            }
            say(to, &Reply::Done).await
        }
        Request::Resize(size) => {
            let reply = resize(shim.terminal.as_ref(), size);
            say(to, &reply).await
        }
        Request::ResizeExec(number, size) => {
            let reply = resize(shim.beside.find(number).as_deref(), size);
            say(to, &reply).await
        }
        Request::State => {
            let started = *shim.started.borrow();
            say(to, &Reply::State { started }).await
        }
        Request::Exec(task) => super::beside::run(shim, task, from, to, gone).await,
    }
}

/// Lets the first process become the command; the answer is whether it has.
async fn start(shim: &Shim) -> Reply {
    if shim.copying {
        return failed(ErrorKind::Other, "it has ended, and files are being copied out of it");
    }
    if shim.setup.plan.never_starts {
        return failed(ErrorKind::Other, "it was made to copy files only, and without bounds");
    }
    let Some(mut channel) = lock(&shim.go).take() else { return Reply::Done };
    let mut why = String::new();
    let told = async {
        channel.write_all(&[GO]).await?;
        // The exec closes the other end.
        channel.read_to_string(&mut why).await
    };
    match told.await {
        Ok(0) => {
            shim.started.send_replace(true);
            Reply::Done
        }
        Ok(_) => failed(ErrorKind::Other, why),
        Err(error) => failed(ErrorKind::Other, error.to_string()),
    }
}

fn resize(terminal: Option<&impl AsFd>, size: TerminalSize) -> Reply {
    let Some(terminal) = terminal else { return failed(ErrorKind::Other, "it is not on a terminal") };
    let size = rustix::termios::Winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
    match rustix::termios::tcsetwinsize(terminal, size) {
        Ok(()) => Reply::Done,
        Err(error) => failed(ErrorKind::Other, error.to_string()),
    }
}

/// Sends frames until there are no more, or the client has gone.
async fn copy(mut frames: mpsc::Receiver<Frame>, to: &mut (impl AsyncWrite + Unpin)) -> std::io::Result<()> {
    while let Some(frame) = frames.recv().await {
        send(to, &frame).await?;
    }
    to.shutdown().await
}

async fn write(to: &mut (impl AsyncWrite + Unpin), piece: Output) -> std::io::Result<()> {
    let (make, mut bytes): (fn(bytes::Bytes) -> Frame, _) = match piece {
        Output::Stdout(bytes) => (Frame::Stdout, bytes),
        Output::Stderr(bytes) => (Frame::Stderr, bytes),
    };
    while !bytes.is_empty() {
        let piece = bytes.split_to(bytes.len().min(crate::engine::native::protocol::MAX_FRAME));
        send(to, &make(piece)).await?;
    }
    Ok(())
}
