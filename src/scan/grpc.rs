//! gRPC messages: each has a prefix of five bytes and may be compressed by itself (grpc's PROTOCOL-HTTP2.md).

use bytes::{Buf, Bytes, BytesMut};
use data_encoding::BASE64;

use super::encoding::{DecodeError, Encoding};

/// Maximum size of a message, in bytes: it is scanned as a whole.
const MAX_MESSAGE: usize = 16 << 20;
/// The prefix of a message: a flag and a length.
const PREFIX: usize = 5;
/// The flag of trailers in gRPC-Web (grpc's PROTOCOL-WEB.md), which are text.
const TRAILERS: u8 = 0x80;

/// Decodes the text of gRPC-Web (grpc's PROTOCOL-WEB.md): base64, in which each flush ended with padding.
///
/// # Errors
/// It is something else, or written as no encoder writes it: then servers read it in different ways.
pub(super) fn web_text(text: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut decoded = Vec::with_capacity(text.len() / 4 * 3);
    let mut rest = text;
    while !rest.is_empty() {
        let padded = rest.chunks(4).position(|group| group.ends_with(b"="));
        let (piece, behind) = rest.split_at(padded.map_or(rest.len(), |group| rest.len().min(4 * group + 4)));
        let piece = BASE64.decode(piece).map_err(|_| DecodeError::Grpc("its text is not base64"))?;
        decoded.extend_from_slice(&piece);
        rest = behind;
    }
    Ok(decoded)
}

/// Parses the messages of a body incrementally.
pub struct GrpcMessages {
    encoding: Option<Encoding>,
    buffer: BytesMut,
}

impl GrpcMessages {
    /// Parses messages in the encoding that `grpc-encoding` names.
    ///
    /// # Errors
    /// The encoding is unknown.
    pub fn new(encoding: Option<&str>) -> Result<Self, DecodeError> {
        let encodings = Encoding::list(encoding.unwrap_or_default())?;
        match encodings[..] {
            [] => Ok(Self { encoding: None, buffer: BytesMut::new() }),
            [one] => Ok(Self { encoding: Some(one), buffer: BytesMut::new() }),
            _ => Err(DecodeError::Grpc("its messages are in two encodings")),
        }
    }

    /// Adds input.
    pub fn push(&mut self, piece: &Bytes) {
        self.buffer.extend_from_slice(piece);
    }

    /// How much of the next message is buffered, and its whole size, in bytes.
    pub fn buffered(&self) -> (usize, usize) {
        let length = self.buffer.first_chunk::<PREFIX>().map_or(0, |&[_, a, b, c, d]| u32::from_be_bytes([a, b, c, d]));
        (self.buffer.len(), PREFIX + (length as usize).min(MAX_MESSAGE))
    }

    /// The next complete message: its bytes with the prefix, its content, and the content's encoding.
    ///
    /// # Errors
    /// The message is malformed or too large.
    pub fn take(&mut self) -> Result<Option<(Bytes, Bytes, Option<Encoding>)>, DecodeError> {
        let Some(&[flag, a, b, c, d]) = self.buffer.first_chunk::<PREFIX>() else { return Ok(None) };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if flag & !(TRAILERS | 1) != 0 {
            return Err(DecodeError::Grpc("a message has a flag that is not known"));
        }
        if length > MAX_MESSAGE {
            return Err(DecodeError::TooLarge);
        }
        if self.buffer.len() < PREFIX + length {
            return Ok(None);
        }
        let frame = self.buffer.split_to(PREFIX + length).freeze();
        let mut message = frame.clone();
        message.advance(PREFIX);
        let mut encoding = None;
        if flag & 1 == 1 {
            let named = self.encoding.ok_or(DecodeError::Grpc("a message is compressed, and nothing says how"))?;
            encoding = Some(named);
        }
        Ok(Some((frame, message, encoding)))
    }

    /// Whether the bytes of a message, with the prefix, are trailers.
    pub fn are_trailers(frame: &[u8]) -> bool {
        frame.first().is_some_and(|flag| flag & TRAILERS != 0)
    }

    /// Ends the input.
    ///
    /// # Errors
    /// The input ends within a message.
    pub fn end(&self) -> Result<(), DecodeError> {
        if self.buffer.is_empty() { Ok(()) } else { Err(DecodeError::Grpc("it ends within a message")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::Budget;
    use std::io::Write;

    fn frame(flag: u8, message: &[u8]) -> Vec<u8> {
        [&[flag][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
    }

    #[test]
    fn messages_come_out_whole_however_the_body_is_cut() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(b"two").unwrap();
        let body = [frame(0, b"one"), frame(1, &gzip.finish().unwrap()), frame(TRAILERS, b"grpc-status: 0")].concat();
        for size in [1, 2, 7, body.len()] {
            let mut messages = GrpcMessages::new(Some("gzip")).unwrap();
            let (mut frames, mut texts) = (Vec::new(), Vec::new());
            for piece in body.chunks(size) {
                messages.push(&Bytes::copy_from_slice(piece));
                while let Some((frame, message, encoding)) = messages.take().unwrap() {
                    frames.extend_from_slice(&frame);
                    texts.push(
                        crate::scan::decode(&message, encoding.as_slice(), &mut Budget::unbounded()).map_or_else(
                            |_| Vec::new(),
                            |decoded| if encoding.is_some() { decoded.text } else { message.to_vec() },
                        ),
                    );
                }
            }
            messages.end().unwrap();
            assert_eq!(frames, body);
            assert_eq!(texts, [&b"one"[..], b"two", b"grpc-status: 0"]);
        }
    }

    #[test]
    fn promise_06_text_of_grpc_web_is_base64_or_refused() {
        let (one, two) = (frame(0, b"on"), frame(0, b"three"));
        let flushed = BASE64.encode(&one) + &BASE64.encode(&two);
        assert!(flushed[..flushed.len() - 1].contains('='), "{flushed}");
        assert_eq!(web_text(flushed.as_bytes()).unwrap(), [&one[..], &two].concat());
        assert_eq!(web_text(b"").unwrap(), b"");
        for bad in ["AAAA=", "AAA", "AA=A", "====", "AA-_", "AA==\n", "AAAB\r\n", "AB==", "A===", " AAAA"] {
            assert!(web_text(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn promise_15_a_message_has_a_bound() {
        for (length, fits) in [(MAX_MESSAGE, true), (MAX_MESSAGE + 1, false)] {
            let prefix = [&[0][..], &u32::try_from(length).unwrap().to_be_bytes()].concat();
            let mut messages = GrpcMessages::new(None).unwrap();
            messages.push(&prefix.into());
            // It is refused before the rest arrives.
            let expected = if fits { Ok(None) } else { Err(DecodeError::TooLarge) };
            assert_eq!(messages.take(), expected, "{length}");
            if fits {
                messages.push(&vec![b'x'; length].into());
                assert_eq!(messages.take().unwrap().unwrap().1.len(), length);
            }
        }
    }

    #[test]
    fn promise_06_what_is_no_grpc_is_refused() {
        assert!(GrpcMessages::new(Some("snappy")).is_err());
        for body in [frame(2, b"x"), frame(1, b"x"), vec![0, 0xff, 0xff, 0xff, 0xff]] {
            let mut messages = GrpcMessages::new(None).unwrap();
            messages.push(&body.into());
            assert!(messages.take().is_err());
        }
        let mut messages = GrpcMessages::new(None).unwrap();
        messages.push(&Bytes::from_static(&[0, 0, 0]));
        assert!(messages.take().unwrap().is_none() && messages.end().is_err());
    }
}
