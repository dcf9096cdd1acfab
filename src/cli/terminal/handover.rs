//! Gives the user's terminal to a program in a bottle: in raw mode while it runs, and restored however it ends.

use std::io::{self, IsTerminal, Read, Write};
use std::sync::OnceLock;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use nix::libc;
use nix::sys::termios::{LocalFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use tokio::io::AsyncWriteExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;

use super::detach::{DetachKeys, HELD, Keys};
use crate::engine::{Output, Streams, TerminalSize};
use crate::report::{Screen, leave_line_open};

/// Bytes that are typed at once, at most.
const TYPED: usize = 4096;

/// How the handover of a terminal ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Handover {
    /// The program has ended, or its stream has.
    Ended,
    /// The user detached.
    Detached,
}

/// Whether the user is at a terminal: both ways.
pub(in crate::cli) fn is_there() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

nix::ioctl_read_bad!(window_size, libc::TIOCGWINSZ, libc::winsize);

/// How large the terminal is.
#[expect(unsafe_code, reason = "an ioctl that fills a structure of ours")]
pub(in crate::cli) fn size() -> Option<TerminalSize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the structure lives as long as the call, and is the one that the call fills (tty_ioctl(4)).
    unsafe { window_size(libc::STDOUT_FILENO, &raw mut size) }.ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some(TerminalSize { width: size.ws_col, height: size.ws_row })
}

/// A terminal that passes every key on, as long as this lives.
struct RawTerminal {
    before: Option<Termios>,
    screen: Screen,
}

impl RawTerminal {
    fn enter() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(io::stdin(), SetArg::TCSANOW, &raw)?;
        Ok(Self { before: Some(before), screen: Screen::default() })
    }

    /// The screen as it was; keys do nothing, for now.
    fn end(mut self, handover: Handover) -> MutedTerminal {
        self.restore(handover)
    }

    fn restore(&mut self, handover: Handover) -> MutedTerminal {
        let mut out = io::stdout();
        // A terminal that is gone needs nothing back.
        let _ = out.write_all(self.screen.reset().as_bytes()).and_then(|()| out.flush());
        leave_line_open(self.screen.is_line_open());
        let before = self.before.take();
        if let Some(before) = &before {
            let mut mute = before.clone();
            mute.local_flags.remove(LocalFlags::ISIG | LocalFlags::ECHO | LocalFlags::ICANON);
            let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &mute);
        }
        MutedTerminal { before, handover }
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        if self.before.is_some() {
            drop(self.restore(Handover::Ended));
        }
    }
}

/// A terminal that shows output but ignores keys, so that one Ctrl-C too many does not hit the next command. Restored when
/// dropped.
pub(in crate::cli) struct MutedTerminal {
    before: Option<Termios>,
    /// How the handover ended.
    pub(in crate::cli) handover: Handover,
}

impl Drop for MutedTerminal {
    fn drop(&mut self) {
        // What was typed after a program's end was for the program; after the keys that leave, for the shell.
        let how = if self.handover == Handover::Ended { SetArg::TCSAFLUSH } else { SetArg::TCSADRAIN };
        if let Some(before) = &self.before {
            let _ = tcsetattr(io::stdin(), how, before);
        }
    }
}

/// Gives the terminal to a program until it ends or the user detaches with `keys`. `raw` passes all control sequences.
/// Returns the muted terminal, which the caller may keep for a while.
pub(in crate::cli) async fn give(
    streams: Streams,
    resize: impl Fn(TerminalSize) -> BoxFuture<'static, ()>,
    raw: bool,
    keys: DetachKeys,
) -> io::Result<MutedTerminal> {
    let Streams { mut output, mut input } = streams;
    let mut terminal = RawTerminal::enter()?;
    let mut held = Instant::now();
    let mut resized = signal(SignalKind::window_change())?;
    let mut typed = typed().lock().await;
    let mut keys = Keys::new(keys);
    let handover = loop {
        tokio::select! {
            piece = output.next() => match piece {
                Some(Ok(Output::Stdout(bytes) | Output::Stderr(bytes))) => {
                    let passed = terminal.screen.pass(&bytes);
                    show(if raw { &bytes } else { &passed })?;
                }
                Some(Err(_)) | None => break Handover::Ended,
            },
            _ = resized.recv() => {
                if let Some(size) = size() {
                    resize(size).await;
                }
            }
            () = tokio::time::sleep_until(held + HELD), if keys.holds() => {
                let _ = input.write_all(&keys.pass()).await;
                let _ = input.flush().await;
            }
            bytes = typed.recv() => {
                let Some(bytes) = bytes else { break Handover::Detached };
                let (on, detach) = keys.take(&bytes);
                held = Instant::now();
                // A program that has closed its input hears no more.
                let _ = input.write_all(&on).await;
                let _ = input.flush().await;
                if detach {
                    break Handover::Detached;
                }
            }
        }
    };
    Ok(terminal.end(handover))
}

fn show(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout();
    out.write_all(bytes)?;
    out.flush()
}

/// Typed bytes, read by a detached thread that starts at the first call.
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
