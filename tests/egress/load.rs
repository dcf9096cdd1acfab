//! What a hostile agent would try to crash egress, in the memory of its container: every request of a flood is
//! answered or refused, and other requests are answered meanwhile.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::StreamBody;
use hyper::Request;
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::attempt::HOST;
use crate::lab::{FLOOD, Lab, PUBLIC, SINK, in_namespace};
use crate::secrets::{SECRET, gzip};
use bottler::sidecar::egress::Ask;
use bottler::sidecar::{Action, CommandOutcome};

/// The memory of egress' container, in bytes.
const MEMORY: u64 = 256 << 20;
/// How much of it may be used at most, in bytes.
const USED: u64 = 200 << 20;
/// How many connections do the same at once.
const MANY: usize = 24;
const SPEC: &str = "allow: ['api.example.com', 'api.example.com:8085', 'api.example.com:8086']";

/// A memory cgroup with one process; removed after its end.
struct Cage(PathBuf);

impl Cage {
    fn new(pid: u32) -> Self {
        let name = format!("bottler-test-{pid}");
        let (old, new) = (PathBuf::from("/sys/fs/cgroup/memory"), PathBuf::from("/sys/fs/cgroup"));
        let (folder, bound) =
            if old.is_dir() { (old.join(name), "memory.limit_in_bytes") } else { (new.join(name), "memory.max") };
        std::fs::create_dir(&folder).expect("this test makes a cgroup: it wants root, and cgroups that are writable");
        std::fs::write(folder.join(bound), MEMORY.to_string()).unwrap();
        std::fs::write(folder.join("cgroup.procs"), pid.to_string()).unwrap();
        Self(folder)
    }

    /// The peak memory, in bytes.
    fn most(&self) -> u64 {
        let read = |file: &str| std::fs::read_to_string(self.0.join(file)).ok();
        let text = read("memory.max_usage_in_bytes").or_else(|| read("memory.peak"));
        text.and_then(|text| text.trim().parse().ok()).unwrap_or_default()
    }
}

