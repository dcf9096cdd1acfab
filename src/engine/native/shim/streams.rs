//! The streams of a process: what it writes goes into frames, for the log and for every client; what clients write goes to it.
//!
//! A client that does not read holds the process up, as on other engines: nothing that a sidecar says is dropped. It does not hold
//! the end up: once the process has ended, clients have a moment to take what is left. The log has it all.

use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest};
use tokio::process::Child;
use tokio::sync::{mpsc, watch};

use crate::engine::Output;
use crate::engine::native::log::{self, Log};
use crate::engine::native::plan::Plan;
use crate::engine::native::protocol::{Frame, MAX_FRAME};
use crate::sync::lock;

/// Frames that may be on their way to one client.
const QUEUE: usize = 16;

/// How long clients of a process that has ended may take for what it wrote last: two megabytes at most.
const GRACE: Duration = Duration::from_secs(2);

/// Where a container's output goes.
pub(super) struct Outputs(Arc<Shared>);

struct Shared {
    log: Mutex<Log>,
    clients: Mutex<Vec<mpsc::Sender<Frame>>>,
    /// Streams that are not at their end.
    open: watch::Sender<usize>,
    /// Whether clients are waited for no longer.
    hurry: watch::Sender<bool>,
}

/// A container's standard input; closed when its first client closes it, on a terminal never.
pub(super) struct Input {
    to: tokio::sync::Mutex<Option<Writer>>,
    tty: bool,
}

/// The streams of a container's first process, which has just been started.
///
/// # Errors
/// There is no log.
pub(super) fn of(
    runtime: &tokio::runtime::Runtime,
    mut child: Child,
    terminal: Option<&OwnedFd>,
    plan: &Plan,
) -> anyhow::Result<(Outputs, Input, Child)> {
    let _in_runtime = runtime.enter();
    let open = watch::Sender::new(0);
    let log = Mutex::new(Log::create(Path::new("."))?);
    let shared = Arc::new(Shared { log, clients: Mutex::default(), open, hurry: watch::Sender::new(false) });
    let outputs = Outputs(shared);
    let input = open_streams(&mut child, terminal, |stream, frame| outputs.pump(stream, frame))?;
    Ok((outputs, Input { to: tokio::sync::Mutex::new(input), tty: plan.process.tty }, child))
}

/// What a process reads, and what it writes.
pub(super) type Writer = Box<dyn AsyncWrite + Send + Unpin>;
pub(super) type Reader = Box<dyn AsyncRead + Send + Unpin>;

/// Has all that a process writes pumped, on its terminal or its pipes; what it reads, where that is open.
///
/// # Errors
/// The terminal cannot be used.
pub(super) fn open_streams(
    child: &mut Child,
    terminal: Option<&OwnedFd>,
    pump: impl Fn(Reader, fn(Bytes) -> Frame),
) -> std::io::Result<Option<Writer>> {
    if let Some(terminal) = terminal {
        pump(Box::new(Terminal::new(terminal.try_clone()?)?), Frame::Stdout);
        return Ok(Some(Box::new(Terminal::new(terminal.try_clone()?)?)));
    }
    if let Some(stream) = child.stdout.take() {
        pump(Box::new(stream), Frame::Stdout);
    }
    if let Some(stream) = child.stderr.take() {
        pump(Box::new(stream), Frame::Stderr);
    }
    Ok(child.stdin.take().map(|input| Box::new(input) as Writer))
}

impl Outputs {
    fn pump(&self, mut from: Reader, frame: fn(Bytes) -> Frame) {
        let shared = self.0.clone();
        shared.open.send_modify(|open| *open += 1);
        crate::task::spawn(async move {
            while let Some(bytes) = next(&mut from).await {
                shared.tell(frame(bytes)).await;
            }
            shared.open.send_modify(|open| *open -= 1);
        });
    }

    /// A client that is told all that comes from now on.
    pub(super) fn follow(&self) -> mpsc::Receiver<Frame> {
        self.follow_after(|| ()).1
    }

    /// The same, and before it what the log has: so many lines, or everything.
    pub(super) fn follow_log(&self, lines: Option<usize>) -> (Vec<Output>, mpsc::Receiver<Frame>) {
        self.follow_after(|| log::read(Path::new("."), lines))
    }

