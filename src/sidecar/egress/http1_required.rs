//! Tells a client of HTTP/2 to ask again over HTTP/1.1 where the parser of HTTP/2 accepts no request: it ends the stream with
//! `PROTOCOL_ERROR`, of which no client can make anything, and the client gets `HTTP_1_1_REQUIRED` instead (RFC 9113, section 7).
//! Over HTTP/1.1 the same request is [encoded](super::raw_query), or refused in words. So curl's `"<>` in a query arrive.
//!
//! Only what egress sends is looked at, frame by frame. Rules:
//! * Only a stream that has no response: a client may send a request again that got none.
//! * A connection that does not begin as one of HTTP/2 does is passed on as it is.

use std::collections::BTreeSet;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The head of a frame, and the types that count (RFC 9113, sections 4.1, 6.2, 6.4 and 6.5).
const HEAD: usize = 9;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
/// The payload of `RST_STREAM`, and the codes (section 7).
const CODE: usize = 4;
const PROTOCOL_ERROR: [u8; CODE] = [0, 0, 0, 1];
const HTTP_1_1_REQUIRED: u8 = 0x0d;
/// How many streams with a response are remembered, the last ones: more than there may be at a time.
const MAX_ANSWERED: usize = 1024;

/// A connection to a client.
pub(super) struct Http1Required<S> {
    inner: S,
    place: Place,
    /// The streams that have a response.
    answered: BTreeSet<u32>,
}

/// Where in the frames the output is.
#[derive(Default, Clone, Copy)]
struct Place {
    head: [u8; HEAD],
    /// How much of the head, and of the payload, was sent.
    begun: usize,
    sent: usize,
    code: [u8; CODE],
    /// Whether a frame was seen, and whether this is not HTTP/2.
    any: bool,
    other: bool,
}

impl Place {
    fn length(&self) -> usize {
        usize::from(self.head[0]) << 16 | usize::from(self.head[1]) << 8 | usize::from(self.head[2])
    }

    fn stream(&self) -> u32 {
        u32::from_be_bytes([self.head[5], self.head[6], self.head[7], self.head[8]]) & (u32::MAX >> 1)
    }

    /// Whether the next byte is the last one of an end of a stream.
    fn at_code(&self) -> bool {
        !self.other && self.begun == HEAD && (self.head[3], self.length(), self.sent) == (RST_STREAM, CODE, CODE - 1)
    }

    /// Goes on by some of these bytes, and stops before the last byte of an end of a stream. Returns how many, and the
    /// stream whose response begins.
    fn step(&mut self, bytes: &[u8]) -> (usize, Option<u32>) {
        if self.other {
            return (bytes.len(), None);
        }
        let mut answered = None;
        let taken = if self.begun < HEAD {
            let taken = bytes.len().min(HEAD - self.begun);
            self.head[self.begun..][..taken].copy_from_slice(&bytes[..taken]);
            self.begun += taken;
            if self.begun == HEAD {
                // A server's first frame (section 3.4).
                self.other = !self.any && self.head[3] != SETTINGS;
                self.any = true;
                answered = (self.head[3] == HEADERS).then(|| self.stream());
            }
            taken
        } else {
            let is_code = self.head[3] == RST_STREAM && self.length() == CODE;
            let stop = if is_code && self.sent < CODE - 1 { CODE - 1 } else { self.length() };
            let taken = bytes.len().min(stop - self.sent);
            if is_code {
                self.code[self.sent..][..taken].copy_from_slice(&bytes[..taken]);
            }
            self.sent += taken;
            taken
        };
        if self.begun == HEAD && self.sent == self.length() {
            (self.begun, self.sent) = (0, 0);
        }
        (taken, answered)
    }

    /// How many of these bytes come before the last one of an end of a stream.
    fn before_code(mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() && !self.at_code() {
            at += self.step(&bytes[at..]).0;
        }
        at
    }
}

impl<S> Http1Required<S> {
    /// Passes on what is sent to this client.
    pub(super) fn new(inner: S) -> Self {
        Self { inner, place: Place::default(), answered: BTreeSet::new() }
    }

    fn sent(&mut self, bytes: &[u8]) {
        let mut at = 0;
        while at < bytes.len() {
            let (taken, answered) = self.place.step(&bytes[at..]);
            at += taken;
            self.answered.extend(answered);
            if self.answered.len() > MAX_ANSWERED {
                self.answered.pop_first();
            }
        }
    }

