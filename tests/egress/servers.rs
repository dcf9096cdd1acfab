//! How real servers (Debian's nginx, Python's http.server) understand a request: a path that leads to a denied file
//! at one of them does not reach it, and no request is hidden inside another.

use bottler::policy::EnforcedPolicy;
use bottler::sidecar::Action;
use bottler::sidecar::egress::Update;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tokio::net::TcpStream;

use crate::lab::{Lab, PUBLIC, in_namespace};

const HOST: &str = "api.example.com";
const NGINX: u16 = 8081;
const PYTHON: u16 = 8082;
/// The content of the denied file.
const DENIED: &str = "this file is denied";

/// Ended when dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn spawn(command: &mut Command, port: u16) -> Server {
    let child =
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("nginx-light and python3 are installed");
    let server = Server(child);
    while TcpStream::connect((PUBLIC, port)).await.is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    server
}

async fn servers(folder: &Path) -> [Server; 2] {
    let root = folder.join("root");
    for (file, text) in [("repos/acme/secret/x", DENIED), ("repos/acme/open/x", "open"), ("open/x", "open")] {
        let file = root.join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }
    let here = folder.display();
    let log = "log_format wire '$connection $request'";
    std::fs::write(
        folder.join("nginx.conf"),
        format!(
            "daemon off; master_process off; user root; pid {here}/pid; error_log {here}/errors;
             events {{}}
             http {{
               {log}; access_log {here}/log wire;
               client_body_temp_path {here}/b; proxy_temp_path {here}/p; fastcgi_temp_path {here}/f;
               uwsgi_temp_path {here}/u; scgi_temp_path {here}/s;
               server {{ listen 0.0.0.0:{NGINX}; root {here}/root; }}
             }}"
        ),
    )
    .unwrap();
    let mut python = Command::new("python3");
    python.args(["-m", "http.server", &PYTHON.to_string(), "--directory"]).arg(&root);
    let mut nginx = Command::new("nginx");
    nginx.arg("-c").arg(folder.join("nginx.conf"));
    [spawn(&mut nginx, NGINX).await, spawn(&mut python, PYTHON).await]
}

