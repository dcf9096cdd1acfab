//! The limits of heads, handshakes, messages and bodies: what is at the limit passes, and what is beyond it does not.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http_body_util::Full;
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use super::after_connect_tests::{HOST, World};
use super::buffered::MAX_WHOLE;
use super::connection_permit::ConnectionPermit;
use super::http;
use super::request::HEAD;
use super::strict::{MAX_HEAD, MAX_HEADERS};
use super::tests::{ask, egress, keep_alive, status};
use crate::policy::{AllowTable, Tls};

/// How long a client may take for its first message, and for the handshake after it.
const HANDSHAKE: Duration = super::after_connect::HANDSHAKE;

/// The code of the refusal in a response, or its status.
fn code(answer: &str) -> &str {
    let code = answer.split_once("\"code\":\"").and_then(|(_, rest)| rest.split_once('"'));
    code.map_or_else(|| status(answer), |(code, _)| code)
}

#[tokio::test]
async fn promise_15_a_head_of_a_request_has_bounds() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let egress = egress(listener.local_addr().unwrap());
    crate::task::spawn(keep_alive(listener, std::sync::Arc::default()));
    let host = format!("upstream:{port}");
    let get = |path: &str, more: &str| {
        format!("GET http://{host}{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}\r\n")
    };
    let many = |count: usize| get("/", &"X: 1\r\n".repeat(count - 2));
    let long = |size: usize| {
        let lines = "X: ".to_owned() + &"y".repeat(20_000) + "\r\n";
        let rest = size - get("/", &lines.repeat(3)).len() - 5;
        get("/", &format!("{}Z: {}\r\n", lines.repeat(3), "z".repeat(rest)))
    };
    let path = |length: usize| get(&format!("/{}", "p".repeat(length - 1)), "");
    assert_eq!(long(MAX_HEAD).len(), MAX_HEAD);
    for (name, request, expected) in [
        ("so many headers", many(MAX_HEADERS), "204"),
        ("one more header", many(MAX_HEADERS + 1), "bad_request"),
        ("so long", long(MAX_HEAD), "204"),
        ("a byte longer", long(MAX_HEAD + 1), "bad_request"),
        ("such a path", path(32 << 10), "204"),
        ("a longer path", path((32 << 10) + 1), "bad_path"),
    ] {
        let answer = ask(&egress, request.as_bytes()).await;
        assert_eq!(code(&answer), expected, "{name}: {answer}");
        assert!(expected == "204" || status(&answer) == "400", "{name}: {answer}");
    }
    let stats = egress.stats().decisions;
    let refused = stats.iter().filter(|row| row.decision == "refuse").map(|row| row.count).sum::<u64>();
    assert_eq!(refused, 3, "each is in the audit log");
}

#[tokio::test]
async fn promise_15_a_head_over_http_2_has_bounds() {
    let world = World::with(&["h2"], |table| table).await;
    for (count, expected) in [(MAX_HEADERS, 200), (MAX_HEADERS + 1, 400)] {
        let stream = world.tls(HOST).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        let connection = crate::task::spawn(connection);
        let mut request = Request::get(format!("https://{HOST}:{}/", world.port));
        for number in 0..count {
            request = request.header(format!("x-{number}"), "1");
        }
        let answer = sender.send_request(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), expected, "{count} headers");
        connection.abort();
    }
    // Longer ones are refused by the parser.
    let stream = world.tls(HOST).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    crate::task::spawn(connection);
    for (size, expected) in [(15_000, 200), (17_000, 431)] {
        let mut request = Request::get(format!("https://{HOST}:{}/", world.port));
        for _ in 0..4 {
            request = request.header("x", "y".repeat(size));
        }
        let answer = sender.send_request(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), expected, "4 × {size} bytes");
    }
    // What clients are told (RFC 9113, section 6.5.2): they wait, and send no longer heads.
    let mut stream = world.tls(HOST).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(head[3], 4, "SETTINGS");
    let mut settings = vec![0; usize::from(head[2])];
    stream.read_exact(&mut settings).await.unwrap();
    let setting = |id: u8| {
        let found = settings.as_chunks::<6>().0.iter().find(|setting| setting[..2] == [0, id]);
        found.map(|setting| u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]))
    };
    assert_eq!(setting(3), Some(super::after_connect::MAX_STREAMS), "concurrent streams");
    assert_eq!(setting(6), Some(u32::try_from(MAX_HEAD).unwrap()), "the size of a list of headers");
}