    /// The last byte of the end of a stream, instead of this one.
    fn code(&self, byte: u8) -> u8 {
        let is_error = self.place.code[..CODE - 1] == PROTOCOL_ERROR[..CODE - 1] && byte == PROTOCOL_ERROR[CODE - 1];
        if is_error && !self.answered.contains(&self.place.stream()) { HTTP_1_1_REQUIRED } else { byte }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Http1Required<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Http1Required<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = match bytes.first() {
            Some(&byte) if self.place.at_code() => {
                let code = [self.code(byte)];
                ready!(Pin::new(&mut self.inner).poll_write(context, &code))?
            }
            _ => {
                let before = self.place.before_code(bytes);
                ready!(Pin::new(&mut self.inner).poll_write(context, &bytes[..before]))?
            }
        };
        self.sent(&bytes[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let (mut place, mut is_plain) = (self.place, true);
        for slice in slices {
            let mut at = 0;
            while at < slice.len() {
                is_plain &= !place.at_code();
                at += place.step(&slice[at..]).0;
            }
        }
        if !is_plain {
            // Rare: the first piece alone.
            let first = slices.iter().find(|slice| !slice.is_empty());
            return self.poll_write(context, first.map_or(&[][..], |slice| slice));
        }
        let written = ready!(Pin::new(&mut self.inner).poll_write_vectored(context, slices))?;
        let mut left = written;
        for slice in slices {
            let length = left.min(slice.len());
            self.sent(&slice[..length]);
            left -= length;
        }
        Poll::Ready(Ok(written))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    fn frame(kind: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, 0, 0, 0, 0, stream][..], payload].concat()
    }

    /// A connection that takes so many bytes at a time.
    struct Narrow(Vec<u8>, usize);

    impl AsyncWrite for Narrow {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let taken = bytes.len().min(self.1);
            self.0.extend_from_slice(&bytes[..taken]);
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            context: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let all: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
            self.poll_write(context, &all)
        }
    }

    /// What is passed on of frames that are written in pieces of this size.
    async fn passed(frames: &[Vec<u8>], size: usize) -> Vec<u8> {
        let mut client = Http1Required::new(Vec::new());
        for piece in frames.concat().chunks(size) {
            client.write_all(piece).await.unwrap();
        }
        client.inner
    }

    /// The same in vectored writes of two slices.
    async fn passed_vectored(frames: &[Vec<u8>], size: usize) -> Vec<u8> {
        let (mut client, all) = (Http1Required::new(Vec::new()), frames.concat());
        let mut at = 0;
        while at < all.len() {
            let (one, two) = all[at..].split_at(size.min(all.len() - at));
            at += client.write_vectored(&[IoSlice::new(one), IoSlice::new(&two[..size.min(two.len())])]).await.unwrap();
        }
        client.inner
    }

    #[tokio::test]
    async fn a_stream_without_a_response_ends_with_the_other_code() {
        let end = |stream, code| frame(RST_STREAM, stream, &[0, 0, 0, code]);
        let settings = frame(SETTINGS, 0, b"");
        // Data that looks like such an end.
        let data = frame(0, 3, &end(9, 1));
        let head = frame(HEADERS, 3, b"\x88");
        // One more byte of a window, and a response with the bit set that does not count (RFC 9113, section 4.1).
        let (window, mut reserved) = (frame(8, 11, &[0, 0, 0, 1]), frame(HEADERS, 13, b"\x88"));
        reserved[5] |= 0x80;
        let frames = [
            settings.clone(),
            end(1, 1),
            head.clone(),
            data.clone(),
            window.clone(),
            reserved,
            end(3, 1),
            end(5, 2),
            end(7, 1),
            frame(RST_STREAM, 9, &[1, 0, 0, 1]),
            window.clone(),
            end(13, 1),
        ];
        let mut expected = frames.clone();
        expected[1] = end(1, HTTP_1_1_REQUIRED);
        expected[8] = end(7, HTTP_1_1_REQUIRED);
        for size in 1..60 {
            assert_eq!(passed(&frames, size).await, expected.concat(), "{size}");
            assert_eq!(passed_vectored(&frames, size).await, expected.concat(), "{size}");
            let (mut plain, mut vectored) = [(); 2].map(|()| Http1Required::new(Narrow(Vec::new(), size))).into();
            plain.write_all(&frames.concat()).await.unwrap();
            // First those of which none is changed.
            let rest = [end(1, 1), end(3, 1)];
            for frames in [&[settings.clone(), head.clone(), data.clone(), window.clone()][..], &rest] {
                let mut slices: Vec<IoSlice<'_>> = frames.iter().map(|frame| IoSlice::new(frame)).collect();
                let mut slices = &mut slices[..];
                while !slices.is_empty() {
                    let written = vectored.write_vectored(slices).await.unwrap();
                    IoSlice::advance_slices(&mut slices, written);
                }
            }
            let changed = [&settings, &head, &data, &window, &end(1, HTTP_1_1_REQUIRED), &end(3, 1)];
            assert_eq!(plain.inner.0, expected.concat(), "{size}");
            assert_eq!(vectored.inner.0, changed.map(Vec::as_slice).concat(), "{size}");
        }
        // What is not HTTP/2 stays as it is.
        let other = [b"HTTP/1.1 200\r\n\r\n".to_vec(), end(1, 1)];
        assert_eq!(passed(&other, 7).await, other.concat());
        assert_eq!(passed(&frames[1..], 7).await, frames[1..].concat());
    }

    #[tokio::test]
    async fn streams_with_a_response_are_remembered_up_to_a_bound() {
        let mut client = Http1Required::new(Vec::new());
        client.write_all(&frame(SETTINGS, 0, b"")).await.unwrap();
        for stream in 0..=2 * MAX_ANSWERED {
            let mut head = frame(HEADERS, 0, b"");
            head[5..9].copy_from_slice(&u32::try_from(stream).unwrap().to_be_bytes());
            client.write_all(&head).await.unwrap();
        }
        assert_eq!(client.answered.len(), MAX_ANSWERED);
        assert!(client.answered.contains(&u32::try_from(2 * MAX_ANSWERED).unwrap()));
    }
}
