//! The cred-proxy, with the real egress behind it: what its routes send, and what they do not.

use std::path::Path;
use std::process::Stdio;

use bottler::credential::Slot;
use bottler::sidecar::cred_proxy::{Config, Put, Route};
use bottler::sidecar::egress::Update;
use bottler::sidecar::place::Uplink;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use crate::credentials::{HELD, HOST, OTHER, SPEC, VALUE, credential, shows};
use crate::lab::{Lab, PATIENCE, PUBLIC, in_namespace};

const KEY: &str = "qk-live-93hdkQzm27Xw+/";
const HELD_KEY: &str = "qk-none-0123456789abcd";

fn route(path: &str, host: &str, base: &str, put: Put) -> Route {
    let (path, host, base) = (path.to_owned(), host.to_owned(), base.to_owned());
    Route { path, host, port: 443, base, put, methods: Vec::new(), paths: Vec::new() }
}

/// A cred-proxy before the lab's egress; ended when it is dropped.
async fn start(lab: &Lab, folder: &Path) -> tokio::process::Child {
    let bearer = || Put::Header("authorization".into(), format!("Bearer {HELD}"));
    let config = Config {
        port: 9099,
        inside: None,
        outward: Uplink { proxy: lab.folder.path().join("egress"), listen: folder.join("sidecar"), ca: lab.ca.clone() },
        routes: vec![
            route("api", HOST, "/v1", bearer()),
            route("root", HOST, "", bearer()),
            route("key", OTHER, "", Put::Query("key".into(), HELD_KEY.into())),
            route("away", "not-allowed.example.com", "", bearer()),
            Route { methods: vec!["GET".into()], paths: vec!["/models/**".into()], ..route("few", HOST, "", bearer()) },
        ],
    };
    // Its own container would have its own folder for the socket of `ctl`; egress has this one.
    let own = "mount -t tmpfs none /run/bottler-ctl && exec \"$@\"";
    let mut child = tokio::process::Command::new("unshare")
        .args(["--mount", "--", "sh", "-c", own, "sh", env!("CARGO_BIN_EXE_bottler"), "cred-proxy"])
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let line = [&serde_json::to_vec(&config).unwrap()[..], b"\n"].concat();
    assert!(!shows(&line));
    child.stdin.as_mut().unwrap().write_all(&line).await.unwrap();
    let mut ready = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut ready).await.unwrap();
    assert!(ready.contains("ready"), "{ready}");
    child
}

/// Bytes to the cred-proxy, and the whole response.
async fn raw(folder: &Path, bytes: &str) -> String {
    let mut stream = UnixStream::connect(folder.join("socket")).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut response)).await;
    assert!(read.is_ok(), "it stays open: {}", String::from_utf8_lossy(&response));
    String::from_utf8_lossy(&response).into_owned()
}

async fn get(folder: &Path, target: &str, headers: &str) -> String {
    raw(folder, &format!("GET {target} HTTP/1.1\r\nHost: cred-proxy:9099\r\nConnection: close\r\n{headers}\r\n")).await
}

#[test]
fn promise_08_a_route_leads_to_its_host_with_its_credential_and_nowhere_else() {
    if in_namespace("cred_proxy::promise_08_a_route_leads_to_its_host_with_its_credential_and_nowhere_else") {
        routes();
    }
}

#[tokio::main]
async fn routes() {
    let names = [(HOST, vec![PUBLIC]), (OTHER, vec![PUBLIC])].into();
    let mut lab = Lab::new(SPEC, &names, &[]).await;
    let credentials = vec![
        credential("own", HELD, VALUE, &[(HOST, Slot::Bearer)]),
        credential("key", HELD_KEY, KEY, &[(OTHER, Slot::Query("key".into()))]),
    ];
    lab.update(Update::Credentials(credentials)).await;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let _proxy = start(&lab, folder).await;
    let heads = || std::mem::take(&mut lab.seen.lock().unwrap().heads);

    // With the real curl; what the client says of credentials and hosts counts for nothing.
    let output = tokio::process::Command::new("curl")
        .args(["-sS", "--max-time", "20", "--unix-socket"])
        .arg(folder.join("socket"))
        .args(["-H", "Authorization: Bearer another", "-H", "X-Api-Key: another", "-H", "Cookie: session=another"])
        .args(["-H", "Host: other.example.com", "-d", "{}", "http://cred-proxy:9099/api/messages?a=1"])
        .output()
        .await
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "here", "{}", String::from_utf8_lossy(&output.stderr));
    let head = heads().concat();
    assert!(head.starts_with(&format!("POST https://{HOST}/v1/messages?a=1 ")), "{head}");
    assert!(head.contains(&format!("authorization: Bearer {VALUE}")) && !head.contains("another"), "{head}");
    assert!(get(folder, "/key/list?key=another", "").await.ends_with("here"));
    let head = heads().concat();
    let target = format!("GET https://{OTHER}/list?key=qk-live-93hdkQzm27Xw%2B%2F ");
    assert!(head.starts_with(&target) && !head.contains("another"), "{head}");

    // The destination shows what it got: the client sees the placeholder.
    let shown = get(folder, "/root/reflect", "").await;
    assert!(shown.contains(HELD) && !shows(shown.as_bytes()), "{shown}");
    assert_eq!(heads().len(), 1);

    for (target, headers, status, words) in [
        ("/nothing/x", "", "404", "/api/, /root/, /key/, /away/, /few/"),
        ("/api/../admin", "", "400", "the path is not accepted"),
        ("/api/%2e%2e/admin", "", "400", "the path is not accepted"),
        ("/api/x%2f..%2fy", "", "400", "the path is not accepted"),
        ("http://other.example.com/api/x", "", "400", "the path of a route"),
        ("//other.example.com/api/x", "", "404", "no route"),
        ("/few/files", "", "403", "for the paths"),
        ("/away/x", "", "502", "not-allowed.example.com is not on this bottle's allowlist"),
        ("/root/repository.git/info/refs?service=git-receive-pack", "", "400", "goes through the git gate only"),
        ("/root/x", "Authorization: a\r\n b\r\n", "400", ""),
        ("/root/x", "X: a\0b\r\n", "400", ""),
    ] {
        let response = get(folder, target, headers).await;
        assert!(
            response.starts_with(&format!("HTTP/1.1 {status} ")) && response.contains(words),
            "{target}: {response}"
        );
        assert_eq!(heads(), Vec::<String>::new(), "{target}");
    }
    let connect = raw(folder, "CONNECT other.example.com:443 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(connect.starts_with("HTTP/1.1 400 "), "{connect}");

    // A body goes on while it comes, and so does the response.
    let mut stream = UnixStream::connect(folder.join("socket")).await.unwrap();
    let head = "POST /root/echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(b"4\r\nlast\r\n0\r\n\r\n").await.unwrap();
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("last") {
        let read =
            tokio::time::timeout(PATIENCE, stream.read_buf(&mut seen)).await.expect("the response goes on").unwrap();
        assert_ne!(read, 0, "{}", String::from_utf8_lossy(&seen));
    }
    // Each use is in egress' audit, under the sidecar's name.
    let events = lab.decisions().await;
    let used = events.iter().filter(|event| event.kind.code == "credential_used").count();
    assert!(used >= 4, "{events:?}");
    assert!(!shows(lab.told.as_bytes()));
}
