//! Masking at the wire: towards a host with `scan: mask`, no value arrives, and the rest of a body does, byte for byte and with
//! the same length, whatever the framing and however it is cut; what cannot be masked is refused, as at other hosts.

use std::convert::Infallible;

use bottler::scan::crc32_base62;
use bottler::sidecar::egress::Ask;
use bottler::sidecar::{Action, CommandOutcome};
use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::attempt::{Attempt, HOST, How, http2, inside, run};
use crate::lab::{Lab, PATIENCE, PUBLIC, in_namespace};
use crate::secrets::{SECRET, gzip, token};

const OTHER: &str = "other.example.com";

async fn lab() -> Lab {
    let spec = format!("allow: [{{host: {HOST}, scan: mask}}, {OTHER}]");
    Lab::new(&spec, &[(HOST, vec![PUBLIC]), (OTHER, vec![PUBLIC])].into(), &[SECRET]).await
}

/// How a body is sent.
#[derive(Debug, Clone, Copy)]
enum Way {
    Length,
    Chunked,
    Http2,
    WebSocket,
}

const WAYS: [Way; 4] = [Way::Length, Way::Chunked, Way::Http2, Way::WebSocket];

/// Sends a body in pieces; returns what has arrived of it.
async fn deliver(lab: &Lab, way: Way, kind: &'static str, pieces: &[&[u8]]) -> Vec<u8> {
    let head = |more: &str| {
        format!("POST /v1 HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\nContent-Type: {kind}\r\n{more}\r\n\r\n")
    };
    let length: usize = pieces.iter().map(|piece| piece.len()).sum();
    let answer = match way {
        Way::WebSocket => return message(lab, pieces).await,
        Way::Http2 => {
            let frames: Vec<Result<_, Infallible>> =
                pieces.iter().map(|piece| Ok(Frame::data(Bytes::copy_from_slice(piece)))).collect();
            let body = BodyExt::boxed(StreamBody::new(futures_util::stream::iter(frames)));
            http2(lab, "POST", format!("https://{HOST}/v1"), vec![("content-type", kind.to_owned())], body).await
        }
        Way::Length | Way::Chunked => {
            let is_chunked = matches!(way, Way::Chunked);
            let framing =
                if is_chunked { "Transfer-Encoding: chunked".to_owned() } else { format!("Content-Length: {length}") };
            let mut stream = lab.tls(&format!("{HOST}:443"), HOST, false).await.unwrap();
            stream.write_all(head(&framing).as_bytes()).await.unwrap();
            for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
                let framed = [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
                stream.write_all(if is_chunked { &framed } else { piece }).await.unwrap();
                stream.flush().await.unwrap();
            }
            if is_chunked {
                stream.write_all(b"0\r\n\r\n").await.unwrap();
            }
            let mut answer = Vec::new();
            let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it answers");
            String::from_utf8_lossy(&answer).into_owned()
        }
    };
    assert!(answer.ends_with("here"), "{way:?}: {answer}");
    lab.seen.lock().unwrap().requests.pop().unwrap().strip_prefix("POST /v1 ").unwrap().as_bytes().to_vec()
}

/// A frame of a client, with a key of zeros.
fn frame(first: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    let head = match u8::try_from(content.len()) {
        Ok(short @ ..=125) => vec![first, 0x80 | short],
        _ => vec![first, 0x80 | 0x7e, length[0], length[1]],
    };
    [&head[..], &[0; 4], content].concat()
}

/// The content of a frame that has arrived as a whole.
fn content(wire: &[u8]) -> Option<Vec<u8>> {
    let (length, from) = match wire.get(1)? & 0x7f {
        126 => (usize::from(u16::from_be_bytes([*wire.get(2)?, *wire.get(3)?])), 4),
        short => (usize::from(short), 2),
    };
    let key: [u8; 4] = wire.get(from..from + 4)?.try_into().ok()?;
    let masked = wire.get(from + 4..from + 4 + length)?;
    Some(masked.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect())
}