/// Sends a request directly to a server; returns the response.
async fn direct(port: u16, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = TcpStream::connect((PUBLIC, port)).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

async fn through(lab: &Lab, port: u16, path: &str) -> String {
    let request =
        format!("GET http://{HOST}:{port}{path} HTTP/1.1\r\nHost: {HOST}:{port}\r\nConnection: close\r\n\r\n");
    lab.raw(request.as_bytes()).await
}

/// Paths that may lead to the denied file.
const WAYS: [&str; 44] = [
    "/repos/acme/secret/x",
    "/repos/acme//secret/x",
    "//repos/acme/secret/x",
    "/repos/acme/secret//x",
    "/repos/acme/./secret/x",
    "/repos/acme/open/../secret/x",
    "/repos/acme/open/%2e%2e/secret/x",
    "/repos/acme/open%2F..%2Fsecret/x",
    "/repos/acme/open/..%2Fsecret/x",
    "/repos/acme/open%2f%2e%2e%2fsecret/x",
    "/repos/acme%2Fsecret/x",
    "/repos/acme%2F%2Fsecret%2Fx",
    "/repos/acme/%73ecret/x",
    "/repos/acme/secret/x/",
    "/repos/acme/secret/x?y",
    "/repos/acme/SECRET/x",
    "/repos/acme/secret;a=b/x",
    "/repos/acme/open/..;/secret/x",
    "/repos/acme/open/..%3B/secret/x",
    "/repos/acme\\secret\\x",
    "/repos/acme/secret/x%00",
    "/repos/acme/%2573ecret/x",
    "/repos/acme%C0%AFsecret/x",
    "/open%2F..%2Frepos%2Facme%2Fsecret%2Fx",
    "/repos/acme/secret/./x",
    "/repos/acme/secret/%2e/x",
    "/repos/acme/secret%2f.%2fx",
    "/./repos/acme/secret/x",
    "/repos//acme/..//acme/secret/x",
    "/repos/acme/open/..//secret/x",
    "/repos/acme/open/%2e./secret/x",
    "/repos/acme/open/.%2e%2fsecret/x",
    "/repos/acme/open%2f../secret/x",
    "///repos/acme/secret/x",
    "/repos%2f%2facme/secret/x",
    "/repos/acme/secret/x#/open",
    "/repos/acme/secret/x?/../../open/x",
    "/repos/acme/secret/x%20",
    "/repos/acme/secret./x",
    "/repos/acme/secret/x%3Fy",
    "/repos/acme/secret/x%23y",
    "/repos/acme/%E0%81%B3ecret/x",
    "/repos/acme/%EF%BD%93ecret/x",
    "/repos/acme/%C5%BFecret/x",
];

#[test]
fn promise_04_a_denied_file_is_read_by_no_path_at_real_servers() {
    if in_namespace("servers::promise_04_a_denied_file_is_read_by_no_path_at_real_servers") {
        paths();
    }
}

#[tokio::main]
async fn paths() {
    let spec = format!(
        "allow: ['{HOST}:{NGINX}', '{HOST}:{PYTHON}', '{HOST}:80']
deny: [{{host: '{HOST}:{NGINX}', paths: ['/repos/acme/secret/**']}}, {{host: '{HOST}:{PYTHON}', paths: ['/repos/acme/secret/**']}}]"
    );
    let lab = Lab::new(&spec, &[(HOST, vec![PUBLIC])].into(), &[]).await;
    let folder = tempfile::tempdir().unwrap();
    let _servers = servers(folder.path()).await;
    for port in [NGINX, PYTHON] {
        let mut served = 0;
        for way in WAYS {
            // Without egress, to show which paths lead there.
            served += usize::from(direct(port, way).await.contains(DENIED));
            let answer = through(&lab, port, way).await;
            let refused = ["\"denied\"", "\"bad_path\""].iter().any(|code| answer.contains(code));
            assert!(refused && !answer.contains(DENIED), "{port} {way}: {answer}");
        }
        assert!(served >= 8, "{port}: {served} ways");
        for path in ["/repos/acme/open/x", "/open/x", "/repos/acme/secret/../open/x", "/open/./x?a=//;b"] {
            assert!(through(&lab, port, path).await.ends_with("open"), "{port} {path}");
        }
    }
    // For a host without path rules, all of them are sent unchanged.
    for path in ["/a//b", "/a;b=c/d", "/a%00b", "/a%2F..%2Fb", "/a/..;/b", "/a\\b", "/a%252Fb", "/a%C0%AFb"] {
        let answer = through(&lab, 80, path).await;
        assert!(answer.ends_with("here"), "{path}: {answer}");
        let arrived = lab.seen.lock().unwrap().requests.last().cloned();
        assert_eq!(arrived, Some(format!("GET {path} ")));
    }
}

#[test]
fn promise_04_no_request_is_hidden_behind_a_handshake() {
    if in_namespace("servers::promise_04_no_request_is_hidden_behind_a_handshake") {
        smuggled();
    }
}

fn handshake(more: &str) -> String {
    format!(
        "GET http://{HOST}:{NGINX}/open/x HTTP/1.1\r\nHost: {HOST}:{NGINX}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    )
}

#[tokio::main]
async fn smuggled() {
    let spec = format!("allow: [{{host: '{HOST}:{NGINX}', methods: [GET], paths: ['/open/**']}}]");
    let mut lab = Lab::new(&spec, &[(HOST, vec![PUBLIC])].into(), &[]).await;
    let folder = tempfile::tempdir().unwrap();
    let _servers = servers(folder.path()).await;
    let get = |more: &str| {
        format!("GET http://{HOST}:{NGINX}/open/x HTTP/1.1\r\nHost: {HOST}:{NGINX}\r\nConnection: close\r\n{more}\r\n")
    };
    let hidden = format!("GET /repos/acme/open/x HTTP/1.1\r\nHost: {HOST}\r\nX: ");
    let bodies = [
        "Content-Length: 60\r\n",
        "Content-Length: 1\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Expect: 100-continue\r\nContent-Length: 60\r\n",
        "Content-Length: 060\r\n",
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
        "Connection: Content-Length\r\nContent-Length: 60\r\n",
    ];
    for body in bodies {
        // The client announces a body that it does not send: the next request would be taken for it.
        let answer = lab.raw(handshake(body).as_bytes()).await;
        assert!(answer.contains("bad_request"), "{body}: {answer}");
        lab.until_refused(body, Some("bad_request")).await;
        let answer = lab.raw(get(&format!("X-Note: {}\r\n", hidden.replace("\r\n", " "))).as_bytes()).await;
        assert!(answer.ends_with("open"), "{answer}");
    }
    // The server does not grant this one: its connection ends on both sides.
    let bad = format!("GET http://{HOST}:{NGINX}/open/x HTTP/1.1\nHost: {HOST}:{NGINX}\n\n");
    for (after, granted) in [(get(""), 1), (bad, 0)] {
        let answer = lab.raw(format!("{}{after}", handshake("")).as_bytes()).await;
        assert_eq!(answer.matches("HTTP/1.1 200").count(), granted, "{answer}");
        let answer = lab.raw(get("").as_bytes()).await;
        assert!(answer.ends_with("open"), "{answer}");
    }
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    let lines: Vec<(&str, &str)> = log.lines().filter_map(|line| line.split_once(' ')).collect();
    assert!(lines.iter().all(|(_, request)| *request == "GET /open/x HTTP/1.1"), "{log}");
    // A request after each, a handshake, and two more requests.
    assert_eq!(lines.len(), bodies.len() + 3, "{log}");
    let alone = lines.iter().filter(|(connection, _)| *connection == lines[bodies.len()].0).count();
    assert_eq!(alone, 1, "the handshake's connection has had another request: {log}");
    chunked(&lab).await;
}

/// A chunked body arrives, whatever the method, and whether its length is known at the end or not.
async fn chunked(lab: &Lab) {
    let chunks = "GET http://api.example.com/x HTTP/1.1\r\nHost: api.example.com\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (generation, spec) in [(2, "allow: [api.example.com]"), (3, "allow: [{host: api.example.com, scan: 'off'}]")] {
        let policy = EnforcedPolicy { generation, ..EnforcedPolicy::first(serde_yaml::from_str(spec).unwrap()) };
        lab.ctl(Action::Update(Update::Policy(Box::new(policy)))).await;
        for method in ["GET", "HEAD", "DELETE", "OPTIONS", "POST"] {
            let request = format!("{}5\r\nhello\r\n0\r\n\r\n", chunks.replacen("GET", method, 1));
            let answer = lab.raw(request.as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{method}: {answer}");
            assert_eq!(lab.seen.lock().unwrap().requests.last().unwrap(), &format!("{method} /x hello"), "{spec}");
        }
    }
}
