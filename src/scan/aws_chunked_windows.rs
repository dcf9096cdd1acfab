//! An `aws-chunked` body that is scanned while it arrives. The payload is scanned as one text, without the framing
//! between its chunks. The original bytes are released once their payload was scanned. Like [`super::Windows`], this
//! only says what to scan, so that the scan can run elsewhere.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::aws_chunked::{Deframer, Part};
use super::encoding::DecodeError;
use super::scanner::Scanner;
use super::windows::{HELD, WINDOW, aligned};

/// The state of one body.
pub struct AwsChunkedWindows {
    deframer: Deframer,
    window: usize,
    held: usize,
    /// Payload that was not released yet.
    payload: BytesMut,
    /// Framing lines that were not scanned yet.
    lines: Vec<u8>,
    /// Input that was not released yet.
    queue: BytesMut,
    /// The end of each payload part in the queue, as offsets in the body and in the payload.
    ends: VecDeque<(usize, usize)>,
    came: usize,
    left: usize,
    carried: usize,
    passed: usize,
    /// How much input there was when the last window was returned.
    known: usize,
}

impl AwsChunkedWindows {
    /// Starts a body.
    pub fn new(scanner: &Scanner) -> Self {
        Self {
            deframer: Deframer::default(),
            window: WINDOW,
            held: HELD.max(scanner.longest_form()),
            payload: BytesMut::new(),
            lines: Vec::new(),
            queue: BytesMut::new(),
            ends: VecDeque::new(),
            came: 0,
            left: 0,
            carried: 0,
            passed: 0,
            known: 0,
        }
    }

