//! What ordinary tools send, and what is let through: credentials to their own hosts, published examples, S3 uploads,
//! plain HTTP after a CONNECT, names with an underscore. Next to each, something similar that is refused.

use std::collections::BTreeMap;

use bottler::scan::KnownSecret;
use bottler::sidecar::egress::Update;

use crate::lab::{Lab, PUBLIC, in_namespace};
use crate::tools::{HOSTS, Request, anthropic, get, github, ordinary, post, stolen};

fn names() -> BTreeMap<&'static str, Vec<&'static str>> {
    HOSTS.map(|host| (host, vec![PUBLIC])).into()
}

fn spec() -> String {
    let denied = "deny: [{host: api.example.com, paths: [/admin/**]}]";
    format!("allow: [{}]\n{denied}\n", HOSTS.map(|host| format!("'{host}'")).join(", "))
}

#[test]
fn what_ordinary_tools_send_passes_and_what_is_stolen_does_not() {
    if in_namespace("honest::what_ordinary_tools_send_passes_and_what_is_stolen_does_not") {
        credentials();
    }
}

#[tokio::main]
async fn credentials() {
    let lab = Lab::new(&spec(), &names(), &[]).await;
    let mut refused = Vec::new();
    let all = ordinary();
    for request in &all {
        let answer = lab.inside(request.host, &request.bytes()).await;
        if !answer.starts_with("HTTP/1.1 200") {
            refused.push(format!("{}: {}", request.name, answer.lines().last().unwrap_or_default()));
        }
    }
    println!("{} of {} ordinary requests are refused", refused.len(), all.len());
    assert!(refused.is_empty(), "{refused:#?}");
    for request in stolen() {
        let arrived = lab.arrived().1;
        let answer = lab.inside(request.host, &request.bytes()).await;
        assert!(answer.contains("\"code\":\"secret_found\""), "{}: {answer}", request.name);
        assert_eq!(lab.arrived().1, arrived, "{}", request.name);
    }
    // The bottle's own secrets may go to their hosts, even if they look like another provider's; other secrets may
    // not.
    let mut lab = lab;
    let known =
        |value: String, hosts: &[&str]| KnownSecret { value, hosts: hosts.iter().map(|&host| host.into()).collect() };
    let secrets = vec![known(github(), &[]), known(anthropic("api03"), &["api.anthropic.com"])];
    lab.update(Update::Secrets(secrets)).await;
    let key = |key: String| get("", "api.anthropic.com", "/v1/models", &format!("x-api-key: {key}"));
    let token = get("", "api.github.com", "/user", &format!("Authorization: token {}", github()));
    for (request, passes) in [(token, false), (key(anthropic("api03")), true), (key(anthropic("api04")), false)] {
        let answer = lab.inside(request.host, &request.bytes()).await;
        assert_eq!(answer.starts_with("HTTP/1.1 200"), passes, "{answer}");
    }
}

const SECRET: &str = "correct-horse/battery+staple";

/// A body in S3's framing, with chunks of this size.
fn frame(payload: &[u8], size: usize) -> Vec<u8> {
    let mut body = Vec::new();
    for chunk in payload.chunks(size) {
        body.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        body.extend_from_slice(chunk);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"0\r\nx-amz-checksum-crc32:sOO8/Q==\r\n\r\n");
    body
}

fn upload(name: &'static str, encoding: &str, body: Vec<u8>) -> Request {
    let head = format!(
        "Content-Encoding: {encoding}\r\nX-Amz-Trailer: x-amz-checksum-crc32\r\nX-Amz-Content-Sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER"
    );
    post(name, "bucket.s3.eu-west-1.amazonaws.com", "/o", &head, body)
}

#[test]
fn uploads_of_s3_pass_unchanged_and_promise_09_holds_in_them() {
    if in_namespace("honest::uploads_of_s3_pass_unchanged_and_promise_09_holds_in_them") {
        uploads();
    }
}

