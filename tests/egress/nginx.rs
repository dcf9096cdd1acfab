//! A real nginx (Debian's) behind egress reads the requests that a plain reading of RFC 9112 finds in what egress lets through: as
//! many, each with the same method, target and host, and a body of the same length. The texts are the kept ones of the fuzz
//! target `http1_differential`, and others that are made from its pieces and from them.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use self::plain_reading::{PIECES, plainly, text_of};
use crate::lab::{Lab, PUBLIC, in_namespace};

#[path = "../fuzz/src/plain_reading.rs"]
mod plain_reading;

const HOST: &str = "api.example.com";
const AUTHORITY: &str = "api.example.com:8081";
/// Where requests arrive, and where nginx passes them on, with the length of the body that it has read.
const FRONT: u16 = 8081;
const BACK: u16 = 8084;
/// Texts that are made: of every run, and of the thorough one.
const SOME: u64 = 500;
const MANY: u64 = 50_000;
/// Where a head ends, and where bodies begin, in the pieces.
const HEADERS: usize = 12;
const END: usize = 42;

/// Ended when dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn nginx(folder: &Path) -> Server {
    let here = folder.display();
    std::fs::write(
        folder.join("nginx.conf"),
        format!(
            "daemon off; master_process off; user root; pid {here}/pid; error_log {here}/errors;
             events {{}}
             http {{
               log_format read '$server_port|$status|$request_method|$request_uri|$http_host|$content_length';
               access_log {here}/log read; client_max_body_size 0;
               client_body_temp_path {here}/b; proxy_temp_path {here}/p; fastcgi_temp_path {here}/f;
               uwsgi_temp_path {here}/u; scgi_temp_path {here}/s;
               server {{
                 listen 0.0.0.0:{FRONT};
                 location / {{
                   proxy_pass http://127.0.0.1:{BACK}; proxy_http_version 1.1; proxy_set_header Host $http_host;
                 }}
               }}
               server {{ listen 127.0.0.1:{BACK}; location / {{ return 200 read; }} }}
             }}"
        ),
    )
    .unwrap();
    let mut command = Command::new("nginx");
    command.arg("-c").arg(folder.join("nginx.conf")).stdout(Stdio::null()).stderr(Stdio::null());
    let server = Server(command.spawn().expect("nginx-light is installed"));
    while TcpStream::connect((PUBLIC, FRONT)).await.is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    server
}

/// A generator of numbers (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    /// Requests of pieces: usually whole ones.
    fn composed(&mut self) -> Vec<u8> {
        let mut text = String::new();
        for _ in 0..=self.below(3) {
            let line = if self.below(4) > 0 { self.below(4) } else { self.below(HEADERS) };
            text.push_str(PIECES[line]);
            if self.below(10) > 0 {
                text.push_str("Host: a.example\r\n");
            }
            for _ in 0..self.below(3) {
                text.push_str(PIECES[HEADERS + self.below(END - HEADERS)]);
            }
            match self.below(4) {
                0 => text.push_str("Content-Length: 5\r\n\r\nhello"),
                1 => text.push_str("Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
                2 => text.push_str("\r\n"),
                _ => {
                    text.push_str(PIECES[END]);
                    for _ in 0..self.below(4) {
                        text.push_str(PIECES[END + self.below(PIECES.len() - END)]);
                    }
                }
            }
        }
        text.into_bytes()
    }

    /// A text with a few bytes changed, or with a part of it twice or not at all.
    fn changed(&mut self, text: &[u8]) -> Vec<u8> {
        let mut text = text.to_vec();
        for _ in 0..=self.below(2) {
            let at = self.below(text.len().max(1)).min(text.len());
            let to = (at + self.below(20)).min(text.len());
            match self.below(4) {
                0 => text.insert(at, b"\r\n\t :;,0159a\x0b\x85\0"[self.below(15)]),
                1 => drop(text.drain(at..to)),
                2 => {
                    let part = text[at..to].to_vec();
                    text.splice(to..to, part);
                }
                _ if at < text.len() => text[at] ^= 1 << self.below(8),
                _ => {}
            }
        }
        text
    }
}

/// The kept inputs of the fuzz target.
fn corpus() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus/http1_differential");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().filter_map(|path| Some(text_of(&std::fs::read(path).unwrap())?.0)).collect()
}

