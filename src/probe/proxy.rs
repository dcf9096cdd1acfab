//! Attempts through egress: allowed requests pass, all others are refused with a reason.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::wait::readable;
use super::{ProbeResult, Targets};
use crate::layout::agent::{Far, SERVICES_DIR};
use crate::policy::CANARY;

/// The time limit for a response of egress.
const PATIENCE: Duration = Duration::from_secs(5);
/// Maximum size of a response, in bytes.
const MAX_ANSWER: usize = 64 << 10;
/// A host that is never allowed.
const FORBIDDEN: &str = "forbidden.bottler.invalid";

/// Egress works, and refuses: without these two facts, no other result means anything.
pub(super) fn canary(targets: &Targets) -> Vec<ProbeResult> {
    vec![
        expect(targets, "allowed: canary, CONNECT", &connect(&format!("{CANARY}:443")), 200, None),
        expect(targets, "allowed: canary, plain http", &absolute(CANARY), 200, Some("canary")),
        expect(
            targets,
            "forbidden host, CONNECT",
            &connect(&format!("{FORBIDDEN}:443")),
            403,
            Some("host_not_allowed"),
        ),
    ]
}

/// The one host that the probe's recipe allows.
pub(super) fn allowed(targets: &Targets) -> Vec<ProbeResult> {
    let Some(counterpart) = &targets.counterpart else { return Vec::new() };
    vec![
        expect(targets, "allowed: counterpart, plain http", &absolute(&counterpart.host), 200, Some("counterpart")),
        expect(targets, "allowed: counterpart, CONNECT", &connect(&counterpart.host), 200, None),
    ]
}

/// Forms and notations that must not make a difference.
pub(super) fn forbidden(targets: &Targets) -> Vec<ProbeResult> {
    let mut lines = vec![
        expect(targets, "forbidden host, plain http", &absolute(FORBIDDEN), 403, Some("host_not_allowed")),
        expect(
            targets,
            "forbidden host, other case and final dot",
            &connect("FORBIDDEN.Bottler.invalid.:443"),
            403,
            None,
        ),
        expect(targets, "forbidden port of the canary's parent", &connect("bottler.invalid:22"), 403, None),
        expect(targets, "metadata service by address", &absolute("169.254.169.254"), 403, Some("address_not_public")),
        expect(targets, "loopback of egress", &connect("127.0.0.1:443"), 403, Some("address_not_public")),
        expect(targets, "loopback, decimal", &connect("2130706433:443"), 403, Some("address_not_public")),
        expect(targets, "loopback, hexadecimal", &connect("0x7f000001:443"), 403, Some("address_not_public")),
        expect(targets, "loopback, octal", &connect("0177.0.0.1:443"), 403, Some("address_not_public")),
        expect(targets, "loopback, shortened", &connect("127.1:443"), 403, Some("address_not_public")),
        expect(targets, "loopback, IPv6", &connect("[::1]:443"), 403, Some("address_not_public")),
        expect(targets, "loopback, IPv4 in IPv6", &connect("[::ffff:127.0.0.1]:443"), 403, Some("address_not_public")),
        expect(targets, "NAT64 of loopback", &connect("[64:ff9b::7f00:1]:443"), 403, Some("address_not_public")),
        expect(targets, "user information before a host", &absolute(&format!("{CANARY}@{FORBIDDEN}")), 400, None),
        expect(targets, "Host header of an allowed host", &lying_host(), 421, Some("host_mismatch")),
        expect(targets, "no host at all", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 400, None),
    ];
    if let Some(counterpart) = &targets.counterpart {
        lines.push(smuggled(targets, &counterpart.host));
        let authority = format!("{}:{}", counterpart.address, crate::layout::counterpart::HTTP_PORT);
        lines.push(expect(
            targets,
            "counterpart by its address",
            &connect(&authority),
            403,
            Some("address_not_public"),
        ));
        let number = format!("{}:{}", u32::from(counterpart.address), crate::layout::counterpart::HTTP_PORT);
        lines.push(expect(
            targets,
            "counterpart by its address, decimal",
            &connect(&number),
            403,
            Some("address_not_public"),
        ));
    }
    lines
}