#[tokio::main]
async fn uploads() {
    let lab = Lab::new(&spec(), &names(), &[SECRET]).await;
    let ask = async |request: &Request| lab.inside(request.host, &request.bytes()).await;
    let long = "a line of an object that is long\n".repeat(300_000);
    let gzip = {
        use std::io::Write;
        let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        to.write_all(b"hello").unwrap();
        to.finish().unwrap()
    };
    for (request, body) in [
        (upload("short", "aws-chunked", frame(b"hello", 5)), frame(b"hello", 5)),
        (upload("in many chunks", "aws-chunked", frame(b"hello", 2)), frame(b"hello", 2)),
        (upload("long", "aws-chunked", frame(long.as_bytes(), 65536)), frame(long.as_bytes(), 65536)),
        (upload("gzip in it", "gzip,aws-chunked", frame(&gzip, 5)), frame(&gzip, 5)),
        (upload("gzip in it, the other way round", "aws-chunked, gzip", frame(&gzip, 5)), frame(&gzip, 5)),
    ] {
        let answer = ask(&request).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{}: {answer}", request.name);
        let arrived = lab.seen.lock().unwrap().requests.pop().unwrap();
        assert_eq!(arrived.len(), "POST /o ".len() + String::from_utf8_lossy(&body).len(), "{}", request.name);
        assert!(arrived.ends_with(&*String::from_utf8_lossy(&body)), "{}", request.name);
    }
    for request in [
        upload("a secret", "aws-chunked", frame(SECRET.as_bytes(), 100)),
        upload("a secret in two chunks", "aws-chunked", frame(SECRET.as_bytes(), 9)),
        upload(
            "a secret in two chunks behind much",
            "aws-chunked",
            frame(format!("{long}{SECRET}").as_bytes(), long.len() + 9),
        ),
        upload("a secret in a trailer", "aws-chunked", format!("1\r\na\r\n0\r\nx-amz-meta:{SECRET}\r\n\r\n").into()),
    ] {
        let arrived = lab.arrived().1;
        let answer = ask(&request).await;
        assert!(answer.contains("\"code\":\"secret_found\""), "{}: {answer}", request.name);
        assert_eq!(lab.arrived().1, arrived, "{}", request.name);
    }
    let answer = ask(&upload("no framing", "aws-chunked", b"hello".to_vec())).await;
    assert!(answer.contains("\"code\":\"not_decoded\""), "{answer}");
}

#[test]
fn promise_04_plain_http_after_a_connect_is_judged_like_the_absolute_form() {
    if in_namespace("honest::promise_04_plain_http_after_a_connect_is_judged_like_the_absolute_form") {
        plain();
    }
}

#[tokio::main]
async fn plain() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut lab = Lab::new(&spec(), &names(), &[SECRET]).await;
    let ask = async |authority: &str, bytes: &str| {
        let mut stream = lab.connect(authority).await.unwrap();
        let _ = stream.write_all(bytes.as_bytes()).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    let request = |line: &str, host: &str, more: &str| format!("{line} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n");
    let (here, at) = ("api.example.com", "api.example.com:80");
    let secret = request("POST /a", here, &format!("Content-Length: {}\r\n", SECRET.len())) + SECRET;
    for (name, authority, bytes, expected) in [
        ("a request", at, request("GET /a", here, ""), "here"),
        ("with its port", at, request("GET /a", at, ""), "here"),
        ("in absolute form", at, request("GET http://api.example.com/a", here, ""), "here"),
        ("two on one connection", at, request("GET /a", here, "") + &request("GET /admin/x", here, ""), "\"denied\""),
        ("a denied path", at, request("GET /admin/x", here, ""), "\"denied\""),
        ("another host", at, request("GET /a", "evil.example.org", ""), "\"host_mismatch\""),
        ("another port", at, request("GET /a", "api.example.com:8080", ""), "\"host_mismatch\""),
        ("another host in absolute form", at, request("GET http://evil.example.org/", here, ""), "\"host_mismatch\""),
        ("https without TLS", at, request("GET https://api.example.com/", here, ""), "\"bad_request\""),
        ("CONNECT in it", at, request("CONNECT evil.example.org:443", here, ""), "\"bad_request\""),
        ("TRACE", at, request("TRACE /", here, ""), "\"bad_request\""),
        ("a secret", at, secret, "\"secret_found\""),
        (
            "a token of its own host's, which is seen on its way",
            "api.github.com:80",
            request("GET /user", "api.github.com", &format!("Authorization: token {}\r\n", github())),
            "\"secret_found\"",
        ),
        ("HTTP/2 without TLS", at, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), "\"bad_request\""),
        ("SSH", at, "SSH-2.0-OpenSSH_9.2\r\n".to_owned(), "\"bad_request\""),
        ("bare LF", at, "GET / HTTP/1.1\nHost: api.example.com\n\n".to_owned(), "\"bad_request\""),
        ("a push", at, request("GET /a.git/info/refs?service=git-receive-pack", here, ""), "\"push_not_gated\""),
    ] {
        let arrived = lab.arrived().1;
        let answer = ask(authority, &bytes).await;
        assert!(answer.contains(expected), "{name}: {answer}");
        let passes = usize::from(expected == "here" || name.starts_with("two"));
        assert_eq!(lab.arrived().1 - arrived, passes, "{name}");
    }
    // On a TLS port nothing else is accepted.
    let answer = ask("api.example.com:443", &request("GET /a", "api.example.com:443", "")).await;
    assert!(!answer.contains("HTTP/1.1"), "{answer}");
    // A WebSocket without TLS, up to its handshake, which the destination does not grant.
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    assert!(ask("wss.example.com:80", &request("GET /chat", "wss.example.com", upgrade)).await.contains("here"));
    let events = lab.decisions().await;
    assert!(events.iter().any(|event| event.kind.form == "absolute" && event.kind.code == "denied"), "{events:?}");
}
