//! Accepts only unambiguous HTTP/1.1 (RFC 9112). The bytes are checked on their way to the HTTP parser, which is more
//! lenient than a security boundary may be. Nothing in them is changed but [what a query does not have](super::raw_query).
//!
//! Attacks that this stops: request smuggling, by anything that servers parse differently: two lengths, bare CR or LF,
//! folded headers, chunk extensions, a body of CONNECT; and heads without an end.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use hyper::http::uri::Authority;
use hyper::{Method, Uri};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::raw_query::{encoded, places};
use crate::sync::lock;

/// The connection preface of HTTP/2 (RFC 9113, section 3.4); what follows has its own framing.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Maximum size of a request head, in bytes.
pub(super) const MAX_HEAD: usize = 64 << 10;
/// Maximum length of any other line, in bytes.
const MAX_LINE: usize = 64 << 10;
/// Maximum number of headers of a request, and of a response.
pub(super) const MAX_HEADERS: usize = 512;
const TOO_LONG: &str = "a request's head is longer than 64 KiB";
/// Also over HTTP/2.
pub(super) const TOO_MANY: &str = "a request has more than 512 headers";

/// A rejected connection.
pub(super) struct Rejected<S> {
    /// The connection.
    pub(super) stream: S,
    pub(super) why: &'static str,
    /// Whether the parser has not seen the request, so that nobody has responded.
    pub(super) unanswered: bool,
}

/// Receives the connection when it is rejected.
pub(super) type RejectedSlot<S> = Arc<Mutex<Option<Rejected<S>>>>;

/// Whether an upgrade was granted on a connection. Until then, only requests are accepted.
#[derive(Clone, Default)]
pub(super) struct UpgradeGrant(Arc<AtomicBool>);

