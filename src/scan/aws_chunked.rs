//! `aws-chunked`, the framing of S3 uploads (AWS, "Signature calculations for the Authorization header: transferring
//! payload in multiple chunks"): chunks, each preceded by its size in hexadecimal and an optional signature, then
//! trailers. The framing is removed for the scan; the body is forwarded unchanged. It is always the outermost encoding,
//! at whatever position it is listed.
//!
//! Attacks that this stops: a secret that is split over two chunks, or is in a chunk extension or a trailer.

use std::ops::Range;

use super::encoding::DecodeError;

/// Maximum length of a framing line, and of all trailers together, in bytes.
const MAX_LINE: usize = 4 << 10;
const MAX_TRAILERS: usize = 16 << 10;

/// A part of the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// Payload, as a range of the input.
    Payload(Range<usize>),
    /// A complete framing line, and the offset of its end in the input.
    Line(usize, Vec<u8>),
}

/// Removes the framing incrementally.
#[derive(Debug, Clone, Default)]
pub(super) struct Deframer {
    state: State,
    line: Vec<u8>,
    trailers: usize,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// Expects a chunk's size.
    #[default]
    Size,
    /// Inside a chunk, with this many bytes left.
    Chunk(usize),
    /// After a chunk's data.
    End,
    /// After the last chunk.
    Trailers,
}

fn malformed<T>(why: &'static str) -> Result<T, DecodeError> {
    Err(DecodeError::AwsChunked(why))
}

impl Deframer {
    /// Parses more input; returns its parts in order.
    ///
    /// # Errors
    /// The framing is malformed.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Part>, DecodeError> {
        let (mut parts, mut at) = (Vec::new(), 0);
        while at < bytes.len() {
            if let State::Chunk(left) = self.state {
                let to = bytes.len().min(at.saturating_add(left));
                parts.push(Part::Payload(at..to));
                self.state = if to - at == left { State::End } else { State::Chunk(left - (to - at)) };
                at = to;
                continue;
            }
            let end = memchr::memchr(b'\n', &bytes[at..]).map(|end| at + end + 1);
            let to = end.unwrap_or(bytes.len());
            self.line.extend_from_slice(&bytes[at..to]);
            if self.line.len() > MAX_LINE {
                return malformed("a line of it is too long");
            }
            at = to;
            if end.is_some() {
                let line = std::mem::take(&mut self.line);
                self.take(&line)?;
                parts.push(Part::Line(at, line));
            }
        }
        Ok(parts)
    }

    /// Ends the input; returns the last, unterminated line.
    ///
    /// # Errors
    /// The last chunk is missing.
    pub(super) fn end(&mut self) -> Result<Vec<u8>, DecodeError> {
        if self.state != State::Trailers {
            return malformed("it ends before its last chunk");
        }
        let line = std::mem::take(&mut self.line);
        self.take(&line)?;
        Ok(line)
    }

    fn take(&mut self, line: &[u8]) -> Result<(), DecodeError> {
        let text = line.trim_ascii_end();
        match self.state {
            State::Size => {
                let (digits, extension) = split(text, b';');
                let size = std::str::from_utf8(digits).ok().filter(|digits| (1..=8).contains(&digits.len()));
                let size = size.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
                let size = size.and_then(|digits| usize::from_str_radix(digits, 16).ok());
                let known = extension.is_none_or(|text| text.starts_with(b"chunk-signature="));
                match size.filter(|_| known && line.ends_with(b"\r\n")) {
                    Some(0) => self.state = State::Trailers,
                    Some(size) => self.state = State::Chunk(size),
                    None => return malformed("a chunk's size cannot be read"),
                }
            }
            State::End if line == b"\r\n" => self.state = State::Size,
            State::End => return malformed("a chunk is longer than it says"),
            State::Trailers => {
                self.trailers += line.len();
                if self.trailers > MAX_TRAILERS {
                    return malformed("its trailers are too long");
                }
                if !text.is_empty() && !text.contains(&b':') {
                    return malformed("a trailer has no colon");
                }
            }
            State::Chunk(_) => {}
        }
        Ok(())
    }
}

fn split(text: &[u8], at: u8) -> (&[u8], Option<&[u8]>) {
    memchr::memchr(at, text).map_or((text, None), |place| (&text[..place], Some(&text[place + 1..])))
}

/// The payload of a complete body, and its framing lines.
///
/// # Errors
/// The framing is malformed.
pub(super) fn decode(body: &[u8]) -> Result<(Vec<u8>, Vec<u8>), DecodeError> {
    let mut deframer = Deframer::default();
    let (mut payload, mut lines) = (Vec::with_capacity(body.len()), Vec::new());
    for part in deframer.push(body)? {
        match part {
            Part::Payload(range) => payload.extend_from_slice(&body[range]),
            Part::Line(_, line) => lines.extend_from_slice(&line),
        }
    }
    lines.extend_from_slice(&deframer.end()?);
    Ok((payload, lines))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As the SDKs write it: unsigned with a trailing checksum, and signed.
    fn bodies() -> [(Vec<u8>, &'static [u8]); 3] {
        let signature = format!(";chunk-signature={}", "0123456789abcdef".repeat(4));
        [
            (b"5\r\nhello\r\n1\r\n!\r\n0\r\nx-amz-checksum-crc32:sOO8/Q==\r\n\r\n".to_vec(), b"hello!"),
            (format!("5{signature}\r\nhello\r\n0{signature}\r\n\r\n").into(), b"hello"),
            (
                format!("a{signature}\r\n\r\n0\r\nhello\r\n0{signature}\r\nx-amz-checksum-crc32c:sOO8/Q==\n\r\nx-amz-trailer-signature:00ff\r\n\r\n")
                    .into(),
                b"\r\n0\r\nhello",
            ),
        ]
    }

    #[test]
    fn the_framing_comes_off_and_what_is_none_is_refused() {
        for (body, payload) in bodies() {
            assert_eq!(decode(&body).unwrap().0, payload, "{}", String::from_utf8_lossy(&body));
            assert!(decode(&body[..body.len() / 2]).is_err());
        }
        for body in [
            "",
            "hello",
            "5\r\nhello",
            "5\r\nhello\r\n",
            "5\nhello\r\n0\r\n\r\n",
            "4\r\nhello\r\n0\r\n\r\n",
            "6\r\nhello\r\n0\r\n\r\n",
            "0x5\r\nhello\r\n0\r\n\r\n",
            "-5\r\nhello\r\n0\r\n\r\n",
            "\r\n0\r\n\r\n",
            "5;note=secret\r\nhello\r\n0\r\n\r\n",
            "0\r\nno trailer\r\n\r\n",
            "fffffffff\r\n",
        ] {
            assert!(decode(body.as_bytes()).is_err(), "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn however_it_is_cut_the_same_comes_out(index in 0_usize..3, size in 1_usize..20) {
            let (body, payload) = bodies()[index].clone();
            let (mut deframer, mut out) = (Deframer::default(), Vec::new());
            for piece in body.chunks(size) {
                for part in deframer.push(piece).unwrap() {
                    if let Part::Payload(range) = part {
                        out.extend_from_slice(&piece[range]);
                    }
                }
            }
            prop_assert!(deframer.end().is_ok());
            prop_assert_eq!(out, payload);
        }
    }
}
