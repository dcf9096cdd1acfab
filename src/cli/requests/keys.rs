//! The user's keys, one by one, and a terminal that passes them on as long as it is needed.

use std::io::{self, Read, Write};

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use tokio::sync::mpsc;

use super::model::Key;

/// Another screen, without the cursor; and back (ctlseqs, "The Alternate Screen Buffer").
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// The terminal: every key is passed on at once and not shown, but the keys of signals.
pub(super) struct Terminal(Termios);

impl Terminal {
    pub(super) fn enter() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut keys = before.clone();
        keys.local_flags.remove(LocalFlags::ECHO | LocalFlags::ICANON);
        tcsetattr(io::stdin(), SetArg::TCSANOW, &keys)?;
        io::stdout().write_all(ENTER.as_bytes())?;
        Ok(Self(before))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        let _ = io::stdout().write_all(LEAVE.as_bytes()).and_then(|()| io::stdout().flush());
        let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &self.0);
    }
}

/// The keys; the channel ends with standard input. The thread that reads is abandoned at the end.
pub(super) fn keys() -> mpsc::Receiver<Key> {
    let (sender, keys) = mpsc::channel(16);
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok(count @ 1..) = io::stdin().lock().read(&mut buffer) {
            for key in read(&buffer[..count]) {
                if sender.blocking_send(key).is_err() {
                    return;
                }
            }
        }
    });
    keys
}

/// The keys in what a terminal sent at once. Arrows are sequences; an Escape by itself is that key.
fn read(mut bytes: &[u8]) -> Vec<Key> {
    let mut keys = Vec::new();
    while let Some((&first, rest)) = bytes.split_first() {
        bytes = rest;
        match first {
            b'\x1b' => match rest {
                [b'[' | b'O', b'A', rest @ ..] => {
                    keys.push(Key::Up);
                    bytes = rest;
                }
                [b'[' | b'O', b'B', rest @ ..] => {
                    keys.push(Key::Down);
                    bytes = rest;
                }
                [] => keys.push(Key::Escape),
                // Another sequence, to its end.
                _ => {
                    let end = rest.iter().skip(1).position(|byte| (0x40..=0x7e).contains(byte));
                    bytes = end.map_or(&[][..], |end| &rest[end + 2..]);
                }
            },
            b'\r' | b'\n' => keys.push(Key::Enter),
            b' '..=b'~' => keys.push(Key::Char(char::from(first))),
            _ => {}
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_one_by_one_and_unknown_sequences_are_no_keys() {
        use Key::{Char, Down, Enter, Escape, Up};
        for (bytes, expected) in [
            (&b"t\r"[..], vec![Char('t'), Enter]),
            (b"\x1b", vec![Escape]),
            (b"\x1b[A\x1bOBq", vec![Up, Down, Char('q')]),
            (b"\x1b[200~a\x1b[1;5Cb", vec![Char('a'), Char('b')]),
            (b"\x1b[", vec![]),
            (b"\x00\x7f\xc3\xa4", vec![]),
        ] {
            assert_eq!(read(bytes), expected, "{bytes:?}");
        }
    }
}
