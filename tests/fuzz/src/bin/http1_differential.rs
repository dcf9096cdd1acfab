//! HTTP/1.1 that egress lets through to its parser: the parser reads the requests that a plain reading of RFC 9112 finds, with the
//! same method, target, host and body, and the next one begins at the same byte. It may read fewer; it invents none.

#![no_main]

#[path = "../../../../src/sidecar/egress/raw_query.rs"]
mod raw_query;
#[path = "../../../../src/sidecar/egress/strict.rs"]
#[allow(dead_code, reason = "what is for connections is not used here")]
mod strict;
#[path = "../../../../src/sync.rs"]
mod sync;

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::header::HOST;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use libfuzzer_sys::fuzz_target;
use strict::Strict;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Pieces of requests, and what is nearly one.
const PIECES: [&str; 57] = [
    "GET / HTTP/1.1\r\n",
    "POST /a?b=c HTTP/1.1\r\n",
    "PUT http://a.example/b HTTP/1.1\r\n",
    "GET /a?b=\"<c>\" HTTP/1.1\r\n",
    "CONNECT a.example:443 HTTP/1.1\r\n",
    "OPTIONS * HTTP/1.1\r\n",
    "HEAD / HTTP/1.0\r\n",
    "GET /a#b HTTP/1.1\r\n",
    "get / HTTP/1.1\r\n",
    "GET  / HTTP/1.1\r\n",
    "GET / HTTP/2.0\r\n",
    "GET /\r\n",
    "Host: a.example\r\n",
    "hOsT:b.example \r\n",
    "Host : a\r\n",
    " Host: a\r\n",
    "Content-Length: 0\r\n",
    "Content-Length: 5\r\n",
    "content-length:\t3 \r\n",
    "Content-Length: +5\r\n",
    "Content-Length: 5, 5\r\n",
    "Content-Length: 0x5\r\n",
    "Content-Length: 18446744073709551616\r\n",
    "Content-Length : 5\r\n",
    "Content_Length: 5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "transfer-encoding:\tCHUNKED\t\r\n",
    "Transfer-Encoding: identity\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Transfer-Encoding: chunked, chunked\r\n",
    "Transfer-Encoding: \x0bchunked\r\n",
    "Transfer-Encoding:\r\n chunked\r\n",
    "Connection: keep-alive\r\n",
    "Connection: close\r\n",
    "Connection: content-length\r\n",
    "Upgrade: websocket\r\nConnection: upgrade\r\n",
    "Expect: 100-continue\r\n",
    "X: \u{e4}\r\n",
    "X: a\rb\r\n",
    "X: a\nY: b\r\n",
    "X\r\n",
    "X:\r\n",
    "\r\n",
    "\n",
    "\r",
    "\0",
    "hello",
    "abc",
    "5\r\nhello\r\n",
    "3\r\nabc\r\n",
    "05\r\nhello\r\n",
    "5;a=b\r\nhello\r\n",
    "5 \r\nhello\r\n",
    "-5\r\nhello\r\n",
    "FFFFFFFFFFFFFFFF\r\n",
    "0\r\n",
    "0\r\nX: y\r\n\r\n",
];

/// A request as somebody reads it.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    method: String,
    target: Uri,
    hosts: Vec<Vec<u8>>,
    body: Vec<u8>,
    /// Whether its body is complete.
    whole: bool,
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, rest)) = bytes.split_first() else { return };
    let text: Vec<u8> = if choice & 1 == 0 {
        rest.to_vec()
    } else {
        rest.iter().flat_map(|&byte| PIECES[usize::from(byte) % PIECES.len()].bytes()).collect()
    };
    let size = usize::from(choice >> 1) + 1;
    let passed = Rc::new(RefCell::new(Vec::new()));
    let theirs = hyper_reads(&text, size, &passed);
    let passed = passed.borrow();
    assert!(begins_with(&text, &passed), "bytes are changed");
    let ours = plainly(&passed);
    for (index, read) in theirs.iter().enumerate() {
        let Some(expected) = ours.get(index) else { panic!("it reads one more request: {read:?}") };
        let heads = |it: &Read| (it.method.clone(), it.target.clone(), it.hosts.clone());
        assert_eq!(heads(read), heads(expected), "request {index}");
        if read.whole {
            assert!(expected.whole, "request {index} ends for it, and not by its length: {read:?} {expected:?}");
            assert_eq!(read.body, expected.body, "request {index}");
        } else {
            assert!(expected.body.starts_with(&read.body), "request {index}");
        }
    }
});

/// Whether a text begins with what has passed, in which some bytes are encoded.
fn begins_with(mut text: &[u8], mut passed: &[u8]) -> bool {
    while let Some((first, rest)) = passed.split_first() {
        let Some((byte, behind)) = text.split_first() else { return false };
        passed = match raw_query::escape(*byte).and_then(|escape| passed.strip_prefix(escape)) {
            Some(rest) => rest,
            None if byte == first => rest,
            // The end of an escape may be missing.
            None => return raw_query::escape(*byte).is_some_and(|escape| escape.starts_with(passed)),
        };
        text = behind;
    }
    true
}

