//! Bodies that stall, and responses that nobody reads: each ends, and blocks no other request.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio_rustls::client::TlsStream;

use super::after_connect_tests::{STREAMS, World, gzip};
use super::capacity::{TIMEOUTS, Timeouts};

const HOST: &str = "api.example.com";
/// A timeout that the test lets expire.
const SHORT: Duration = Duration::from_millis(500);

async fn begin(world: &World, bytes: &[u8]) -> TlsStream<UnixStream> {
    let mut stream = world.tls(HOST).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream.flush().await.unwrap();
    stream
}

/// A response up to the end of its one line: egress still waits for the rest of the request.
async fn refusal(stream: &mut TlsStream<UnixStream>) -> String {
    let mut answer = Vec::new();
    while !answer.ends_with(b"}\n") {
        match stream.read_u8().await {
            Ok(byte) => answer.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// Bodies of every kind that stop before their end: a name, and the bytes of the request.
fn stalled(port: u16) -> Vec<(&'static str, Vec<u8>)> {
    let head = |more: &str| format!("POST / HTTP/1.1\r\nHost: {HOST}:{port}\r\nConnection: close\r\n{more}\r\n");
    let long = 20 << 20;
    let body = |more: &str, body: &[u8]| [head(more).as_bytes(), body].concat();
    let message = [&[0][..], &1000_u32.to_be_bytes(), b"some"].concat();
    vec![
        ("gzip", body("Content-Encoding: gzip\r\nContent-Length: 1000000\r\n", &gzip(b"hello"))),
        ("gzip again", body("Content-Encoding: gzip\r\nContent-Length: 1000000\r\n", b"")),
        ("gzip in chunks", body("Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", b"5\r\nhello\r\n")),
        ("a long one", body(&format!("Content-Length: {long}\r\n"), &vec![b'x'; 1 << 20])),
        (
            "a long one of S3",
            body(&format!("Content-Encoding: aws-chunked\r\nContent-Length: {long}\r\n"), b"5\r\nhello\r\n"),
        ),
        (
            "a message of gRPC",
            body(
                "Content-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n",
                &[b"9\r\n", &message[..], b"\r\n"].concat(),
            ),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_15_a_body_that_does_not_go_on_ends_and_holds_up_no_other() {
    for times in [Timeouts { stall: SHORT, ..TIMEOUTS }, Timeouts { whole: SHORT, ..TIMEOUTS }] {
        let world = World::patient(&["h2"], |table| table, times).await;
        let mut begun = Vec::new();
        for (name, bytes) in stalled(world.port) {
            // Only bodies that are inspected as a whole have a total time limit.
            if times.whole == SHORT && !name.starts_with("gzip") {
                continue;
            }
            begun.push((name, begin(&world, &bytes).await));
        }
        let answer = world.post("Content-Encoding: gzip\r\n", &gzip(b"hello")).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        for (name, stream) in &mut begun {
            let answer = refusal(stream).await;
            assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("\"stalled\""), "{name}: {answer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_15_answers_that_nobody_reads_hold_up_no_other() {
    let world = World::patient(&["h2"], |table| table, Timeouts { unread: SHORT, ..TIMEOUTS }).await;
    let request = format!("GET /endless HTTP/1.1\r\nHost: {HOST}:{}\r\n\r\n", world.port);
    // As many as the destination serves concurrently, each started before the next.
    let mut unread = Vec::new();
    for _ in 0..STREAMS {
        let mut stream = begin(&world, request.as_bytes()).await;
        assert_eq!(stream.read_u8().await.unwrap(), b'H');
        unread.push(stream);
    }
    for _ in 0..3 {
        let answer = world.post("", b"hello").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    let decisions = world.egress.stats().decisions;
    let ended = decisions.iter().find(|row| row.code == "unread").map_or(0, |row| row.count);
    assert!((1..=u64::from(STREAMS) - 32).contains(&ended), "{ended} have ended");
    // One of the rest still works.
    let mut last = unread.pop().unwrap();
    last.read_exact(&mut vec![0; 4 << 20]).await.unwrap();
}
