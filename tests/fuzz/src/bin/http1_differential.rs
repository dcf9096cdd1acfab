//! HTTP/1.1 that egress lets through to its parser: the parser reads the requests that a plain reading of RFC 9112 finds, with the
//! same method, target, host and body, and the next one begins at the same byte. It may read fewer; it invents none.

#![no_main]

#[path = "../plain_reading.rs"]
mod plain_reading;
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
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use libfuzzer_sys::fuzz_target;
use plain_reading::{Read, plainly, text_of};
use strict::Strict;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

fuzz_target!(|bytes: &[u8]| {
    let Some((text, size)) = text_of(bytes) else { return };
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