    fn follow_after<T>(&self, read: impl FnOnce() -> T) -> (T, mpsc::Receiver<Frame>) {
        // While the log is locked, nothing is written: there is neither a gap nor a repetition.
        let log = lock(&self.0.log);
        let before = read();
        let (to, from) = mpsc::channel(QUEUE);
        lock(&self.0.clients).push(to);
        drop(log);
        (before, from)
    }

    /// Waits until every stream of a process that has ended is at its end, and lets the clients see it.
    pub(super) async fn drained(&self) {
        let mut open = self.0.open.subscribe();
        if tokio::time::timeout(GRACE, open.wait_for(|open| *open == 0)).await.is_err() {
            self.0.hurry.send_replace(true);
            let _ = open.wait_for(|open| *open == 0).await;
        }
        lock(&self.0.clients).clear();
    }
}

impl Shared {
    async fn tell(&self, frame: Frame) {
        let clients = {
            let mut log = lock(&self.log);
            // A log that cannot be written loses lines; the container goes on, and its clients hear everything.
            let _ = log.append(&frame);
            lock(&self.clients).clone()
        };
        let mut gone = false;
        for client in &clients {
            let mut hurry = self.hurry.subscribe();
            gone |= tokio::select! {
                biased;
                sent = client.send(frame.clone()) => sent.is_err(),
                _ = hurry.wait_for(|hurry| *hurry) => true,
            };
        }
        if gone {
            lock(&self.clients).retain(|client| !client.is_closed());
        }
    }
}

impl Input {
    /// Passes on what a client writes, until its end.
    pub(super) async fn take(&self, from: &mut (impl AsyncRead + Unpin)) {
        while let Some(bytes) = next(from).await {
            let mut to = self.to.lock().await;
            let Some(open) = to.as_mut() else { return };
            if open.write_all(&bytes).await.is_err() || open.flush().await.is_err() {
                *to = None;
            }
        }
        if !self.tty {
            *self.to.lock().await = None;
        }
    }
}

/// The next bytes of a stream; `None` at its end, and where it breaks, which a terminal does without a near end.
pub(super) async fn next(from: &mut (impl AsyncRead + Unpin)) -> Option<Bytes> {
    let mut buffer = BytesMut::with_capacity(MAX_FRAME);
    let room = &mut bytes::BufMut::limit(&mut buffer, MAX_FRAME);
    match from.read_buf(room).await {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(buffer.freeze()),
    }
}

/// The exit code of a process, as shells count signals.
pub(super) fn exit_code(status: ExitStatus) -> i64 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(255).into()
}

/// Has a descriptor watched.
pub(super) fn register(descriptor: OwnedFd, interest: Interest) -> std::io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` keeps its descriptor open, and the same one, as long as it lives.
    #[expect(unsafe_code, reason = "tokio asks for that promise")]
    let registered = unsafe { AsyncFd::register_with_interest(descriptor, interest) };
    registered.map_err(Into::into)
}

/// The far end of a terminal, without blocking this thread.
pub(super) struct Terminal(AsyncFd<OwnedFd>);

impl Terminal {
    pub(super) fn new(far: OwnedFd) -> std::io::Result<Self> {
        rustix::io::ioctl_fionbio(&far, true)?;
        Ok(Self(register(far, Interest::READABLE | Interest::WRITABLE)?))
    }
}

impl AsyncRead for Terminal {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        loop {
            let mut ready = std::task::ready!(self.0.poll_read_ready(context))?;
            let read = ready.try_io(|far| Ok(rustix::io::read(far, buffer.initialize_unfilled())?));
            if let Ok(read) = read {
                return std::task::Poll::Ready(read.map(|count| buffer.advance(count)));
            }
        }
    }
}

impl AsyncWrite for Terminal {
    fn poll_write(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        loop {
            let mut ready = std::task::ready!(self.0.poll_write_ready(context))?;
            if let Ok(written) = ready.try_io(|far| Ok(rustix::io::write(far, bytes)?)) {
                return std::task::Poll::Ready(written);
            }
        }
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}
