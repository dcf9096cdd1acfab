//! The user's terminal, given to a program in a bottle: raw while that runs, and put back however it ends.

use std::io::{self, IsTerminal, Read, Write};
use std::sync::OnceLock;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use nix::libc;
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use tokio::io::AsyncWriteExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Mutex, mpsc};

use crate::engine::{Output, Streams, TerminalSize};
use crate::report::Screen;

/// Leaves without ending anything: Docker's keys.
const DETACH: [u8; 2] = [0x10, 0x11];
/// Bytes that are typed at once, at most.
const TYPED: usize = 4096;

/// How a terminal was given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Given {
    /// The program has ended, or its stream has.
    Ended,
    /// The user has left.
    Detached,
}

/// Whether the user is at a terminal: both ways.
pub(super) fn is_there() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

nix::ioctl_read_bad!(window_size, libc::TIOCGWINSZ, libc::winsize);

/// How large the terminal is.
#[expect(unsafe_code, reason = "an ioctl that fills a structure of ours")]
pub(super) fn size() -> Option<TerminalSize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the structure lives as long as the call, and is the one that the call fills (tty_ioctl(4)).
    unsafe { window_size(libc::STDOUT_FILENO, &raw mut size) }.ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some(TerminalSize { width: size.ws_col, height: size.ws_row })
}

/// A terminal that passes every key on, as long as this lives.
struct Raw {
    before: Termios,
    screen: Screen,
}

impl Raw {
    fn enter() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(io::stdin(), SetArg::TCSANOW, &raw)?;
        Ok(Self { before, screen: Screen::default() })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let mut out = io::stdout();
        // A terminal that is gone needs nothing back.
        let _ = out.write_all(self.screen.reset().as_bytes()).and_then(|()| out.flush());
        let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &self.before);
    }
}

/// Gives the terminal to a program until that ends or the user leaves. `raw` lifts the limits on what it may do to it.
pub(super) async fn give(
    streams: Streams,
    resize: impl Fn(TerminalSize) -> BoxFuture<'static, ()>,
    raw: bool,
) -> io::Result<Given> {
    let Streams { mut output, mut input } = streams;
    let mut terminal = Raw::enter()?;
    let mut resized = signal(SignalKind::window_change())?;
    let mut typed = typed().lock().await;
    let mut keys = Keys::default();
    let given = loop {
        tokio::select! {
            piece = output.next() => match piece {
                Some(Ok(Output::Stdout(bytes) | Output::Stderr(bytes))) => {
                    let passed = terminal.screen.pass(&bytes);
                    show(if raw { &bytes } else { &passed })?;
                }
                Some(Err(_)) | None => break Given::Ended,
            },
            _ = resized.recv() => {
                if let Some(size) = size() {
                    resize(size).await;
                }
            }
            bytes = typed.recv() => {
                let Some(bytes) = bytes else { break Given::Detached };
                let (on, detach) = keys.take(&bytes);
                // A program that has closed its input hears no more.
                let _ = input.write_all(&on).await;
                let _ = input.flush().await;
                if detach {
                    break Given::Detached;
                }
            }
        }
    };
    drop(terminal);
    Ok(given)
}

fn show(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout();
    out.write_all(bytes)?;
    out.flush()
}

/// What is typed, read by a thread of its own from the first time on: nobody waits for it at the end.
fn typed() -> &'static Mutex<mpsc::Receiver<Vec<u8>>> {
    static TYPED_BYTES: OnceLock<Mutex<mpsc::Receiver<Vec<u8>>>> = OnceLock::new();
    TYPED_BYTES.get_or_init(|| {
        let (sender, receiver) = mpsc::channel(16);
        std::thread::spawn(move || {
            let mut bytes = [0; TYPED];
            while let Ok(count @ 1..) = io::stdin().read(&mut bytes) {
                if sender.blocking_send(bytes[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Mutex::new(receiver)
    })
}

/// Looks for the keys that leave.
#[derive(Default)]
struct Keys {
    /// How many of them have been typed.
    begun: usize,
}

impl Keys {
    /// What goes on to the program, and whether the user leaves. The first of the keys is held back until the next one.
    fn take(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut on = Vec::with_capacity(typed.len() + 1);
        for &byte in typed {
            if byte == DETACH[self.begun] {
                self.begun += 1;
                if self.begun == DETACH.len() {
                    self.begun = 0;
                    return (on, true);
                }
                continue;
            }
            on.extend_from_slice(&DETACH[..self.begun]);
            self.begun = 0;
            if byte == DETACH[0] {
                self.begun = 1;
            } else {
                on.push(byte);
            }
        }
        (on, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_both_keys_together_leave() {
        let mut keys = Keys::default();
        assert_eq!(keys.take(b"ab"), (b"ab".to_vec(), false));
        assert_eq!(keys.take(b"\x10"), (b"".to_vec(), false));
        assert_eq!(keys.take(b"x"), (b"\x10x".to_vec(), false));
        assert_eq!(keys.take(b"\x10\x10"), (b"\x10".to_vec(), false));
        assert_eq!(keys.take(b"\x11rest"), (b"".to_vec(), true));
        assert_eq!(keys.take(b"\x11"), (b"\x11".to_vec(), false));
    }
}