    /// Adds input.
    ///
    /// # Errors
    /// The framing is malformed.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), DecodeError> {
        for part in self.deframer.push(piece)? {
            match part {
                Part::Payload(range) => {
                    self.payload.extend_from_slice(&piece[range.clone()]);
                    self.carried += range.len();
                    self.ends.push_back((self.came + range.end, self.carried));
                }
                Part::Line(_, line) => self.lines.extend_from_slice(&line),
            }
        }
        self.came += piece.len();
        self.queue.extend_from_slice(piece);
        Ok(())
    }

    /// The next payload window and the framing lines to scan, if enough has arrived. `end` says that the input is
    /// complete.
    ///
    /// # Errors
    /// The body is incomplete.
    pub fn offer(&mut self, end: bool) -> Result<Option<(Bytes, Bytes)>, DecodeError> {
        if end {
            let line = self.deframer.end()?;
            self.lines.extend_from_slice(&line);
        } else if self.came - self.known < self.window {
            return Ok(None);
        }
        self.known = self.came;
        Ok(Some((self.payload.split().freeze(), std::mem::take(&mut self.lines).into())))
    }

    /// Releases what was scanned without a finding.
    pub fn accept(&mut self, mut window: Bytes, end: bool) -> Bytes {
        if end {
            return self.queue.split().freeze();
        }
        let held = window.split_off(aligned(&window, window.len().saturating_sub(self.held)));
        self.passed += window.len();
        self.payload = BytesMut::from(held);
        let mut to = self.left;
        while let Some(&(end, carried)) = self.ends.front() {
            if carried > self.passed {
                // A part may have been released partially; the rest is held back.
                to = to.max(end.saturating_sub(carried - self.passed).min(end));
                break;
            }
            to = end;
            self.ends.pop_front();
        }
        let leaves = self.queue.split_to(to - self.left).freeze();
        self.left = to;
        leaves
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::scan::{Actions, Dlp, Rules, Scanner};

    const SECRET: &str = "correct-horse-battery-staple";

    fn frame(text: &str, size: usize, trailer: &str) -> Vec<u8> {
        let mut body = Vec::new();
        for chunk in text.as_bytes().chunks(size) {
            body.extend_from_slice(format!("{:x};chunk-signature=00\r\n", chunk.len()).as_bytes());
            body.extend_from_slice(chunk);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(format!("0\r\n{trailer}\r\n\r\n").as_bytes());
        body
    }

    fn run(body: &[u8], size: usize) -> (Vec<u8>, bool) {
        let actions = Arc::new(Actions::new(&Dlp::default()));
        let scanner = Arc::new(Scanner::new(&[SECRET.to_owned()], Arc::new(Rules::none()), actions));
        let mut framed =
            AwsChunkedWindows { window: 3 * size, held: scanner.longest_form(), ..AwsChunkedWindows::new(&scanner) };
        let mut left = Vec::new();
        for (piece, end) in body.chunks(size).map(|piece| (piece, false)).chain([(&b""[..], true)]) {
            framed.push(piece).unwrap();
            let Some((window, lines)) = framed.offer(end).unwrap() else { continue };
            if scanner.scan_unbounded(&window).or_else(|| scanner.scan_unbounded(&lines)).is_some() {
                return (left, true);
            }
            left.extend_from_slice(&framed.accept(window, end));
        }
        (left, false)
    }

    proptest! {
        #[test]
        fn promise_09_a_secret_over_several_chunks_does_not_leave(
            before in "[a-z ]{0,40}", after in "[a-z ]{0,40}", chunk in 1_usize..60, piece in 1_usize..60,
        ) {
            let (left, found) = run(&frame(&format!("{before}{SECRET}{after}"), chunk, "x-a:b"), piece);
            prop_assert!(found);
            let plain: Vec<u8> = left.into_iter().filter(u8::is_ascii_lowercase).collect();
            prop_assert!(!String::from_utf8(plain).unwrap().contains("horsebatterystap"));
        }

        #[test]
        fn what_holds_none_leaves_as_it_came(text in "[a-z \r\n-]{0,200}", chunk in 1_usize..60, piece in 1_usize..60) {
            let body = frame(&text, chunk, "x-a:b");
            prop_assert_eq!(run(&body, piece), (body.clone(), false));
        }

        #[test]
        fn what_was_looked_at_leaves_but_for_what_is_held(chunk in 1_usize..6000, piece in 1_usize..6000) {
            let actions = Arc::new(Actions::new(&Dlp::default()));
            let scanner = Scanner::new(&[SECRET.to_owned()], Arc::new(Rules::none()), actions);
            let (window, held) = (500, 200);
            let mut framed = AwsChunkedWindows { window, held, ..AwsChunkedWindows::new(&scanner) };
            // No letter of the payload is in the framing.
            let (body, mut left, mut offers) = (frame(&"z".repeat(5000), chunk, "x-a:b"), Vec::new(), 0);
            let payload = |body: &[u8]| memchr::memchr_iter(b'z', body).count();
            let mut came = 0;
            for piece in body.chunks(piece) {
                framed.push(piece).unwrap();
                came += payload(piece);
                if let Some((window, _)) = framed.offer(false).unwrap() {
                    offers += 1;
                    left.extend_from_slice(&framed.accept(window, false));
                    // To a group of base64.
                    let most = came.saturating_sub(held);
                    prop_assert!((most.saturating_sub(3)..=most).contains(&payload(&left)), "{} of {most}", payload(&left));
                }
            }
            prop_assert!(left.len() * 2 > body.len(), "{} of {}", left.len(), body.len());
            prop_assert!(offers <= body.len() / window, "{offers}");
        }

        /// The longest of its forms, of which a window holds as much.
        #[test]
        fn promise_09_the_longest_form_over_several_windows_does_not_leave(before in 0_usize..400, piece in 1_usize..60) {
            let form: Vec<String> = SECRET.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
            let form = form.concat();
            let (left, found) = run(&frame(&format!("{}{form}", " ".repeat(before)), 40, "x-a:b"), piece);
            prop_assert!(found);
            prop_assert!(memchr::memmem::find(&left, b"u0070\\u006c\\u0065").is_none(), "its end has left");
        }
    }

    #[test]
    fn promise_09_a_secret_in_the_framing_does_not_leave() {
        assert!(run(&frame("hello", 5, &format!("x-a:{SECRET}")), 7).1);
        let body = frame("hello", 5, "x-a:b");
        let body = String::from_utf8(body).unwrap().replace("signature=00", &format!("signature={SECRET}"));
        assert!(run(body.as_bytes(), 7).1);
        // In a last line without an end.
        let body = frame("hello", 5, &format!("x-a:{SECRET}"));
        assert!(run(body.trim_ascii_end(), 7).1);
    }
}