impl Drop for Cage {
    fn drop(&mut self) {
        // It is empty once the process has been reaped.
        for _ in 0..100 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

async fn lab() -> (Cage, Lab) {
    let lab = Lab::new(SPEC, &[(HOST, vec![PUBLIC])].into(), &[SECRET]).await;
    let cage = Cage::new(lab.child.id().unwrap());
    (cage, lab)
}

/// Requests outside of the flood.
async fn healthy(lab: &Lab) {
    for _ in 0..10 {
        let get = format!("GET /fine HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
        let answer = lab.inside(HOST, get.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let body = "{\"text\":\"just\\na text\"}".repeat(500);
        let post = format!(
            "POST /fine HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = lab.inside(HOST, post.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(matches!(lab.ctl(Action::Ask(Ask::Stats)).await, CommandOutcome::Answer(_)));
    }
}

async fn still_there(name: &str, lab: &mut Lab, cage: &Cage) {
    healthy(lab).await;
    assert!(lab.child.try_wait().unwrap().is_none(), "{name}: it has died");
    // The peak includes pages of the executable, which the kernel reclaims under pressure.
    let status = std::fs::read_to_string(format!("/proc/{}/status", lab.child.id().unwrap())).unwrap();
    let own = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or_default().trim();
    eprintln!("{name}: at most {} MiB; {own} of its own now", cage.most() >> 20);
    assert!(cage.most() <= USED, "{name}");
}

fn nested() -> Vec<u8> {
    // Grows with every layer that is decoded, and is small when sent.
    let mut text = vec![b' '; 24 << 20];
    for _ in 0..2 {
        text = data_encoding::BASE64.encode(&gzip(&text)).into_bytes();
    }
    text
}

#[test]
fn promise_15_a_flood_neither_ends_egress_nor_keeps_it_from_answering() {
    if in_namespace("load::promise_15_a_flood_neither_ends_egress_nor_keeps_it_from_answering") {
        floods();
    }
}

#[tokio::main]
async fn floods() {
    let (cage, mut lab) = lab().await;
    // Layers in headers: each request is refused, with a specific code.
    let layers = String::from_utf8(nested()).unwrap();
    assert!(layers.len() < 60_000, "{}", layers.len());
    let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nX: {layers}\r\nConnection: close\r\n\r\n");
    let answers = join_all((0..MANY).map(|_| lab.inside(HOST, request.as_bytes())));
    let ((), answers) = tokio::join!(healthy(&lab), answers);
    assert!(answers.iter().all(|answer| answer.contains("too_much_work")), "{:?}", answers.first());
    still_there("layers in headers", &mut lab, &cage).await;
    // Grows a thousandfold.
    let bomb = gzip(&vec![0; 200 << 20]);
    let head = |more: &str, length: usize| {
        format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n{more}Content-Length: {length}\r\n\r\n")
    };
    for more in ["Content-Encoding: gzip\r\n", ""] {
        let request = [head(more, bomb.len()).as_bytes(), &bomb].concat();
        let answers = join_all((0..MANY).map(|_| lab.inside(HOST, &request)));
        let ((), answers) = tokio::join!(healthy(&lab), answers);
        let refused =
            |answer: &String| ["too_much_work", "not_decoded", "busy"].iter().any(|code| answer.contains(code));
        assert!(answers.iter().all(refused), "{:?}", answers.iter().find(|answer| !refused(answer)));
        still_there("bombs", &mut lab, &cage).await;
    }
    // Messages that never end, and bodies that stop before their last byte: together they exceed the memory.
    let mut sockets = Vec::new();
    for _ in 0..MANY {
        let mut stream = socket(&lab).await;
        let _ = stream.write_all(&frame_head(0x02, 15 << 20)).await;
        sockets.push(stalled(stream, vec![b'm'; (15 << 20) - 1]));
    }
    still_there("messages of WebSockets", &mut lab, &cage).await;
    for _ in 0..MANY {
        let mut stream = lab.tls(&format!("{HOST}:443"), HOST, false).await.unwrap();
        let _ = stream.write_all(head("Content-Encoding: gzip\r\n", (8 << 20) - 1).as_bytes()).await;
        sockets.push(stalled(stream, vec![b'u'; (8 << 20) - 2]));
    }
    still_there("bodies that stall", &mut lab, &cage).await;
    for _ in 0..MANY {
        sockets.push(grpc(&lab).await);
    }
    still_there("messages of gRPC", &mut lab, &cage).await;
    // Complete bodies for a destination that does not read: not kept beyond the memory.
    let target = format!("{HOST}:{SINK}");
    let body = [
        format!("POST http://{target}/ HTTP/1.1\r\nHost: {target}\r\nContent-Length: {}\r\n\r\n", 7 << 20).into_bytes(),
        vec![b'w'; 7 << 20],
    ];
    let body: Bytes = body.concat().into();
    for _ in 0..2 * MANY {
        let (mut stream, body) = (TcpStream::connect(lab.proxy).await.unwrap(), body.clone());
        sockets.push(tokio::spawn(async move {
            let _ = stream.write_all(&body).await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }));
    }
    still_there("bodies that nobody takes", &mut lab, &cage).await;
    // Large responses that nobody reads, although the windows are open for all of them.
    for _ in 0..8 {
        sockets.push(unread(&lab).await);
    }
    still_there("streams that nobody reads", &mut lab, &cage).await;
    let mut downloads = Vec::new();
    for _ in 0..MANY {
        let mut stream = lab.tls(&format!("{HOST}:443"), HOST, false).await.unwrap();
        stream.write_all(format!("GET /big HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
        downloads.push(stream);
    }
    still_there("answers that nobody reads", &mut lab, &cage).await;
    sockets.iter().for_each(tokio::task::JoinHandle::abort);
    drop(downloads);
    // A destination that sends informational responses endlessly.
    let target = format!("{HOST}:{FLOOD}");
    let request = format!("GET http://{target}/ HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n");
    let answer = lab.raw(request.as_bytes()).await;
    assert!(answer.contains("\"unreachable\"") && answer.contains("interim"), "{answer}");
    still_there("interim answers", &mut lab, &cage).await;
    // Without free descriptors, an operator's request is answered.
    let pid = lab.child.id().unwrap();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let limited =
        std::process::Command::new("prlimit").arg(format!("--pid={pid}")).arg(format!("--nofile={open}")).status();
    assert!(limited.unwrap().success());
    let mut taken = Vec::new();
    for _ in 0..64 {
        taken.push(TcpStream::connect(lab.proxy).await.unwrap());
    }
    for _ in 0..20 {
        assert!(matches!(lab.ctl(Action::Ask(Ask::Stats)).await, CommandOutcome::Answer(_)));
    }
    assert!(lab.child.try_wait().unwrap().is_none());
}

/// The start of an agent's frame: the first byte, and the length; the mask is zero.
fn frame_head(first: u8, length: u64) -> Vec<u8> {
    let mut head = vec![first];
    if let Ok(length @ ..=125) = u8::try_from(length) {
        head.push(0x80 | length);
    } else {
        head.push(0xff);
        head.extend_from_slice(&length.to_be_bytes());
    }
    head.extend_from_slice(&[0; 4]);
    head
}

fn frame(first: u8, content: &[u8]) -> Vec<u8> {
    [frame_head(first, content.len() as u64), content.to_vec()].concat()
}

/// A WebSocket after its handshake.
async fn socket(lab: &Lab) -> TcpStream {
    let mut stream = TcpStream::connect(lab.proxy).await.unwrap();
    let request = format!(
        "GET http://{HOST}/socket HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    stream
}

/// Sends something, and nothing more until the other side closes.
fn stalled<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    mut stream: S,
    bytes: Vec<u8>,
) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let _ = stream.write_all(&bytes).await;
        let _ = stream.flush().await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
}

/// Requests large responses over HTTP/2, on a connection that is not read afterwards.
async fn unread(lab: &Lab) -> tokio::task::JoinHandle<()> {
    let mut stream = lab.tls(&format!("{HOST}:443"), HOST, true).await.unwrap();
    // RFC 9113: the preface, SETTINGS with a window of 2^30, WINDOW_UPDATE of the connection, HEADERS with
    // END_STREAM.
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend_from_slice(b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x04\x40\x00\x00\x00");
    bytes.extend_from_slice(b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x40\x00\x00\x00");
    // RFC 7541: GET and https from the static table, a path and an authority as literals.
    let host = [&[0x41, u8::try_from(HOST.len()).unwrap()][..], HOST.as_bytes()].concat();
    let block = [&b"\x82\x87\x04\x04/big"[..], &host].concat();
    for stream in 0..50_u32 {
        let length = u32::try_from(block.len()).unwrap().to_be_bytes();
        bytes.extend_from_slice(&[&length[1..], &[1, 5], &(2 * stream + 1).to_be_bytes(), &block].concat());
    }
    tokio::spawn(async move {
        let _ = stream.write_all(&bytes).await;
        let _ = stream.flush().await;
        let mut some = vec![0; 1 << 16];
        // So that it is known to be in progress.
        let _ = stream.read(&mut some).await;
        std::future::pending::<()>().await;
    })
}

/// An incomplete gRPC message.
async fn grpc(lab: &Lab) -> tokio::task::JoinHandle<()> {
    let stream = lab.tls(&format!("{HOST}:443"), HOST, true).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let head = Bytes::from([&[0][..], &(15_u32 << 20).to_be_bytes()].concat());
    let pieces = std::iter::once(head).chain((0..14).map(|_| Bytes::from(vec![b'g'; 1 << 20])));
    let frames = futures_util::stream::iter(pieces.map(|piece| Ok::<_, hyper::Error>(Frame::data(piece))));
    let frames = futures_util::StreamExt::chain(frames, futures_util::stream::pending());
    let request = Request::post(format!("https://{HOST}/")).header("content-type", "application/grpc");
    let request = request.body(StreamBody::new(Box::pin(frames))).unwrap();
    tokio::spawn(async move {
        let _ = sender.send_request(request).await;
    })
}

#[test]
fn promise_09_control_frames_hide_nothing_in_a_message() {
    if in_namespace("load::promise_09_control_frames_hide_nothing_in_a_message") {
        controls();
    }
}

#[tokio::main]
async fn controls() {
    let mut lab = Lab::new(SPEC, &[(HOST, vec![PUBLIC])].into(), &[SECRET]).await;
    let (one, two) = SECRET.as_bytes().split_at(9);
    for (name, frames, passes) in [
        ("a text and a ping", vec![frame(0x81, b"hello"), frame(0x89, b"ping")], true),
        ("a text in frames with a ping", vec![frame(0x01, b"hel"), frame(0x89, b"p"), frame(0x80, b"lo")], true),
        ("a secret", vec![frame(0x81, SECRET.as_bytes())], false),
        ("around a ping", vec![frame(0x01, one), frame(0x89, b"ping"), frame(0x80, two)], false),
        ("around many", vec![frame(0x01, one), frame(0x89, &[b'p'; 125]).repeat(100), frame(0x80, two)], false),
        ("around a pong", vec![frame(0x02, one), frame(0x8a, b""), frame(0x80, two)], false),
        (
            "in two messages around a ping",
            vec![frame(0x81, one), frame(0x89, &[b'p'; 125]).repeat(100), frame(0x81, two)],
            false,
        ),
        ("in a ping", vec![frame(0x89, SECRET.as_bytes())], false),
        ("in two pings", vec![frame(0x89, one), frame(0x81, b"x"), frame(0x89, two)], false),
        ("in a close", vec![frame(0x88, &[&[3, 232][..], SECRET.as_bytes()].concat())], false),
        ("a bit of an extension", vec![frame(0xc1, b"hello")], false),
        ("a message within another", vec![frame(0x01, b"a"), frame(0x81, b"b")], false),
        ("too long", vec![frame_head(0x82, 17 << 20)], false),
    ] {
        lab.seen.lock().unwrap().bytes.clear();
        let mut stream = socket(&lab).await;
        let _ = stream.write_all(&frames.concat()).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert_eq!(answer.is_empty(), passes, "{name}: {}", String::from_utf8_lossy(&answer));
        if passes {
            lab.decisions().await;
            continue;
        }
        lab.until_refused(name, None).await;
        let arrived = unmasked(&lab.seen.lock().unwrap().bytes);
        let found = |what: &[u8]| arrived.windows(what.len()).any(|window| window == what);
        assert!(!found(SECRET.as_bytes()) && !found(two), "{name}: {}", String::from_utf8_lossy(&arrived));
    }
}

/// The content of frames with at most 125 bytes each.
fn unmasked(mut wire: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    while let [_, length, a, b, c, d, rest @ ..] = wire {
        let length = usize::from(length & 0x7f).min(rest.len());
        all.extend(rest[..length].iter().zip([a, b, c, d].into_iter().cycle()).map(|(byte, mask)| byte ^ mask));
        wire = &rest[length..];
    }
    all
}