/// Reads to the end, and returns how long that took.
async fn until_closed(mut stream: impl tokio::io::AsyncRead + Unpin) -> (String, Duration) {
    let began = Instant::now();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    (String::from_utf8_lossy(&answer).into_owned(), began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn promise_15_a_head_has_so_long_to_arrive() {
    let egress = egress("127.0.0.1:9".parse().unwrap());
    let (mut near, far) = UnixStream::pair().unwrap();
    let permit = ConnectionPermit::new(&egress, None);
    crate::task::spawn(http::serve(Box::new(far), egress.clone(), permit));
    near.write_all(b"GET http://upstream/ HTTP/1.1\r\nHost: ups").await.unwrap();
    let (_, took) = until_closed(near).await;
    assert!((HEAD..HEAD + Duration::from_secs(1)).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn promise_15_a_handshake_has_so_long_to_arrive() {
    for tls in [Tls::Intercept, Tls::Tunnel] {
        let world = World::with(&[], |table| AllowTable { tls: Some(tls), ..table }).await;
        for first in [&b""[..], b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"] {
            let mut stream = world.connect().await;
            stream.write_all(first).await.unwrap();
            let (_, took) = until_closed(stream).await;
            assert!((HANDSHAKE..HANDSHAKE + Duration::from_secs(1)).contains(&took), "{tls:?} {first:?}: {took:?}");
        }
        let refused = world.egress.stats().decisions;
        let refused = refused.iter().find(|row| row.code == "not_tls").map(|row| row.count);
        assert_eq!(refused, Some(2), "{tls:?}");
    }
}

/// A first message in records of TLS, which says that it is so long (RFC 8446, sections 4 and 5.1).
fn hello(length: u32) -> Vec<u8> {
    let message = [&[1][..], &length.to_be_bytes()[1..], &vec![3; length as usize]].concat();
    let record = |part: &[u8]| [&[0x16, 3, 1][..], &u16::try_from(part.len()).unwrap().to_be_bytes(), part].concat();
    message.chunks(16_000).flat_map(record).collect()
}

#[tokio::test]
async fn promise_15_a_first_message_has_a_bound() {
    for tls in [Tls::Intercept, Tls::Tunnel] {
        let world = World::with(&[], |table| AllowTable { tls: Some(tls), ..table }).await;
        for (length, whole) in [(60_000, false), (70_000, false), (70_000, true)] {
            let mut stream = world.connect().await;
            let bytes = hello(length);
            // A message that is not whole is waited for, unless it is too long.
            let bytes = if whole { &bytes[..] } else { &bytes[..bytes.len() - 1] };
            let _ = stream.write_all(bytes).await;
            let closed = tokio::time::timeout(Duration::from_millis(300), until_closed(stream)).await.is_ok();
            assert_eq!(closed, length > 65_536, "{tls:?} {length} {whole}");
        }
        assert_eq!(world.received(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn promise_15_the_headers_of_a_response_have_bounds() {
    for (count, expected) in [(MAX_HEADERS, "200"), (MAX_HEADERS + 1, "unreachable")] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let egress = egress(address);
        crate::task::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let many = "X: 1\r\n".repeat(count - 1);
            let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{many}\r\nok").as_bytes()).await;
            let _ = stream.read(&mut [0; 1]).await;
        });
        let host = format!("upstream:{}", address.port());
        let answer = ask(&egress, format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).await;
        assert_eq!(code(&answer), expected, "{count}: {answer}");
        assert!(expected == "200" || status(&answer) == "502", "{answer}");
    }
    let world = World::with(&["h2"], |table| table).await;
    let most = super::snapshot::MAX_HEADER_LIST;
    // The parser takes what is less.
    for (size, expected) in [(most - 1, "200"), (most, "unreachable")] {
        let head = format!("GET /headers/{size} HTTP/1.1\r\nHost: {HOST}:{}\r\nConnection: close\r\n\r\n", world.port);
        let answer = world.ask(head.as_bytes()).await;
        assert_eq!(code(&answer), expected, "{size}: {answer:.300}");
    }
}

#[tokio::test]
async fn promise_15_so_many_interim_responses_are_taken() {
    let most = usize::try_from(super::interim::MAX_INTERIM).unwrap();
    for (count, expected) in [(most, "200"), (most + 1, "unreachable")] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let egress = egress(address);
        crate::task::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let interim = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(count);
            let _ = stream.write_all(interim.as_bytes()).await;
            if count == most {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            }
            let _ = stream.read(&mut [0; 1]).await;
        });
        let host = format!("upstream:{}", address.port());
        let answer = ask(&egress, format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).await;
        assert_eq!(code(&answer), expected, "{count}: {answer}");
    }
}

/// A body of gzip that is so long (RFC 1951, section 3.2.4; RFC 1952, section 2.3): text that is only stored.
fn stored(length: usize) -> Vec<u8> {
    const BLOCK: usize = 60_000;
    let blocks = (length - 18).div_ceil(BLOCK + 5);
    let text = b"just text, ".iter().copied().cycle().take(length - 18 - 5 * blocks).collect::<Vec<_>>();
    let mut bytes = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let mut pieces = text.chunks(BLOCK).peekable();
    while let Some(piece) = pieces.next() {
        let size = u16::try_from(piece.len()).unwrap();
        bytes.push(u8::from(pieces.peek().is_none()));
        bytes.extend_from_slice(&size.to_le_bytes());
        bytes.extend_from_slice(&(!size).to_le_bytes());
        bytes.extend_from_slice(piece);
    }
    let mut crc = flate2::Crc::new();
    crc.update(&text);
    bytes.extend_from_slice(&crc.sum().to_le_bytes());
    bytes.extend_from_slice(&crc.amount().to_le_bytes());
    assert_eq!(bytes.len(), length);
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_15_a_body_with_an_encoding_has_a_bound() {
    let world = World::new().await;
    for (length, expected) in [(MAX_WHOLE, "200"), (MAX_WHOLE + 1, "not_decoded")] {
        let answer = world.post("Content-Encoding: gzip\r\n", &stored(length)).await;
        assert_eq!(code(&answer), expected, "{length}: {answer}");
        // The same where the length is not said before.
        let head = format!("POST / HTTP/1.1\r\nHost: {HOST}:{}\r\nConnection: close\r\n", world.port);
        let head = format!("{head}Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n");
        let answer = world.ask(&[head.as_bytes(), &stored(length), b"\r\n0\r\n\r\n"].concat()).await;
        assert_eq!(code(&answer), expected, "{length}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_15_a_message_of_a_web_socket_has_a_bound() {
    let most = super::websocket::MAX_MESSAGE;
    let world = World::new().await;
    let connect = async || {
        let url = format!("wss://{HOST}:{}/chat", world.port);
        let tls = world.tls(HOST).await.unwrap();
        tokio_tungstenite::client_async(url, tls).await.unwrap().0
    };
    let text: String = "just text, ".chars().cycle().take(most).collect();
    let mut stream = connect().await;
    stream.send(Message::text(text.clone())).await.unwrap();
    let Some(Ok(Message::Text(back))) = stream.next().await else { panic!("it does not come back") };
    assert_eq!(back.len(), most);
    // In one frame, and in two: it ends as soon as it is known to be too long.
    for frames in [vec![(0x81, most + 1)], vec![(0x01, 1), (0x80, most)]] {
        let mut stream = connect().await;
        for (first, length) in frames {
            let mut frame = vec![first, 0xff];
            if length < 126 {
                frame[1] = 0x80 | u8::try_from(length).unwrap();
            } else {
                frame.extend_from_slice(&(length as u64).to_be_bytes());
            }
            frame.extend_from_slice(&[0; 4]);
            if length < 126 {
                frame.extend_from_slice(&vec![b'x'; length]);
            }
            stream.get_mut().write_all(&frame).await.unwrap();
            stream.get_mut().flush().await.unwrap();
        }
        let Some(Ok(Message::Close(Some(frame)))) = stream.next().await else { panic!("it is not closed") };
        assert!(frame.reason.contains("not_decoded"), "{}", frame.reason);
    }
    assert_eq!(world.received().len(), 1 + 1 + 2, "the handshakes, and one message");
}
