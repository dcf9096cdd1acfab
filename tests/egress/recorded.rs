//! What real programs send, recorded from them by `tests/record_requests`, and sent through egress again over HTTP/1.1 and
//! HTTP/2: nothing of it is refused, masked or changed. Next to it, one request of each carrier with a secret put in, which is
//! refused: the suite cannot pass because nothing is looked at.
//!
//! `recorded/*.jsonl` has a request in each line, with marks for what is not written down: `{{token:NAME}}` is a token of
//! `tokens.json`, in pieces there so that scanners of repositories do not take it for a real one, `{{base64:TEXT}}` the login of
//! a `Basic` header, and `{{long:FORM}}` is `long.txt`, a long conversation, as serializers write it in a string.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use bottler::net::canonical;
use bytes::Bytes;
use data_encoding::BASE64;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::Deserialize;

use crate::lab::{Arrived, Lab, PUBLIC, in_namespace};
use crate::secrets::{SECRET, gzip, token};

/// The hosts of models, towards which templates mask.
const MODELS: [&str; 9] = [
    "api.anthropic.com",
    "api.cohere.com",
    "api.groq.com",
    "api.mistral.ai",
    "api.openai.com",
    "bedrock-runtime.eu-west-1.amazonaws.com",
    "chatgpt.com",
    "generativelanguage.googleapis.com",
    "mine.openai.azure.com",
];
/// Headers of one connection of HTTP/1.1, which HTTP/2 does not have (RFC 9113, section 8.2.2).
const OF_HTTP1: [&str; 7] =
    ["connection", "host", "http2-settings", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Recorded {
    tool: String,
    method: String,
    scheme: String,
    host: String,
    path: String,
    /// Of HTTP, as it was recorded.
    version: String,
    headers: Vec<(String, String)>,
    #[serde(default)]
    text: String,
    #[serde(default)]
    base64: String,
    /// The body without marks.
    #[serde(skip)]
    body: Vec<u8>,
}

fn folder() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/egress/recorded"].iter().collect()
}

/// What marks stand for.
struct Marks(Vec<(String, String)>);

impl Marks {
    fn read() -> Self {
        let tokens = std::fs::read(folder().join("tokens.json")).unwrap();
        let tokens: BTreeMap<String, Vec<String>> = serde_json::from_slice(&tokens).unwrap();
        let mut marks: Vec<_> =
            tokens.into_iter().map(|(name, pieces)| (format!("{{{{token:{name}}}}}"), pieces.concat())).collect();
        let long = std::fs::read_to_string(folder().join("long.txt")).unwrap();
        let written = serde_json::to_string(&long).unwrap();
        let written = &written[1..written.len() - 1];
        let mut ascii = String::new();
        for letter in written.chars() {
            if letter.is_ascii() && letter != '\u{7f}' {
                ascii.push(letter);
            } else {
                let mut units = [0; 2];
                letter.encode_utf16(&mut units).iter().for_each(|unit| ascii.push_str(&format!("\\u{unit:04x}")));
            }
        }
        for (form, text) in [("ascii", ascii), ("utf8", written.to_owned()), ("plain", long)] {
            marks.push((format!("{{{{long:{form}}}}}"), text));
        }
        Self(marks)
    }

    fn resolve(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (mark, meant) in &self.0 {
            text = text.replace(mark, meant);
        }
        while let Some((before, rest)) = text.split_once("{{base64:") {
            let (login, after) = rest.split_once("}}").unwrap();
            text = format!("{before}{}{after}", BASE64.encode(login.as_bytes()));
        }
        text
    }
}

fn corpus() -> Vec<Recorded> {
    let marks = Marks::read();
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder()).unwrap().map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|kind| kind == "jsonl"));
    files.sort();
    let lines = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect::<String>();
    let read = |line: &str| {
        let mut request: Recorded = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        request.path = marks.resolve(&request.path);
        request.headers.iter_mut().for_each(|(_, value)| *value = marks.resolve(value));
        request.body = if request.base64.is_empty() {
            marks.resolve(&request.text).into_bytes()
        } else {
            BASE64.decode(request.base64.as_bytes()).unwrap()
        };
        request
    };
    lines.lines().map(read).collect()
}