impl UpgradeGrant {
    /// From now on, the input is not HTTP/1.
    pub(super) fn grant(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn is_granted(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A connection whose input is checked. When it is rejected, the parser sees an end of input, and `refused` receives
/// the connection.
pub(super) struct Strict<S> {
    inner: Option<S>,
    check: Checker,
    /// What was checked, encoded, and had no room yet.
    rest: Vec<u8>,
    why: Option<&'static str>,
    unanswered: bool,
    refused: RejectedSlot<S>,
}

impl<S> Strict<S> {
    /// `http2` says whether HTTP/2 is accepted as well.
    pub(super) fn new(inner: S, http2: bool) -> (Self, RejectedSlot<S>, UpgradeGrant) {
        let (refused, granted) = (RejectedSlot::default(), UpgradeGrant::default());
        let position = if http2 { Position::First } else { Position::RequestLine };
        let check = Checker { position, granted: granted.clone(), ..Checker::default() };
        let (rest, slot) = (Vec::new(), refused.clone());
        (Self { inner: Some(inner), check, rest, why: None, unanswered: false, refused: slot }, refused, granted)
    }

    /// What was checked and not read yet, and the connection, whose further input is not checked.
    pub(super) fn into_parts(mut self) -> (Vec<u8>, S) {
        let inner = self.inner.take().expect("it is taken when this is dropped");
        (std::mem::take(&mut self.rest), inner)
    }

    fn inner(&mut self) -> Pin<&mut S>
    where
        S: Unpin,
    {
        Pin::new(self.inner.as_mut().expect("it is taken when this is dropped"))
    }

    /// Passes on what was checked and encoded, as much as there is room for.
    fn drain(&mut self, buffer: &mut ReadBuf<'_>) {
        let length = self.rest.len().min(buffer.remaining());
        buffer.put_slice(&self.rest[..length]);
        self.rest.drain(..length);
    }
}

impl<S> Drop for Strict<S> {
    fn drop(&mut self) {
        if let (Some(why), Some(stream)) = (self.why, self.inner.take()) {
            *lock(&self.refused) = Some(Rejected { stream, why, unanswered: self.unanswered });
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Strict<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.rest.is_empty() || self.why.is_some() {
            self.drain(buffer);
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        // The parser has not seen the whole head of a request whose body has not begun.
        let unanswered = matches!(self.check.position, Position::First | Position::RequestLine | Position::Header);
        ready!(self.inner().poll_read(context, buffer))?;
        if let Err(why) = self.check.feed(&buffer.filled()[before..]) {
            buffer.set_filled(before);
            (self.why, self.unanswered) = (Some(why), unanswered);
        } else if !self.check.raw.is_empty() {
            self.rest = encoded(&buffer.filled()[before..], &self.check.raw).into_owned();
            buffer.set_filled(before);
            self.drain(buffer);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Strict<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.inner().poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.why.is_some() {
            // The reason is still to be sent.
            return self.inner().poll_flush(context);
        }
        self.inner().poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.as_ref().is_some_and(S::is_write_vectored)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.inner().poll_write_vectored(context, slices)
    }
}

/// The state of the check.
#[derive(Default)]
struct Checker {
    position: Position,
    /// The incomplete line.
    line: Vec<u8>,
    head: Head,
    granted: UpgradeGrant,
    /// The length of the input so far that matches the HTTP/2 preface.
    prefix: usize,
    /// The length of the piece that is being checked, and the places in it that are to be encoded.
    piece: usize,
    raw: Vec<usize>,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Position {
    /// The first bytes, which decide between HTTP/1 and HTTP/2.
    #[default]
    First,
    RequestLine,
    Header,
    Body(u64),
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    Trailer,
    /// After a request for an upgrade: requests follow, unless it is granted.
    UpgradeRequested,
    /// No longer HTTP/1.
    Opaque,
}

/// The fields of a head so far.
#[derive(Default)]
struct Head {
    /// Its size so far, in bytes, and the number of its headers.
    size: usize,
    headers: usize,
    length: Option<u64>,
    chunked: bool,
    /// `CONNECT`: a tunnel follows, or nothing, because a refusal ends the connection.
    connects: bool,
    /// An upgrade was requested: another protocol follows if it is granted.
    upgrades: bool,
}

impl Checker {
    fn feed(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        self.piece = bytes.len();
        self.raw.clear();
        self.check(bytes)
    }

    fn check(&mut self, mut bytes: &[u8]) -> Result<(), &'static str> {
        while !bytes.is_empty() {
            bytes = match self.position {
                Position::Opaque => return Ok(()),
                Position::First => self.first(bytes)?,
                Position::UpgradeRequested => {
                    self.position = if self.granted.is_granted() { Position::Opaque } else { Position::RequestLine };
                    bytes
                }
                Position::Body(left) | Position::Chunk(left) => {
                    let taken = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    let left = left - taken as u64;
                    self.position = match (self.position, left) {
                        (Position::Body(_), 0) => Position::RequestLine,
                        (Position::Body(_), left) => Position::Body(left),
                        (_, 0) => Position::ChunkEnd,
                        (_, left) => Position::Chunk(left),
                    };
                    &bytes[taken..]
                }
                Position::RequestLine
                | Position::Header
                | Position::ChunkSize
                | Position::ChunkEnd
                | Position::Trailer => self.line(bytes)?,
            };
        }
        Ok(())
    }

    fn first<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], &'static str> {
        let alike = bytes.iter().zip(&PREFACE[self.prefix..]).take_while(|(byte, of)| byte == of).count();
        self.prefix += alike;
        if self.prefix == PREFACE.len() {
            self.position = Position::Opaque;
            return Ok(&[]);
        }
        if alike == bytes.len() {
            return Ok(&[]);
        }
        // Not HTTP/2: the bytes that matched the preface belong to a request.
        self.position = Position::RequestLine;
        self.check(&PREFACE[..self.prefix - alike])?;
        Ok(bytes)
    }

    /// Consumes bytes up to the end of a line.
    fn line<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], &'static str> {
        let end = memchr::memchr(b'\n', bytes);
        let (part, rest) = bytes.split_at(end.map_or(bytes.len(), |end| end + 1));
        let length = self.line.len() + part.len();
        match self.position {
            Position::RequestLine if length > MAX_HEAD => return Err(TOO_LONG),
            Position::Header if self.head.size + length > MAX_HEAD => return Err(TOO_LONG),
            _ if length > MAX_LINE => return Err("a line is longer than 64 KiB"),
            _ => {}
        }
        if self.position == Position::RequestLine {
            let from = self.piece.saturating_sub(bytes.len());
            self.raw.extend(places(&self.line, part).map(|at| from + at));
        }
        if self.line.is_empty() && end.is_some() {
            // Most lines arrive whole and need no buffer.
            self.take_line(part)?;
            return Ok(rest);
        }
        self.line.extend_from_slice(part);
        // As early as possible: the parser must not see the rest.
        self.unfolded(&self.line)?;
        if end.is_some() {
            let mut line = std::mem::take(&mut self.line);
            self.take_line(&line)?;
            line.clear();
            self.line = line;
        }
        Ok(rest)
    }

    fn unfolded(&self, line: &[u8]) -> Result<(), &'static str> {
        let folded = self.position == Position::Header && matches!(line.first(), Some(b' ' | b'\t'));
        if folded { Err("a header is folded over two lines") } else { Ok(()) }
    }

    /// Checks a complete line.
    fn take_line(&mut self, line: &[u8]) -> Result<(), &'static str> {
        self.unfolded(line)?;
        let size = line.len();
        let line = line.strip_suffix(b"\r\n").ok_or("a line ends with LF alone")?;
        if memchr::memchr2(b'\r', 0, line).is_some() {
            return Err("a line holds CR or NUL");
        }
        self.position = match (self.position, line) {
            (Position::RequestLine, b"") => return Err("there is an empty line before a request"),
            (Position::RequestLine, line) => {
                let raw: Vec<usize> = places(b"", line).collect();
                let connects = request_line(&encoded(line, &raw))? == b"CONNECT";
                self.head = Head { size, connects, ..Head::default() };
                Position::Header
            }
            (Position::Header, b"") => self.head.end()?,
            (Position::Header, line) => {
                self.head.size += size;
                self.head.header(line)?;
                Position::Header
            }
            (Position::ChunkSize, line) => match chunk_size(line)? {
                0 => Position::Trailer,
                size => Position::Chunk(size),
            },
            (Position::ChunkEnd, b"") => Position::ChunkSize,
            (Position::ChunkEnd, _) => return Err("a chunk is longer than it says"),
            (Position::Trailer, b"") => Position::RequestLine,
            (Position::Trailer, line) => {
                split(line)?;
                Position::Trailer
            }
            (position, _) => position,
        };
        Ok(())
    }
}