/// What the counterpart received by any way other than egress: nothing.
pub(super) fn receipts(targets: &Targets) -> Vec<ProbeResult> {
    let Some(counterpart) = &targets.counterpart else { return Vec::new() };
    let request =
        format!("GET http://{0}/received HTTP/1.1\r\nHost: {0}\r\nConnection: close\r\n\r\n", counterpart.host);
    let answer = ask(targets, &request).unwrap_or_else(|error| error.to_string());
    let body = answer.split_once("\r\n\r\n").map_or(answer.as_str(), |(_, body)| body);
    // Chunked or not, an empty list is the only answer with "[]" in it.
    let ok = answer.starts_with("HTTP/1.1 200") && body.contains("[]");
    let happened = if ok { "nothing".to_owned() } else { short(body) };
    vec![ProbeResult::new("received at counterpart, asked there", "nothing", ok, happened)]
}

/// A request for another host behind a granted `CONNECT`, without TLS: it is judged like any other.
fn smuggled(targets: &Targets, host: &str) -> ProbeResult {
    let attempt = || -> std::io::Result<String> {
        let mut stream = dial(targets)?;
        let behind = format!("GET / HTTP/1.1\r\nHost: {FORBIDDEN}\r\nConnection: close\r\n\r\n");
        write!(stream, "{}{behind}", connect(host))?;
        read(&mut stream, |_| false)
    };
    let answer = attempt().unwrap_or_else(|error| error.to_string());
    // The first response is that to the `CONNECT`.
    let behind = answer.match_indices("HTTP/1.1 ").nth(1).map_or("", |(at, _)| &answer[at..]);
    let ok = behind.starts_with("HTTP/1.1 421") && behind.contains("host_mismatch");
    let happened = if ok { "421 host_mismatch".to_owned() } else { short(&answer) };
    ProbeResult::new("allowed: counterpart, another host behind its CONNECT", "421 host_mismatch", ok, happened)
}

fn connect(authority: &str) -> String {
    format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n")
}

fn absolute(host: &str) -> String {
    format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
}

fn lying_host() -> String {
    format!("GET http://{FORBIDDEN}/ HTTP/1.1\r\nHost: {CANARY}\r\nConnection: close\r\n\r\n")
}

fn expect(targets: &Targets, attempt: &str, request: &str, status: u16, word: Option<&str>) -> ProbeResult {
    let expected = match (status, word) {
        (200, _) => "200 passes".to_owned(),
        (_, Some(word)) => format!("{status} {word}"),
        (_, None) => format!("{status} refused"),
    };
    match ask(targets, request) {
        Ok(answer) => {
            let got = answer.split(' ').nth(1).unwrap_or_default();
            let ok = got == status.to_string() && word.is_none_or(|word| answer.contains(word));
            ProbeResult::new(attempt, &expected, ok, if ok { expected.clone() } else { short(&answer) })
        }
        Err(error) => ProbeResult::new(attempt, &expected, false, format!("egress does not answer: {error}")),
    }
}

/// A connection to egress.
trait Stream: Read + Write + AsFd {}

impl Stream for TcpStream {}
impl Stream for UnixStream {}

/// Connects to egress: as the agent does, or to the listener for the proof.
fn dial(targets: &Targets) -> std::io::Result<Box<dyn Stream>> {
    Ok(match &targets.proof {
        None => Box::new(TcpStream::connect_timeout(&targets.proxy.into(), PATIENCE)?),
        Some(Far::Address(address)) => Box::new(TcpStream::connect_timeout(&(*address).into(), PATIENCE)?),
        Some(Far::Socket(socket)) => Box::new(UnixStream::connect(Path::new(SERVICES_DIR).join(socket))?),
    })
}

/// Sends a request and returns what arrives until the peer closes or a `CONNECT` is granted.
fn ask(targets: &Targets, request: &str) -> std::io::Result<String> {
    let mut stream = dial(targets)?;
    stream.write_all(request.as_bytes())?;
    read(&mut stream, complete)
}

/// Reads until the response is complete or the peer closes.
fn read(stream: &mut Box<dyn Stream>, complete: fn(&[u8]) -> bool) -> std::io::Result<String> {
    let mut answer = Vec::new();
    let mut chunk = [0_u8; 4096];
    loop {
        readable(stream, PATIENCE)?;
        let length = stream.read(&mut chunk)?;
        answer.extend_from_slice(&chunk[..length]);
        if length == 0 || answer.len() > MAX_ANSWER || complete(&answer) {
            return Ok(String::from_utf8_lossy(&answer).into_owned());
        }
    }
}

/// Whether a response is complete: its head, and the body that its head announces.
fn complete(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let head = head.to_ascii_lowercase();
    if let Some(rest) = head.split("content-length: ").nth(1) {
        return rest.lines().next().and_then(|n| n.trim().parse().ok()).is_some_and(|n: usize| body.len() >= n);
    }
    if head.contains("transfer-encoding") { body.ends_with("0\r\n\r\n") } else { true }
}

fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(120).collect()
}