fn replaced(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    let mut rest = text;
    while let Some(at) = memchr::memmem::find(rest, from) {
        all.extend_from_slice(&rest[..at]);
        all.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    all.extend_from_slice(rest);
    all
}

/// The final statuses of the answers on a connection.
fn statuses(answer: &str) -> Vec<u16> {
    // Of either version: an answer has that of its request.
    let all = answer.split("HTTP/1.").skip(1).filter_map(|rest| rest.get(2..5)?.parse().ok());
    all.filter(|status| *status >= 200).collect()
}

/// What nginx has read since the last time, when this request has arrived.
async fn read_by_nginx(folder: &Path, seen: &mut usize, marker: &str) -> Vec<String> {
    let mut stream = TcpStream::connect((PUBLIC, FRONT)).await.unwrap();
    let request = format!("GET {marker} HTTP/1.1\r\nHost: marker\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.read_to_end(&mut Vec::new()).await.unwrap();
    let end = format!("{FRONT}|200|GET {marker}|").replace(' ', "|");
    loop {
        let log = std::fs::read(folder.join("log")).unwrap();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<String> = log.lines().skip(*seen).map(str::to_owned).collect();
        if lines.iter().any(|line| line.starts_with(&end)) {
            *seen += lines.len();
            return lines.into_iter().filter(|line| !line.contains(marker)).collect();
        }
        tokio::task::yield_now().await;
    }
}

/// A request as both of nginx's servers log it.
fn expected(read: &plain_reading::Read) -> [String; 2] {
    let target = read.target.path_and_query().map_or("/", |target| target.as_str());
    // Egress says the host of the CONNECT where a request says none.
    let host = if read.hosts.is_empty() { AUTHORITY.into() } else { String::from_utf8_lossy(&read.hosts[0]) };
    let length = if read.body.is_empty() { "-".to_owned() } else { read.body.len().to_string() };
    let line = |port: u16| format!("{port}|200|{}|{target}|{host}", read.method);
    [format!("{}|{length}", line(BACK)), line(FRONT)]
}

#[tokio::main]
async fn compared(count: u64) {
    let lab = Lab::new(&format!("allow: ['{AUTHORITY}']"), &[(HOST, vec![PUBLIC])].into(), &[]).await;
    let folder = tempfile::tempdir().unwrap();
    let _nginx = nginx(folder.path()).await;
    let kept = corpus();
    let made = (1..=count).map(|seed| {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        match random.below(3) {
            0 => {
                let text = kept[random.below(kept.len())].clone();
                random.changed(&text)
            }
            1 => {
                let text = random.composed();
                random.changed(&text)
            }
            _ => random.composed(),
        }
    });
    let (mut seen, mut arrived, mut bodies, mut several) = (0, 0, 0, 0);
    for (number, text) in kept.iter().cloned().chain(made).enumerate() {
        let text = replaced(&text, b"a.example", AUTHORITY.as_bytes());
        let shown = String::from_utf8_lossy(&text).into_owned();
        let mut stream = lab.connect(AUTHORITY).await.unwrap();
        let _ = stream.write_all(&text).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let theirs = read_by_nginx(folder.path(), &mut seen, &format!("/end/{number}")).await;
        let answered = statuses(&answer);
        // A query may have what is encoded on its way.
        let ours = plainly(&encoded(&text));
        let passed: Vec<_> =
            ours.iter().zip(&answered).filter(|(_, status)| **status == 200).map(|(read, _)| read).collect();
        assert_eq!(passed.len(), answered.iter().filter(|status| **status == 200).count(), "{shown:?}: {answer}");
        let expected: Vec<[String; 2]> = passed.iter().map(|read| expected(read)).collect();
        let of = |port: u16| theirs.iter().filter(move |line| line.starts_with(&format!("{port}|")));
        // No body, with or without its length.
        let length = |line: &String| line.strip_suffix("|0").map_or_else(|| line.clone(), |line| format!("{line}|-"));
        let back: Vec<String> = of(BACK).map(length).collect();
        let wanted: Vec<String> = expected.iter().map(|lines| lines[0].clone()).collect();
        assert_eq!(back, wanted, "{shown:?}: {answer} {theirs:?}");
        // A method in small letters is none for nginx: it refuses, and egress passes that on, beside its own refusals.
        let (bad, read): (Vec<&String>, Vec<&String>) = of(FRONT).partition(|line| line.contains("|400|-|-|"));
        assert!(bad.len() <= answer.matches(" 400 Bad Request").count(), "{shown:?}: {answer} {theirs:?}");
        // What was cut off arrives, and is not read.
        let read = read.into_iter().filter(|line| !line.contains("|400|"));
        let front: Vec<&str> = read.map(|line: &String| line.rsplit_once('|').unwrap().0).collect();
        assert_eq!(front, expected.iter().map(|lines| &lines[1][..]).collect::<Vec<_>>(), "{shown:?}: {answer}");
        arrived += passed.len();
        bodies += passed.iter().filter(|read| !read.body.is_empty()).count();
        several += usize::from(passed.len() > 1);
    }
    println!("{arrived} requests have arrived, {bodies} with a body; {several} texts had several");
    let at_least = usize::try_from(count / 10).unwrap();
    assert!(arrived > at_least && bodies > at_least / 4 && several > at_least / 10, "{arrived} {bodies} {several}");
}

/// A text with the bytes encoded that a query does not have, in every first line of a request.
fn encoded(text: &[u8]) -> Vec<u8> {
    let lines = text.split_inclusive(|byte| *byte == b'\n').map(|line| match memchr::memchr(b'?', line) {
        Some(mark) if line.ends_with(b" HTTP/1.1\r\n") => {
            let escaped = line[mark..].iter().flat_map(|byte| match byte {
                b'"' => b"%22".to_vec(),
                b'<' => b"%3C".to_vec(),
                b'>' => b"%3E".to_vec(),
                byte => vec![*byte],
            });
            [&line[..mark], &escaped.collect::<Vec<u8>>()].concat()
        }
        _ => line.to_vec(),
    });
    lines.collect::<Vec<_>>().concat()
}

#[test]
fn promise_04_nginx_reads_what_egress_lets_through_as_it_is_read_here() {
    if in_namespace("nginx::promise_04_nginx_reads_what_egress_lets_through_as_it_is_read_here") {
        compared(SOME);
    }
}

#[test]
#[ignore = "it takes minutes: `tests/run egress nginx::thoroughly --ignored`"]
fn thoroughly() {
    if in_namespace("nginx::thoroughly") {
        compared(MANY);
    }
}
