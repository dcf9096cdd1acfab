//! Relays bytes between two sockets. Once many have gone one way, the kernel moves them, and no byte is copied here
//! (splice(2)): a tunnel costs about a third less of the processor, and no buffer.
//!
//! What it may not do: use the last descriptors of a process, hold more of a peer that does not read than one pipe, or lose
//! bytes where the system cannot splice. gVisor's kernel can, but does not tell a waiting process that it may go on: there
//! everything is copied.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::LazyLock;

use futures_util::future::BoxFuture;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::socket::{Shutdown, shutdown};
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};

/// Buffer size while bytes are copied, in bytes.
const BUFFER: usize = 16 << 10;
/// How many bytes go one way before a pipe is made for them: most connections carry fewer, and need none.
const COPIED: u64 = 256 << 10;
/// How many bytes a pipe holds, if the system allows it.
const PIPE: i32 = 256 << 10;
/// File descriptors that pipes leave free.
const SPARE_DESCRIPTORS: u64 = 128;

/// The kernel version that gVisor reports in `/proc/version` (gVisor, `pkg/sentry/syscalls/linux`).
pub(crate) const GVISOR: &str = "Linux version 4.4.0 #1 SMP Sun Jan 10 15:06:54 PST 2016";
/// Whether bytes are spliced here.
static SPLICES: LazyLock<bool> =
    LazyLock::new(|| !std::fs::read_to_string("/proc/version").is_ok_and(|version| version.contains(GVISOR)));

/// A connected stream socket.
pub trait Socket: Send + Sync {
    /// Its descriptor.
    fn descriptor(&self) -> BorrowedFd<'_>;
    /// Waits until it can be read from or written to.
    fn ready(&self, interest: Interest) -> BoxFuture<'_, io::Result<()>>;
    /// Calls `with`, which uses the socket without waiting, and takes note if it would have to wait.
    ///
    /// # Errors
    /// Those of `with`.
    fn try_with(&self, interest: Interest, with: &mut dyn FnMut() -> io::Result<usize>) -> io::Result<usize>;
}

macro_rules! socket {
    ($stream:ty) => {
        impl Socket for $stream {
            fn descriptor(&self) -> BorrowedFd<'_> {
                self.as_fd()
            }

            fn ready(&self, interest: Interest) -> BoxFuture<'_, io::Result<()>> {
                Box::pin(async move { self.ready(interest).await.map(drop) })
            }

            fn try_with(&self, interest: Interest, with: &mut dyn FnMut() -> io::Result<usize>) -> io::Result<usize> {
                self.try_io(interest, with)
            }
        }
    };
}

socket!(TcpStream);
socket!(UnixStream);

/// Relays in both directions until both have ended, and returns how many bytes came from each side.
///
/// # Errors
/// One of the sockets fails; the other direction ends as well.
pub(crate) async fn relay(near: &dyn Socket, far: &dyn Socket) -> io::Result<(u64, u64)> {
    tokio::try_join!(one_way(near, far), one_way(far, near))
}

/// Relays until the end of the input, which it passes on.
async fn one_way(from: &dyn Socket, to: &dyn Socket) -> io::Result<u64> {
    let (mut carried, mut ended) = copy(from, to, COPIED).await?;
    if !ended && let Some(pipe) = Pipe::new() {
        let (spliced, is_end) = pipe.relay(from, to).await?;
        (carried, ended) = (carried + spliced, is_end);
    }
    if !ended {
        carried += copy(from, to, u64::MAX).await?.0;
    }
    // A peer that is gone already needs no end.
    let _ = shutdown(to.descriptor().as_raw_fd(), Shutdown::Write);
    Ok(carried)
}

/// Copies at least so many bytes, or until the end; returns how many, and whether it is the end.
async fn copy(from: &dyn Socket, to: &dyn Socket, least: u64) -> io::Result<(u64, bool)> {
    let (mut buffer, mut carried) = (vec![0; BUFFER], 0);
    while carried < least {
        let read = &mut || Ok(nix::unistd::read(from.descriptor(), &mut buffer)?);
        let length = when_ready(from, Interest::READABLE, read).await?;
        if length == 0 {
            return Ok((carried, true));
        }
        write_all(to, &buffer[..length]).await?;
        carried += length as u64;
    }
    Ok((carried, false))
}

async fn write_all(to: &dyn Socket, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let write = &mut || Ok(nix::unistd::write(to.descriptor(), bytes)?);
        let length = when_ready(to, Interest::WRITABLE, write).await?;
        bytes = &bytes[length..];
    }
    Ok(())
}