impl Recorded {
    fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The form of its target that arrives.
    fn target(&self) -> String {
        let (path, query) = self.path.split_once('?').map_or((self.path.as_str(), None), |(a, b)| (a, Some(b)));
        let query = query.map(|query| query.replace('"', "%22").replace('<', "%3C").replace('>', "%3E"));
        canonical(&query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"))).unwrap()
    }

    /// The bytes of HTTP/1.1, in its own order and framing.
    fn http1(&self) -> Vec<u8> {
        let origin = if self.scheme == "http" { format!("http://{}", self.host) } else { String::new() };
        let mut head = format!("{} {origin}{} HTTP/1.1\r\n", self.method, self.path);
        if self.header("host").is_none() {
            head.push_str(&format!("Host: {}\r\n", self.host));
        }
        let chunked = self.header("transfer-encoding").is_some();
        for (name, value) in &self.headers {
            if !name.eq_ignore_ascii_case("content-length") {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        if !chunked && (!self.body.is_empty() || self.header("content-length").is_some()) {
            head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(b"\r\n");
        if chunked {
            for piece in self.body.chunks(1000) {
                bytes.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                bytes.extend_from_slice(piece);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
        } else {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }

    async fn over_http1(&self, lab: &Lab) -> String {
        let answer = if self.scheme == "http" {
            lab.raw(&self.http1()).await
        } else {
            lab.inside(&self.host, &self.http1()).await
        };
        let answer = answer.strip_prefix("HTTP/1.1 100 Continue\r\n\r\n").unwrap_or(&answer);
        answer.strip_prefix("HTTP/1.1 ").unwrap_or(answer).to_owned()
    }

    /// Over HTTP/2, inside TLS. The client has no way to send a query that is not encoded.
    async fn over_http2(&self, lab: &Lab) -> String {
        let stream = match lab.tls(&format!("{}:443", self.host), &self.host, true).await {
            Ok(stream) => stream,
            Err(answer) => return answer,
        };
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.unwrap();
        let connection = tokio::spawn(connection);
        let mut request =
            Request::builder().method(self.method.as_str()).uri(format!("https://{}{}", self.host, self.target()));
        for (name, value) in &self.headers {
            let lower = name.to_ascii_lowercase();
            let is_of_http1 = OF_HTTP1.contains(&lower.as_str()) || lower == "te" && value != "trailers";
            if !is_of_http1 && lower != "content-length" {
                request = request.header(lower, value);
            }
        }
        let body = Full::new(Bytes::from(self.body.clone()));
        let answer = match sender.send_request(request.body(body).unwrap()).await {
            Err(error) => format!("HTTP/2: {error}"),
            Ok(answer) => {
                let status = answer.status();
                let said = answer
                    .headers()
                    .get("grpc-message")
                    .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
                let body = BodyExt::collect(answer.into_body())
                    .await
                    .map(http_body_util::Collected::to_bytes)
                    .unwrap_or_default();
                format!("{status}\n{}\n{}", said.unwrap_or_default(), String::from_utf8_lossy(&body))
            }
        };
        drop(sender);
        connection.abort();
        answer
    }

    /// What is wrong with what has arrived of it.
    fn differs(&self, arrived: Option<&Arrived>) -> Option<String> {
        let Some(arrived) = arrived else { return Some("it has not arrived".to_owned()) };
        if (&arrived.method, &arrived.target) != (&self.method, &self.target()) {
            return Some(format!("{} {} has arrived", arrived.method, arrived.target));
        }
        let place = arrived.body.iter().zip(&self.body).position(|(one, other)| one != other);
        let cut = (arrived.body.len() != self.body.len()).then_some(arrived.body.len());
        place.or(cut).map(|place| format!("its body has changed at {place}"))
    }
}

async fn lab(all: &[Recorded]) -> Lab {
    let hosts: BTreeSet<&str> = all.iter().map(|request| request.host.as_str()).chain(["other.example.com"]).collect();
    let names = hosts.iter().map(|host| (&*String::leak((*host).to_owned()), vec![PUBLIC])).collect();
    let entry = |host: &&str| {
        let scan = if MODELS.contains(host) { "mask" } else { "block" };
        format!("{{host: '{host}', scan: {scan}}}")
    };
    let spec = format!("allow: [{}]", hosts.iter().map(entry).collect::<Vec<_>>().join(", "));
    Lab::new(&spec, &names, &[SECRET]).await
}

#[test]
fn what_real_programs_sent_is_refused_nowhere() {
    if in_namespace("recorded::what_real_programs_sent_is_refused_nowhere") {
        replay();
    }
}

#[tokio::main]
async fn replay() {
    let all = corpus();
    let tools: BTreeSet<&str> = all.iter().map(|request| request.tool.as_str()).collect();
    let mut lab = lab(&all).await;
    let mut wrong = Vec::new();
    for request in &all {
        for http2 in [false, true] {
            let before = lab.seen.lock().unwrap().arrived.len();
            let answer = if http2 { request.over_http2(&lab).await } else { request.over_http1(&lab).await };
            let seen = lab.seen.lock().unwrap();
            let difference = request.differs(seen.arrived.get(before));
            drop(seen);
            let said = (!answer.starts_with("200")).then(|| answer.lines().last().unwrap_or_default().to_owned());
            if let Some(what) = said.or(difference) {
                let way = if http2 { "HTTP/2" } else { "HTTP/1.1" };
                let Recorded { tool, method, host, path, version, .. } = request;
                let path = path.get(..80).unwrap_or(path);
                wrong.push(format!("{tool}, {way} (recorded: {version}): {method} {host}{path}: {what}"));
            }
        }
    }
    println!("{} of {} requests of {} programs are refused or changed", wrong.len(), 2 * all.len(), tools.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(all.len() >= 150 && tools.len() >= 40, "{} requests of {} programs", all.len(), tools.len());
    let events = lab.decisions().await;
    let found = events.iter().find(|event| event.kind.decision != "allow");
    assert!(found.is_none(), "{found:?}");
}

/// A carrier of content, which a request is of, and how it has a secret put in.
type Carrier = (&'static str, fn(&Recorded) -> bool, fn(&mut Recorded));

fn kind(request: &Recorded) -> &str {
    request.header("content-type").unwrap_or_default()
}

fn is_encoded(request: &Recorded) -> bool {
    let s3 = request.header("x-amz-content-sha256").is_some_and(|value| value.starts_with("STREAMING"));
    request.header("content-encoding").is_some() || s3
}

fn insert(request: &mut Recorded, behind: &[u8], text: &str) {
    let at = request.body.windows(behind.len()).position(|window| window == behind).unwrap() + behind.len();
    request.body.splice(at..at, text.bytes());
}

fn message(text: &str) -> Vec<u8> {
    [&[0][..], &u32::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat()
}

fn parameter(request: &mut Recorded) {
    let sign = if request.path.contains('?') { '&' } else { '?' };
    request.path = format!("{}{sign}x={}", request.path, SECRET.replace('/', "%2F").replace('+', "%2B"));
}

const CARRIERS: [Carrier; 12] = [
    (
        "JSON",
        |it| kind(it).starts_with("application/json") && it.body.starts_with(b"{\"") && !is_encoded(it),
        |it| {
            insert(it, b"{", &format!("\"x\":\"{SECRET}\","));
        },
    ),
    (
        "a form",
        |it| kind(it).starts_with("application/x-www-form") && !it.body.is_empty() && !is_encoded(it),
        |it| {
            it.body.extend_from_slice(format!("&x={SECRET}").as_bytes());
        },
    ),
    (
        "multipart",
        |it| kind(it).starts_with("multipart/form-data") && it.body.len() > 200,
        |it| {
            insert(it, b"\r\n\r\n", SECRET);
        },
    ),
    (
        "gRPC",
        |it| kind(it).starts_with("application/grpc") && !kind(it).contains("web"),
        |it| {
            it.body.extend_from_slice(&message(SECRET));
        },
    ),
    (
        "text of gRPC-Web",
        |it| kind(it).starts_with("application/grpc-web-text"),
        |it| {
            it.body.extend_from_slice(BASE64.encode(&message(SECRET)).as_bytes());
        },
    ),
    ("compressed", |it| it.header("content-encoding") == Some("gzip"), |it| it.body.extend(gzip(SECRET.as_bytes()))),
    (
        "chunks of S3",
        |it| it.header("x-amz-content-sha256").is_some_and(|value| value.starts_with("STREAMING")),
        |it| {
            let line = it.body.split(|&byte| byte == b'\r').next().unwrap().to_vec();
            let rest = line.iter().position(|&byte| byte == b';').map_or(&b""[..], |at| &line[at..]);
            let chunk = [format!("{:x}", SECRET.len()).as_bytes(), rest, b"\r\n", SECRET.as_bytes(), b"\r\n"].concat();
            it.body.splice(0..0, chunk);
        },
    ),
    (
        "lines of JSON",
        |it| kind(it).contains("ndjson") && !is_encoded(it),
        |it| {
            it.body.extend_from_slice(format!("{{\"x\":\"{SECRET}\"}}\n").as_bytes());
        },
    ),
    (
        "XML",
        |it| kind(it).contains("xml") && !is_encoded(it) && !it.body.is_empty(),
        |it| it.body.extend_from_slice(SECRET.as_bytes()),
    ),
    (
        "bytes",
        |it| kind(it).contains("octet-stream") && !is_encoded(it) && !it.body.is_empty(),
        |it| {
            it.body.extend_from_slice(SECRET.as_bytes());
        },
    ),
    (
        "a header",
        |it| it.header("user-agent").is_some(),
        |it| it.headers.push(("x-note".to_owned(), SECRET.to_owned())),
    ),
    ("a query", |it| it.path.contains('?'), parameter),
];

#[test]
fn promise_09_the_same_requests_with_a_secret_are_refused() {
    if in_namespace("recorded::promise_09_the_same_requests_with_a_secret_are_refused") {
        planted();
    }
}

#[tokio::main]
async fn planted() {
    let all = corpus();
    let lab = lab(&all).await;
    for (carrier, is_one, put) in CARRIERS {
        let of_it: Vec<&Recorded> =
            all.iter().filter(|request| !MODELS.contains(&request.host.as_str()) && is_one(request)).collect();
        assert!(!of_it.is_empty(), "no request is of {carrier}");
        for request in of_it.into_iter().take(5) {
            let mut request = request.clone();
            put(&mut request);
            for http2 in [false, true] {
                let before = lab.arrived().1;
                let answer = if http2 { request.over_http2(&lab).await } else { request.over_http1(&lab).await };
                assert!(answer.contains("secret_found"), "{carrier}, {}: {answer}", request.tool);
                assert_eq!(lab.arrived().1, before, "{carrier}, {}", request.tool);
            }
        }
    }
    // What is any host's in its place is nobody's in another: a token of a provider in what a program uploads.
    let upload =
        all.iter().find(|request| kind(request).starts_with("multipart/form-data") && request.body.len() > 200);
    let mut upload = upload.unwrap().clone();
    insert(&mut upload, b"\r\n\r\n", &format!("{} ", token()));
    assert!(upload.over_http1(&lab).await.contains("secret_found"));
}