/// An end of a connection: the bytes arrive in pieces of one size, and what is answered is forgotten.
struct Feed {
    rest: Vec<u8>,
    size: usize,
}

impl AsyncRead for Feed {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let length = self.size.min(self.rest.len()).min(buffer.remaining());
        let piece: Vec<u8> = self.rest.drain(..length).collect();
        buffer.put_slice(&piece);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Feed {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Notes what passes the check.
struct Noted<S> {
    inner: S,
    passed: Rc<RefCell<Vec<u8>>>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Noted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(context, buffer);
        self.passed.borrow_mut().extend_from_slice(&buffer.filled()[before..]);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Noted<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

/// The requests that hyper reads of what the check lets through.
fn hyper_reads(text: &[u8], size: usize, passed: &Rc<RefCell<Vec<u8>>>) -> Vec<Read> {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().build().expect("it needs nothing");
    }
    let read = Rc::new(RefCell::new(Vec::new()));
    let service = service_fn(|request: Request<Incoming>| {
        let read = read.clone();
        async move {
            let hosts = request.headers().get_all(HOST).iter().map(|value| value.as_bytes().to_vec()).collect();
            let (method, target) = (request.method().to_string(), request.uri().clone());
            let (mut body, mut bytes, mut whole) = (request.into_body(), Vec::new(), true);
            while let Some(frame) = body.frame().await {
                match frame {
                    Ok(frame) => bytes.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data)),
                    Err(_) => {
                        whole = false;
                        break;
                    }
                }
            }
            read.borrow_mut().push(Read { method, target, hosts, body: bytes, whole });
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let (strict, _, _) = Strict::new(Feed { rest: text.to_vec(), size }, false);
    let connection = TokioIo::new(Noted { inner: strict, passed: passed.clone() });
    let _ = RUNTIME.with(|runtime| runtime.block_on(http1::Builder::new().serve_connection(connection, service)));
    read.take()
}

/// The requests of a text, read as RFC 9112 says and no more: what is not well-formed ends it.
fn plainly(text: &[u8]) -> Vec<Read> {
    let (mut all, mut rest) = (Vec::new(), text);
    while let Some((read, left)) = request(rest) {
        let ends = !read.whole || read.method == "CONNECT";
        all.push(read);
        rest = left;
        if ends {
            break;
        }
    }
    all
}

fn line<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    let line = &rest[..end];
    *rest = &rest[end + 2..];
    Some(line)
}

fn request(mut rest: &[u8]) -> Option<(Read, &[u8])> {
    let first = std::str::from_utf8(line(&mut rest)?).ok()?;
    let mut words = first.split(' ');
    let (method, target) = (Method::from_bytes(words.next()?.as_bytes()).ok()?, words.next()?);
    let target = if method == Method::CONNECT && !target.contains('/') {
        let authority = target.parse().ok()?;
        Uri::builder().authority::<hyper::http::uri::Authority>(authority).build().ok()?
    } else {
        target.parse().ok()?
    };
    let (mut hosts, mut length, mut chunked) = (Vec::new(), 0_u64, false);
    loop {
        let field = line(&mut rest)?;
        if field.is_empty() {
            break;
        }
        let colon = field.iter().position(|byte| *byte == b':')?;
        let (name, value) = (field[..colon].to_ascii_lowercase(), field[colon + 1..].trim_ascii());
        match &name[..] {
            b"host" => hosts.push(value.to_vec()),
            b"content-length" => length = std::str::from_utf8(value).ok()?.parse().ok()?,
            b"transfer-encoding" => chunked = true,
            _ => {}
        }
    }
    let mut read = Read { method: method.to_string(), target, hosts, body: Vec::new(), whole: true };
    if method == Method::CONNECT {
        return Some((read, rest));
    }
    if !chunked {
        let taken = rest.len().min(usize::try_from(length).unwrap_or(usize::MAX));
        read.body = rest[..taken].to_vec();
        read.whole = taken as u64 == length;
        return Some((read, &rest[taken..]));
    }
    read.whole = chunks(&mut rest, &mut read.body).is_some();
    Some((read, rest))
}

/// Reads chunks and trailers; `None` if they do not end.
fn chunks(rest: &mut &[u8], body: &mut Vec<u8>) -> Option<()> {
    loop {
        let size = std::str::from_utf8(line(rest)?).ok()?;
        let size = usize::try_from(u64::from_str_radix(size, 16).ok()?).ok()?;
        if size == 0 {
            while !line(rest)?.is_empty() {}
            return Some(());
        }
        body.extend_from_slice(&rest[..size.min(rest.len())]);
        *rest = rest.get(size..)?;
        if !line(rest)?.is_empty() {
            return None;
        }
    }
}