/// RFC 9112, section 3: a method, a valid target and a version; returns the method.
fn request_line(line: &[u8]) -> Result<&[u8], &'static str> {
    let mut words = line.split(|&byte| byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err("a request's first line is not three words");
    };
    if !matches!(version, b"HTTP/1.1" | b"HTTP/1.0") {
        return Err("a request is of no version of HTTP/1");
    }
    if Method::from_bytes(method).is_err() {
        return Err("a request's method is malformed");
    }
    let read = match method {
        b"CONNECT" => Authority::try_from(target).is_ok() || Uri::try_from(target).is_ok(),
        _ => Uri::try_from(target).is_ok(),
    };
    if read { Ok(method) } else { Err("a request's target is malformed") }
}

/// RFC 9112, section 7.1, without extensions: no client needs them, and servers parse them differently.
fn chunk_size(line: &[u8]) -> Result<u64, &'static str> {
    let digits = std::str::from_utf8(line).ok().filter(|digits| (1..=15).contains(&digits.len()));
    let digits = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    digits
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .ok_or("a chunk's size is malformed, or has an extension")
}

/// RFC 9112, section 5: a token, a colon, a value.
fn split(line: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    let colon = memchr::memchr(b':', line).ok_or("a header has no colon")?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    let token = |&byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.iter().all(token) {
        return Err("a header's name is malformed");
    }
    Ok((name, value))
}

