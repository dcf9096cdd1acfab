//! One attempt: what is sent, and the expected result.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::Request;
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::lab::{Lab, PUBLIC};

/// The one host to which everything is allowed.
pub const HOST: &str = "api.example.com";

/// What is sent.
pub enum How {
    /// Bytes to the proxy.
    Raw(Vec<u8>),
    /// A CONNECT, and bytes after it if it is granted.
    After(&'static str, Vec<u8>),
    /// TLS with this name, after a CONNECT to the host.
    Name(&'static str),
    /// Bytes inside TLS.
    Inside(Vec<u8>),
    /// A request inside TLS for another host, whose CONNECT is granted so that the refusal can be read.
    At(&'static str),
    /// A request over HTTP/2 inside TLS: method, URI, headers, body.
    Http2(&'static str, String, Vec<(&'static str, String)>, Vec<u8>),
    /// A POST over HTTP/2 inside TLS, without a content length: URI, headers, body.
    Stream(String, Vec<(&'static str, String)>, Vec<u8>),
}

/// An attempt, and the code of its refusal; `closed` if the connection is closed silently.
pub struct Attempt {
    pub name: &'static str,
    pub how: How,
    pub expected: &'static str,
}

pub fn raw(name: &'static str, bytes: impl Into<Vec<u8>>, expected: &'static str) -> Attempt {
    Attempt { name, how: How::Raw(bytes.into()), expected }
}

pub fn inside(name: &'static str, bytes: impl Into<Vec<u8>>, expected: &'static str) -> Attempt {
    Attempt { name, how: How::Inside(bytes.into()), expected }
}

/// Shows that the way works, makes all attempts, and checks the receivers.
pub async fn run(lab: &mut Lab, attempts: Vec<Attempt>) {
    let fine = format!("GET /fine HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    let answer = lab.inside(HOST, fine.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("here"), "the way is not there: {answer}");
    lab.decisions().await;
    for Attempt { name, how, expected } in attempts {
        let before = lab.arrived();
        let answer = make(lab, how).await;
        let refused = answer.contains(&format!("\"code\":\"{expected}\""));
        let closed = expected == "closed" && !answer.contains("HTTP/1.1 200");
        assert!(refused || closed, "{name}: expected {expected}, got {answer:?} and {:?}", lab.decisions().await);
        lab.until_refused(name, if closed { None } else { Some(expected) }).await;
        let after = lab.arrived();
        assert_eq!(before.1, after.1, "{name}: a request has arrived: {:?}", lab.seen.lock().unwrap().requests);
        // There may be a connection to the allowed host on which no complete request was sent.
        let seen = lab.seen.lock().unwrap();
        let strangers = seen.connections.iter().filter(|at| at.to_string() != format!("{PUBLIC}:443")).count();
        assert_eq!(strangers, 0, "{name}: {:?}", seen.connections);
    }
}

async fn make(lab: &Lab, how: How) -> String {
    match how {
        How::Raw(bytes) => lab.raw(&bytes).await,
        How::After(authority, bytes) => match lab.connect(authority).await {
            Err(answer) => answer,
            Ok(mut stream) => {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
                let mut rest = Vec::new();
                let _ = stream.read_to_end(&mut rest).await;
                // At most a TLS alert is returned.
                assert!(rest.len() <= 7, "{}", String::from_utf8_lossy(&rest));
                String::new()
            }
        },
        How::Name(name) => match lab.tls(&format!("{HOST}:443"), name, false).await {
            Err(answer) => answer,
            Ok(_) => panic!("TLS with the name {name}"),
        },
        How::Inside(bytes) => lab.inside(HOST, &bytes).await,
        How::At(host) => lab.inside(host, format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).await,
        How::Stream(uri, headers, body) => {
            let frames =
                body.chunks(1000).map(|piece| Ok(Frame::data(Bytes::copy_from_slice(piece)))).collect::<Vec<_>>();
            let body = StreamBody::new(futures_util::stream::iter(frames));
            http2(lab, "POST", uri, headers, BodyExt::boxed(body)).await
        }
        How::Http2(method, uri, headers, body) => {
            http2(lab, method, uri, headers, BodyExt::boxed(Full::new(Bytes::from(body)))).await
        }
    }
}

pub async fn http2(
    lab: &Lab,
    method: &str,
    uri: String,
    headers: Vec<(&'static str, String)>,
    body: BoxBody<Bytes, Infallible>,
) -> String {
    let stream = lab.tls(&format!("{HOST}:443"), HOST, true).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(uri);
    for (header, value) in headers {
        request = request.header(header, value);
    }
    let request = request.body(body).unwrap();
    let answer = match sender.send_request(request).await {
        Err(error) => format!("HTTP/2: {error}"),
        Ok(answer) => {
            let body = BodyExt::collect(answer.into_body()).await;
            body.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned()).unwrap_or_default()
        }
    };
    drop(sender);
    connection.abort();
    answer
}