/// Repeats a call that does not wait, until it need not. It waits for readiness only where the call would: gVisor sends no second
/// event for an end that arrived together with data.
async fn when_ready(
    socket: &dyn Socket,
    interest: Interest,
    call: &mut (dyn FnMut() -> io::Result<usize> + Send),
) -> io::Result<usize> {
    loop {
        match socket.try_with(interest, call) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => socket.ready(interest).await?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// What the kernel moves bytes through.
struct Pipe {
    output: OwnedFd,
    input: OwnedFd,
}

impl Pipe {
    /// A pipe, if the process has descriptors to spare.
    fn new() -> Option<Self> {
        if !*SPLICES {
            return None;
        }
        let (output, input) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).ok()?;
        let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
        let highest = u64::try_from(output.as_raw_fd().max(input.as_raw_fd())).ok()?;
        // A user has so much room for large pipes, and then they stay as they are.
        let _ = fcntl(&input, FcntlArg::F_SETPIPE_SZ(PIPE));
        (highest + SPARE_DESCRIPTORS < limit).then_some(Self { output, input })
    }

    /// Relays until the end of the input, or until the system says that it cannot splice; nothing is in the pipe then.
    /// Returns how many bytes, and whether it is the end.
    async fn relay(&self, from: &dyn Socket, to: &dyn Socket) -> io::Result<(u64, bool)> {
        let mut carried = 0;
        loop {
            let fill = &mut || Ok(splice(from.descriptor(), self.input.as_fd(), PIPE.unsigned_abs() as usize)?);
            let length = match when_ready(from, Interest::READABLE, fill).await {
                Err(error) if cannot(&error) => return Ok((carried, false)),
                other => other?,
            };
            if length == 0 {
                return Ok((carried, true));
            }
            self.empty(to, length).await?;
            carried += length as u64;
        }
    }

    /// Writes what is in the pipe.
    async fn empty(&self, to: &dyn Socket, mut length: usize) -> io::Result<()> {
        while length > 0 {
            let drain = &mut || Ok(splice(self.output.as_fd(), to.descriptor(), length)?);
            match when_ready(to, Interest::WRITABLE, drain).await {
                Err(error) if cannot(&error) => {
                    let mut bytes = vec![0; length];
                    let read = nix::unistd::read(&self.output, &mut bytes)?;
                    write_all(to, &bytes[..read]).await?;
                    length -= read;
                }
                other => length -= other?,
            }
        }
        Ok(())
    }
}

fn splice(from: BorrowedFd<'_>, to: BorrowedFd<'_>, length: usize) -> nix::Result<usize> {
    nix::fcntl::splice(from, None, to, None, length, SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK)
}

/// Whether the system cannot splice these.
fn cannot(error: &io::Error) -> bool {
    let Some(code) = error.raw_os_error() else { return false };
    matches!(Errno::from_raw(code), Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP | Errno::EPERM | Errno::EBADF)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A connection over loopback.
    async fn tcp() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    fn bytes(length: usize, seed: u8) -> Vec<u8> {
        let mut state = u32::from(seed);
        let next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        std::iter::repeat_with(next).take(length).collect()
    }

    /// Sends the bytes and returns what arrives.
    async fn exchange(stream: impl AsyncRead + AsyncWrite, sent: Vec<u8>) -> Vec<u8> {
        let mut received = Vec::new();
        let (mut read, mut write) = tokio::io::split(stream);
        let outgoing = async {
            for piece in sent.chunks(70_000) {
                write.write_all(piece).await.unwrap();
            }
            write.shutdown().await.unwrap();
        };
        tokio::join!(outgoing, async { read.read_to_end(&mut received).await.unwrap() });
        received
    }

    /// Sends so many bytes each way through a relay from a Unix socket to a TCP connection, and checks what arrives.
    async fn sends(there: usize, back: usize) {
        let (client, near) = UnixStream::pair().unwrap();
        let (far, server) = tcp().await;
        let relayed = tokio::spawn(async move { relay(&near, &far).await });
        let (at_client, at_server) = tokio::join!(exchange(client, bytes(there, 1)), exchange(server, bytes(back, 2)));
        assert_eq!((at_client.len(), at_server.len()), (back, there));
        assert!(at_client == bytes(back, 2) && at_server == bytes(there, 1), "what arrives is what was sent");
        assert_eq!(relayed.await.unwrap().unwrap(), (there as u64, back as u64));
    }

    #[tokio::test]
    async fn everything_arrives_in_order_whether_it_is_copied_or_spliced() {
        for (there, back) in [(0, 0), (1, 300_000), (BUFFER, 0), (3 << 20, 5 << 20), (0, 2 << 20)] {
            sends(there, back).await;
        }
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_stops_the_sender() {
        let (client, near) = UnixStream::pair().unwrap();
        let (far, mut server) = tcp().await;
        let relayed = tokio::spawn(async move { relay(&near, &far).await });
        let mut sent = 0;
        let piece = bytes(64 << 10, 3);
        // Until nothing more goes in: then the sockets and one pipe are full.
        let wait = std::time::Duration::from_millis(200);
        while let Ok(written) = tokio::time::timeout(wait, client.writable()).await {
            written.unwrap();
            sent += client.try_write(&piece).unwrap_or_default();
        }
        assert!(sent < 64 << 20, "{sent}");
        drop(client);
        let mut received = Vec::new();
        server.read_to_end(&mut received).await.unwrap();
        assert_eq!(received.len(), sent);
        drop(server);
        assert_eq!(relayed.await.unwrap().unwrap().0, sent as u64);
    }

    #[tokio::test]
    async fn a_peer_that_is_gone_ends_both_directions() {
        let (mut client, near) = tcp().await;
        let (far, server) = tcp().await;
        let relayed = tokio::spawn(async move { relay(&near, &far).await });
        server.set_zero_linger().unwrap();
        drop(server);
        let piece = bytes(64 << 10, 4);
        while client.write_all(&piece).await.is_ok() {}
        assert!(relayed.await.unwrap().is_err());
    }

    #[tokio::test]
    async fn what_cannot_be_spliced_is_copied() {
        assert!(cannot(&Errno::EINVAL.into()) && !cannot(&Errno::EPIPE.into()));
        let pipe = Pipe::new().unwrap();
        let (client, near) = UnixStream::pair().unwrap();
        nix::unistd::write(&pipe.input, b"in the pipe").unwrap();
        pipe.empty(&near, 11).await.unwrap();
        let mut received = [0; 11];
        let (mut client, _near) = (client, near);
        client.read_exact(&mut received).await.unwrap();
        assert_eq!(&received, b"in the pipe");
    }
}