impl Head {
    fn header(&mut self, line: &[u8]) -> Result<(), &'static str> {
        self.headers += 1;
        if self.headers > MAX_HEADERS {
            return Err(TOO_MANY);
        }
        let (name, value) = split(line)?;
        if name.eq_ignore_ascii_case(b"content-length") {
            let digits = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            let length = digits.and_then(|digits| digits.parse().ok()).ok_or("Content-Length is no number")?;
            if self.length.replace(length).is_some() {
                return Err("there are two Content-Length headers");
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err("a Transfer-Encoding is other than one `chunked`");
            }
            self.chunked = true;
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            self.upgrades = true;
        }
        Ok(())
    }

    fn end(&self) -> Result<Position, &'static str> {
        match (self.length, self.chunked) {
            (Some(_), true) => Err("there are both Content-Length and Transfer-Encoding"),
            // The parser would take the beginning of the tunnel for it (RFC 9110, section 9.3.6).
            (Some(1..), false) | (None, true) if self.connects => Err("CONNECT has a body"),
            _ if self.connects => Ok(Position::Opaque),
            (_, true) => Ok(Position::ChunkSize),
            (Some(0) | None, false) if self.upgrades => Ok(Position::UpgradeRequested),
            (Some(0) | None, false) => Ok(Position::RequestLine),
            (Some(length), false) => Ok(Position::Body(length)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(bytes: &[u8], size: usize) -> Result<(), &'static str> {
        let mut check = Checker::default();
        bytes.chunks(size).try_for_each(|piece| check.feed(piece))
    }

    #[test]
    fn promise_06_what_is_read_in_different_ways_does_not_come_in() {
        let post = "POST / HTTP/1.1\r\nHost: a\r\n";
        for (name, bytes, passes) in [
            ("a request", "GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), true),
            ("two of them", format!("{post}Content-Length: 2\r\n\r\nab{post}\r\n"), true),
            (
                "chunks and trailers",
                format!("{post}Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX: y\r\n\r\n{post}\r\n"),
                true,
            ),
            (
                "bytes that look like lines in a body",
                format!("{post}Content-Length: 4\r\n\r\n\n\r\n\n{post}\r\n"),
                true,
            ),
            ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\n\n\0".to_owned(), true),
            ("what follows CONNECT", "CONNECT a:1 HTTP/1.1\r\n\r\n\n\0\n".to_owned(), true),
            ("CONNECT with a length of none", "CONNECT a:1 HTTP/1.1\r\nContent-Length: 0\r\n\r\n\n\0".to_owned(), true),
            ("CONNECT with a length", "CONNECT a:1 HTTP/1.1\r\nContent-Length: 2\r\n\r\nab".to_owned(), false),
            ("CONNECT with chunks", "CONNECT a:1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(), false),
            ("a target that is none", "CONNECT a%2e:1 HTTP/1.1\r\n\r\n".to_owned(), false),
            ("no version", "GET /\r\n\r\n".to_owned(), false),
            ("two spaces", "GET  / HTTP/1.1\r\n\r\n".to_owned(), false),
            ("a version to come", "GET / HTTP/1.2\r\n\r\n".to_owned(), false),
            ("what follows an upgrade", "GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n\n\0\n".to_owned(), false),
            ("a request after one", format!("GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n{post}\r\n"), true),
            (
                "a body after one, that looks like lines",
                format!("{post}Upgrade: h2c\r\nContent-Length: 2\r\n\r\n\n\n{post}\r\n"),
                true,
            ),
            ("bare LF in the request line", "GET / HTTP/1.1\nHost: a\r\n\r\n".to_owned(), false),
            ("bare LF after a header", "GET / HTTP/1.1\r\nHost: a\n\r\n".to_owned(), false),
            ("bare LF at the end", "GET / HTTP/1.1\r\nHost: a\r\n\n".to_owned(), false),
            ("bare CR", "GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n".to_owned(), false),
            ("NUL", "GET / HTTP/1.1\r\nHost: a\0\r\n\r\n".to_owned(), false),
            ("folding", "GET / HTTP/1.1\r\nX: a\r\n b\r\n\r\n".to_owned(), false),
            ("folding with a tab", "GET / HTTP/1.1\r\nX: a\r\n\tb\r\n\r\n".to_owned(), false),
            ("an empty line first", "\r\nGET / HTTP/1.1\r\n\r\n".to_owned(), false),
            ("space before the colon", "GET / HTTP/1.1\r\nHost : a\r\n\r\n".to_owned(), false),
            ("no colon", "GET / HTTP/1.1\r\nHost\r\n\r\n".to_owned(), false),
            ("no name", "GET / HTTP/1.1\r\n: a\r\n\r\n".to_owned(), false),
            ("both lengths", format!("{post}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), false),
            (
                "both lengths, the other way",
                format!("{post}Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n"),
                false,
            ),
            ("two lengths", format!("{post}Content-Length: 2\r\nContent-Length: 2\r\n\r\nab"), false),
            ("a list of lengths", format!("{post}Content-Length: 2, 2\r\n\r\nab"), false),
            ("a signed length", format!("{post}Content-Length: +2\r\n\r\nab"), false),
            ("an empty length", format!("{post}Content-Length:\r\n\r\nab"), false),
            ("chunked twice", format!("{post}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"), false),
            ("another coding", format!("{post}Transfer-Encoding: gzip, chunked\r\n\r\n"), false),
            ("chunked in quotes", format!("{post}Transfer-Encoding: \"chunked\"\r\n\r\n"), false),
            ("chunked with a vertical tab", format!("{post}Transfer-Encoding: \x0bchunked\r\n\r\n"), false),
            ("a chunk's extension", format!("{post}Transfer-Encoding: chunked\r\n\r\n2;a=b\r\nab\r\n"), false),
            ("a chunk's size in C's way", format!("{post}Transfer-Encoding: chunked\r\n\r\n0x2\r\nab\r\n"), false),
            ("a chunk's size with a space", format!("{post}Transfer-Encoding: chunked\r\n\r\n2 \r\nab\r\n"), false),
            ("a chunk's size that is none", format!("{post}Transfer-Encoding: chunked\r\n\r\n\r\nab\r\n"), false),
            (
                "a chunk's size beyond all bounds",
                format!("{post}Transfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\n"),
                false,
            ),
            ("a chunk that is too long", format!("{post}Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n"), false),
            ("a chunk that ends with LF", format!("{post}Transfer-Encoding: chunked\r\n\r\n2\r\nab\n"), false),
            ("a folded trailer", format!("{post}Transfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n z\r\n\r\n"), false),
            ("nearly HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\n".to_owned(), false),
        ] {
            for size in [1, 3, bytes.len()] {
                assert_eq!(check(bytes.as_bytes(), size).is_ok(), passes, "{name}, {size} at a time");
            }
        }
    }

    #[tokio::test]
    async fn a_raw_query_is_encoded_and_nothing_else_is_changed() {
        use tokio::io::AsyncReadExt;
        let post =
            |target: &str| format!("POST {target} HTTP/1.1\r\nA: \"<?>\"\r\nContent-Length: 7\r\n\r\n?\"<a>\"\n");
        let sent = post("/a?q={\"b\":\"<c>\"}|") + &post("/?\"") + &post("/plain?x=1");
        let expected = post("/a?q={%22b%22:%22%3Cc%3E%22}|") + &post("/?%22") + &post("/plain?x=1");
        for (written, read) in [(1, 1), (1, 64), (7, 3), (sent.len(), 1), (sent.len(), 5), (sent.len(), 4096)] {
            let (theirs, ours) = tokio::io::duplex(4096);
            let text = sent.clone();
            let writing = tokio::spawn(async move {
                let mut theirs = theirs;
                for piece in text.as_bytes().chunks(written) {
                    tokio::io::AsyncWriteExt::write_all(&mut theirs, piece).await.unwrap();
                }
            });
            let (mut strict, refused, _) = Strict::new(ours, false);
            let (mut got, mut piece) = (Vec::new(), vec![0; read]);
            loop {
                match strict.read(&mut piece).await.unwrap() {
                    0 => break,
                    length => got.extend_from_slice(&piece[..length]),
                }
            }
            writing.await.unwrap();
            drop(strict);
            assert!(lock(&refused).is_none());
            assert_eq!(String::from_utf8(got).unwrap(), expected, "{written} written, {read} read");
        }
        for (line, passes) in [
            ("GET /<a> HTTP/1.1", false),
            ("GET /?a b\" HTTP/1.1", false),
            ("GET /? HTTP/1.1\"", false),
            ("GE\"T / HTTP/1.1", false),
            ("CONNECT a?\" HTTP/1.1", false),
            ("GET /?a=\"b\" HTTP/1.1", true),
        ] {
            let text = format!("{line}\r\n\r\n");
            assert_eq!(check(text.as_bytes(), 3).is_ok(), passes, "{line}");
        }
    }

    #[tokio::test]
    async fn what_was_encoded_and_not_read_yet_is_not_lost_with_the_check() {
        use tokio::io::AsyncReadExt;
        let sent = b"GET /?\"a\" HTTP/1.1\r\n\r\n";
        let (mut strict, ..) = Strict::new(&sent[..], false);
        let mut read = [0; 7];
        strict.read_exact(&mut read).await.unwrap();
        let (rest, inner) = strict.into_parts();
        assert_eq!(([&read[..], &rest].concat(), inner), (b"GET /?%22".to_vec(), &sent[7..]));
    }

    #[test]
    fn promise_15_a_head_has_bounds_of_its_size_and_its_headers() {
        let many = |count: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(count));
        let long = |size: usize, lines: usize| {
            let head = format!("GET / HTTP/1.1\r\n{}", format!("a: {}\r\n", "b".repeat(1000)).repeat(lines));
            format!("{head}x: {}\r\n\r\n", "y".repeat(size - head.len() - 7))
        };
        let target = |size: usize| format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(size - 18));
        for (name, head, expected) in [
            ("so many headers", many(MAX_HEADERS), Ok(())),
            ("one more", many(MAX_HEADERS + 1), Err(TOO_MANY)),
            ("so long", long(MAX_HEAD, 0), Ok(())),
            ("so long in many lines", long(MAX_HEAD, 60), Ok(())),
            ("a byte longer", long(MAX_HEAD + 1, 0), Err(TOO_LONG)),
            ("a byte longer in many lines", long(MAX_HEAD + 1, 60), Err(TOO_LONG)),
            ("a target so long", target(MAX_HEAD - 2), Ok(())),
            ("a longer target", target(MAX_HEAD + 1), Err(TOO_LONG)),
        ] {
            for size in [1, 1000, head.len()] {
                assert_eq!(check(head.as_bytes(), size), expected, "{name}, {size} at a time");
                // Each request has these bounds, and not a connection.
                let two = [head.as_bytes(), head.as_bytes()].concat();
                assert_eq!(check(&two, size), expected, "{name} twice, {size} at a time");
            }
        }
        let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n";
        for (length, passes) in [(MAX_LINE - 5, true), (MAX_LINE - 4, false)] {
            let trailer = format!("{chunked}x: {}\r\n\r\n", "y".repeat(length));
            assert_eq!(check(trailer.as_bytes(), trailer.len()).is_ok(), passes, "a trailer of {length}");
        }
    }

    proptest! {
        #[test]
        fn however_the_bytes_are_cut_the_verdict_is_one(bytes in "[GET /HTP1.:a\r\n 0x]{0,80}", size in 1_usize..9) {
            let bytes = format!("GET / HTTP/1.1\r\n{bytes}");
            prop_assert_eq!(check(bytes.as_bytes(), size).is_ok(), check(bytes.as_bytes(), bytes.len()).is_ok());
        }
    }
}
