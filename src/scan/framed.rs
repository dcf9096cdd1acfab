//! A body in `aws-chunked` framing that comes in pieces: what it carries is looked at as one text, as if nothing stood between its
//! chunks; what leaves is the bytes that came, none before what it carries may leave.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::aws_chunked::{Deframer, Part};
use super::{DecodeError, Finding, Stream, Work};

/// The state of one body.
pub struct Framed {
    deframer: Deframer,
    stream: Stream,
    /// What came and has not left.
    queue: BytesMut,
    /// Ends of parts in the queue: counted from the body's beginning, in its bytes and in those that it carries.
    ends: VecDeque<(usize, usize)>,
    came: usize,
    left: usize,
    carried: usize,
    passed: usize,
}

/// Why a piece does not leave.
#[derive(Debug)]
pub enum FramedError {
    /// It is not framed.
    Decode(DecodeError),
    /// Something must not leave.
    Found(Finding),
}

impl Framed {
    /// A body that begins; `stream` looks at what it carries.
    pub fn new(stream: Stream) -> Self {
        let (queue, ends) = (BytesMut::new(), VecDeque::new());
        Self { deframer: Deframer::default(), stream, queue, ends, came: 0, left: 0, carried: 0, passed: 0 }
    }

    /// Takes a piece; what may leave now.
    ///
    /// # Errors
    /// It is not framed, or something must not leave.
    pub fn push(&mut self, piece: &Bytes) -> Result<Bytes, FramedError> {
        for part in self.deframer.push(piece).map_err(FramedError::Decode)? {
            let end = match part {
                Part::Payload(range) => {
                    let end = range.end;
                    self.carried += range.len();
                    let text = self.stream.offer(piece.slice(range));
                    self.look(&text)?;
                    self.passed += self.stream.accept().len();
                    end
                }
                Part::Line(end, line) => {
                    self.look(&line)?;
                    end
                }
            };
            self.ends.push_back((self.came + end, self.carried));
        }
        self.came += piece.len();
        self.queue.extend_from_slice(piece);
        let mut to = self.left;
        while let Some(&(end, carried)) = self.ends.front() {
            // Of a part some may have passed; the rest is held.
            to = to.max(end.saturating_sub(carried - carried.min(self.passed)).min(end));
            if carried > self.passed {
                break;
            }
            self.ends.pop_front();
        }
        let leaves = self.queue.split_to(to - self.left).freeze();
        self.left = to;
        Ok(leaves)
    }

    /// The end: what was held back leaves.
    ///
    /// # Errors
    /// It ends too early, or with something that must not leave.
    pub fn end(&mut self) -> Result<Bytes, FramedError> {
        let line = self.deframer.end().map_err(FramedError::Decode)?;
        self.look(&line)?;
        self.stream.end();
        Ok(std::mem::take(&mut self.queue).freeze())
    }

    fn look(&self, line: &[u8]) -> Result<(), FramedError> {
        let (scanner, mut work) = (self.stream.scanner(), Work::of(line.len()));
        let found = scanner.look(line, &mut work).map_err(|exhausted| FramedError::Decode(exhausted.into()))?;
        scanner.tell(&mut work);
        found.map_or(Ok(()), |finding| Err(FramedError::Found(finding)))
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
        let (mut framed, mut left) = (Framed::new(Stream::new(scanner)), Vec::new());
        for piece in body.chunks(size) {
            match framed.push(&Bytes::copy_from_slice(piece)) {
                Ok(bytes) => left.extend_from_slice(&bytes),
                Err(_) => return (left, true),
            }
        }
        match framed.end() {
            Ok(bytes) => left.extend_from_slice(&bytes),
            Err(_) => return (left, true),
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
    }

    #[test]
    fn promise_09_a_secret_in_the_framing_does_not_leave() {
        assert!(run(&frame("hello", 5, &format!("x-a:{SECRET}")), 7).1);
        let body = frame("hello", 5, "x-a:b");
        let body = String::from_utf8(body).unwrap().replace("signature=00", &format!("signature={SECRET}"));
        assert!(run(body.as_bytes(), 7).1);
    }
}