/// Sends a message of a WebSocket in frames; returns the message that has arrived.
async fn message(lab: &Lab, pieces: &[&[u8]]) -> Vec<u8> {
    let mut stream = lab.tls(&format!("{HOST}:443"), HOST, false).await.unwrap();
    let handshake = format!(
        "GET /socket HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(handshake.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    lab.seen.lock().unwrap().bytes.clear();
    for (index, piece) in pieces.iter().enumerate() {
        let opcode = u8::from(index == 0);
        let fin = if index + 1 == pieces.len() { 0x80 } else { 0 };
        stream.write_all(&frame(fin | opcode, piece)).await.unwrap();
        stream.flush().await.unwrap();
    }
    let arrived = async {
        loop {
            if let Some(content) = content(&lab.seen.lock().unwrap().bytes) {
                return content;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, arrived).await.expect("the message arrives")
}

#[test]
fn promise_09_a_value_is_masked_in_every_framing_wherever_it_is_cut() {
    if in_namespace("masking::promise_09_a_value_is_masked_in_every_framing_wherever_it_is_cut") {
        cut();
    }
}

#[tokio::main]
async fn cut() {
    let mut lab = lab().await;
    for value in [token(), SECRET.to_owned()] {
        let body = |value: &str| format!("{{\"role\":\"user\",\"content\":\"keys:\\n{value}\\nand more\"}}");
        let (body, expected) = (body(&value), body(&"*".repeat(value.len())));
        let at = body.find(&value).unwrap();
        for way in WAYS {
            for cut in at..=at + value.len() {
                let pieces = [&body.as_bytes()[..cut], &body.as_bytes()[cut..]];
                let arrived = deliver(&lab, way, "application/json", &pieces).await;
                assert_eq!(String::from_utf8_lossy(&arrived), expected, "{way:?} {cut}");
            }
            let bytes: Vec<&[u8]> = body.as_bytes().chunks(1).collect();
            let arrived = deliver(&lab, way, "application/json", &bytes).await;
            assert_eq!(String::from_utf8_lossy(&arrived), expected, "{way:?} byte by byte");
        }
    }
    // What was masked is told and counted: the rule, the host and the fingerprint, and never the value.
    let events = lab.decisions().await;
    let masked: Vec<_> = events.iter().filter(|event| event.kind.decision == "mask").collect();
    assert!(!masked.is_empty() && masked.iter().all(|event| event.kind.code == "secret_masked"), "{events:?}");
    assert!(masked.iter().all(|event| event.kind.destination == format!("{HOST}:443")), "{masked:?}");
    for words in ["github-token:", "known-secret was masked"] {
        assert!(masked.iter().any(|event| event.kind.reason.contains(words)), "{words}: {masked:?}");
    }
    assert!(!lab.told.contains(&token()) && !lab.told.contains(SECRET) && !lab.told.contains("secret_found"));
    let CommandOutcome::Answer(stats) = lab.ctl(Action::Ask(Ask::Stats)).await else { panic!("it counts") };
    let row = stats.decisions.iter().find(|row| row.decision == "mask").unwrap();
    let messages = 4 * (token().len() + SECRET.len() + 2 + 2);
    assert_eq!((row.code.as_str(), row.count), ("secret_masked", messages as u64));
}

fn grpc(message: &[u8]) -> Vec<u8> {
    [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

/// A field of a protobuf message.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, u8::try_from(content.len()).unwrap()][..], content].concat()
}

/// Numbers that look random, the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }

    fn letters(&mut self, alphabet: &str, count: usize) -> String {
        let alphabet: Vec<char> = alphabet.chars().collect();
        (0..count).map(|_| alphabet[self.below(alphabet.len())]).collect()
    }

    fn token(&mut self) -> String {
        let all = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        if self.below(2) == 0 {
            // The numerals of base 32, so that it has enough different ones.
            return format!("AKIA{}", self.letters("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 4) + "QYLPMN5HHZXV");
        }
        let text = self.letters(all, 30);
        format!("ghp_{text}{}", String::from_utf8(crc32_base62(text.as_bytes()).to_vec()).unwrap())
    }
}

#[test]
fn promise_09_whatever_carries_a_value_the_rest_of_it_arrives_and_the_value_does_not() {
    if in_namespace("masking::promise_09_whatever_carries_a_value_the_rest_of_it_arrives_and_the_value_does_not") {
        carried();
    }
}

#[tokio::main]
async fn carried() {
    let (lab, mut numbers) = (lab().await, Numbers(20_261_130));
    for round in 0..240 {
        let value = if numbers.below(3) == 0 { SECRET.to_owned() } else { numbers.token() };
        let (carrier, way) = (numbers.below(7), WAYS[numbers.below(4)]);
        let [before, after] = [40, 40].map(|most| {
            let count = numbers.below(most);
            numbers.letters("abc xyz.,;", count)
        });
        let quoted = |text: &str| serde_json::to_string(&serde_json::json!({ "a": text, "b": [1, "c"] })).unwrap();
        let build = |value: &str| -> (&str, Vec<u8>) {
            let text = format!("{before}\n{value} {after}");
            let (kind, body) = match carrier {
                0 => ("text/plain", text),
                1 => ("application/json", quoted(&text)),
                2 => ("application/json", quoted(&quoted(&text))),
                3 => ("text/event-stream", format!("data: {}\n\n", quoted(&text))),
                4 => ("application/x-www-form-urlencoded", format!("a=1&b={}&c=2", text.replace(['\n', ' '], "+"))),
                5 => {
                    let part = "Content-Disposition: form-data; name=\"file\"; filename=\"keys\"";
                    let kind = "multipart/form-data; boundary=b0undary";
                    (kind, format!("--b0undary\r\n{part}\r\n\r\n{text}\r\n--b0undary--\r\n"))
                }
                _ => {
                    let inner = [field(1, b"user"), field(2, text.as_bytes()), vec![3 << 3, 7]].concat();
                    return ("application/grpc", grpc(&field(1, &inner)));
                }
            };
            (kind, body.into_bytes())
        };
        // A form's secret is written with the escapes that it needs there.
        let value = if carrier == 4 { value.replace('/', "%2F").replace('+', "%2B") } else { value };
        let ((kind, body), (_, expected)) = (build(&value), build(&"*".repeat(value.len())));
        let way = if carrier == 6 { Way::Http2 } else { way };
        let mut cuts: Vec<usize> = (0..numbers.below(6)).map(|_| numbers.below(body.len())).collect();
        cuts.extend([0, body.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &body[pair[0]..pair[1]]).collect();
        let kind: &'static str = match carrier {
            0 => "text/plain",
            1 | 2 => "application/json",
            3 => "text/event-stream",
            _ => {
                let all =
                    ["application/x-www-form-urlencoded", "multipart/form-data; boundary=b0undary", "application/grpc"];
                all.into_iter().find(|known| *known == kind).unwrap()
            }
        };
        let arrived = deliver(&lab, way, kind, &pieces).await;
        let [arrived, expected] = [&arrived, &expected].map(|bytes| String::from_utf8_lossy(bytes));
        assert_eq!(arrived, expected, "{round}: {way:?} {kind} {pieces:?}");
    }
}

#[test]
fn promise_09_what_cannot_be_masked_is_refused() {
    if in_namespace("masking::promise_09_what_cannot_be_masked_is_refused") {
        refused();
    }
}

#[tokio::main]
async fn refused() {
    let mut lab = lab().await;
    let post = |name: &'static str, head: &str, body: &[u8]| {
        let head = format!(
            "POST /v1 HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n{head}Content-Length: {}\r\n\r\n",
            body.len()
        );
        inside(name, [head.as_bytes(), body].concat(), "secret_found")
    };
    let line = |line: &str, more: &str| format!("{line} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n{more}\r\n");
    let base64 = data_encoding::BASE64.encode(format!("a key: {} and more", token()).as_bytes());
    let halves = format!("[\"{}\",\"{}\"]", &SECRET[..10], &SECRET[10..]);
    let long = format!("{}{SECRET}{}", "a line\n".repeat(1_300_000), "a line\n".repeat(100));
    let chunks = format!("1\r\na\r\n0\r\nx-note: {SECRET}\r\n\r\n");
    let grpc = vec![("content-type", "application/grpc".to_owned()), ("grpc-encoding", "gzip".to_owned())];
    let mut compressed = self::grpc(&gzip(token().as_bytes()));
    compressed[0] = 1;
    let attempts = vec![
        inside("in a header", line("GET /", &format!("X-Note: {}\r\n", token())), "secret_found"),
        inside("in a path", line(&format!("GET /{}", token()), ""), "secret_found"),
        inside("in a query", line(&format!("GET /?a={SECRET}"), ""), "secret_found"),
        inside("in a trailer", line("POST /", "Transfer-Encoding: chunked\r\n") + &chunks, "secret_found"),
        post("compressed", "Content-Encoding: gzip\r\n", &gzip(token().as_bytes())),
        post("compressed, and it does not say so", "", &gzip(SECRET.as_bytes())),
        post("in base64", "", base64.as_bytes()),
        post("in pieces", "Content-Type: application/json\r\n", halves.as_bytes()),
        post("in a number of JSON", "Content-Type: application/json\r\n", format!("[{}]", token()).as_bytes()),
        post(
            "in the head of a part",
            "Content-Type: multipart/form-data; boundary=b\r\n",
            format!("--b\r\nX-Note: {}\r\n\r\nx\r\n--b--\r\n", token()).as_bytes(),
        ),
        post("in a body of which a part has left", "", long.as_bytes()),
        Attempt {
            name: "in a message of gRPC that is compressed",
            how: How::Stream(format!("https://{HOST}/s/m"), grpc, compressed),
            expected: "secret_found",
        },
    ];
    // gRPC clients read a message, and not JSON.
    let (grpc, attempts): (Vec<_>, Vec<_>) = attempts.into_iter().partition(|attempt| attempt.name.contains("gRPC"));
    run(&mut lab, attempts).await;
    for Attempt { name, how, .. } in grpc {
        let How::Stream(uri, headers, body) = how else { unreachable!("it is a stream") };
        let frames: Vec<Result<_, Infallible>> = vec![Ok(Frame::data(Bytes::from(body)))];
        let body = BodyExt::boxed(StreamBody::new(futures_util::stream::iter(frames)));
        let arrived = lab.arrived().1;
        http2(&lab, "POST", uri, headers, body).await;
        lab.until_refused(name, Some("secret_found")).await;
        assert_eq!(lab.arrived().1, arrived, "{name}");
    }
    // The refusal says why it was not masked.
    let request = |host: &str, head: &str, body: &[u8]| {
        let head = format!(
            "POST /v1 HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{head}Content-Length: {}\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), body].concat()
    };
    let answer = lab.inside(HOST, &request(HOST, "Content-Encoding: gzip\r\n", &gzip(token().as_bytes()))).await;
    assert!(answer.contains("in its compressed body, where it cannot be masked"), "{answer}");
    let answer = lab.inside(HOST, &request(HOST, "", base64.as_bytes())).await;
    assert!(answer.contains("in its body, where it cannot be masked"), "{answer}");
    // At other hosts nothing is masked.
    let answer = lab.inside(OTHER, &request(OTHER, "", token().as_bytes())).await;
    assert!(answer.contains("secret_found") && !answer.contains("cannot be masked"), "{answer}");
    let nothing = lab.seen.lock().unwrap();
    let all = nothing.requests.concat() + &nothing.heads.concat();
    assert!(!all.contains(&token()) && !all.contains(SECRET), "{all:.2000}");
}
