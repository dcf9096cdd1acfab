//! Git LFS through the git gate, with a real git-lfs: what git pushes is a pointer; the content goes by requests of its own, and is
//! inspected as a pushed file is.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use bottler::policy::{GitLfs, GitTerms};
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use crate::git_gate_lab::{Done, SECRET, Wish, World, token};
use crate::lab::in_namespace;

fn world(lfs: GitLfs) -> World {
    let terms = GitTerms { lfs, force: true, max_file: 3_000_000, ..GitTerms::default() };
    let world = World::new(Wish { terms, ..Wish::default() });
    world.git(world.folder.path(), &["lfs", "install", "--skip-repo"]).expect(true, &[]);
    world
}

/// A clone in which files `.bin` are kept in Git LFS.
fn clone(world: &World, name: &str) {
    let clone = world.clone_to(name);
    world.git(&clone, &["lfs", "install", "--local"]).expect(true, &[]);
    world.git(&clone, &["lfs", "track", "*.bin"]).expect(true, &[]);
    world.commit(name, "keep binaries in LFS");
}

/// Commits a file of LFS on top of what `start` is, and pushes; returns its id, too.
fn push(world: &World, start: &str, content: &[u8]) -> (Done, String) {
    let clone = world.path("clone");
    world.git(&clone, &["checkout", "-q", "-B", "work", start]).expect(true, &[]);
    world.write("clone/data.bin", content);
    world.commit("clone", "data");
    let pointer = world.git(&clone, &["show", "HEAD:data.bin"]).text;
    assert!(pointer.starts_with("version https://git-lfs.github.com/spec/v1\n"), "{pointer}");
    let done = world.git(&clone, &["push", "-f", "origin", "HEAD:refs/heads/agent/x"]);
    (done, HEXLOWER.encode(&Sha256::digest(content)))
}

fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    bytes
}

fn there(world: &World, oid: &str) -> Option<Vec<u8>> {
    std::fs::read(world.path("lfs").join(oid)).ok()
}

#[test]
fn objects_of_lfs_are_sent_and_got_through_the_gate() {
    if !in_namespace("git_lfs::objects_of_lfs_are_sent_and_got_through_the_gate") {
        return;
    }
    let mut world = world(GitLfs::Scan);
    clone(&world, "clone");
    let start = world.id(&world.path("clone"), "HEAD");
    for length in [1, 100_000, 2_500_000] {
        let content = noise(length);
        let (done, oid) = push(&world, &start, &content);
        done.expect(true, &[]);
        assert_eq!(there(&world, &oid), Some(content.clone()), "{length}");
        assert_eq!(world.upstream("agent/x"), world.id(&world.path("clone"), "HEAD"));
        // Another clone gets it.
        let name = format!("other-{length}");
        let other = world.path(&name);
        world.git(world.folder.path(), &["clone", "-q", "-b", "agent/x", &world.url(), &name]).expect(true, &[]);
        assert_eq!(std::fs::read(other.join("data.bin")).unwrap(), content);
        // What is there is not sent again.
        let puts = || world.http.requests.lock().unwrap().iter().filter(|request| request.starts_with("PUT ")).count();
        let before = puts();
        push(&world, &start, &content).0.expect(true, &[]);
        assert_eq!(puts(), before);
    }
    let events = world.decisions();
    assert!(events.iter().any(|event| event.kind.reason.contains("the LFS object")), "{events:?}");
    // The upstream's headers are not sent: only the gate's own credential is.
    let (done, oid) = push(&world, &start, b"more");
    done.expect(true, &[]);
    assert!(there(&world, &oid).is_some());
}

#[test]
fn promise_10_a_secret_in_an_object_of_lfs_is_refused_and_an_approval_releases_it() {
    if !in_namespace("git_lfs::promise_10_a_secret_in_an_object_of_lfs_is_refused_and_an_approval_releases_it") {
        return;
    }
    let mut world = world(GitLfs::Scan);
    clone(&world, "clone");
    let start = world.id(&world.path("clone"), "HEAD");
    let around = "a line that is there often\n".repeat(500);
    let xz = |text: &str| {
        let mut command = std::process::Command::new("xz");
        let child = command.arg("-c").stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut child = child.spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        child.wait_with_output().unwrap().stdout
    };
    for (content, words) in [
        (format!("{around}{SECRET}{around}").into_bytes(), "a secret (known-secret)"),
        (xz(&format!("{around}{SECRET}{around}")), "a secret (known-secret)"),
        (format!(r#"["{}", "{}"]"#, &SECRET[..12], &SECRET[12..]).into_bytes(), "a secret (known-secret)"),
        (xz(&format!("{around}{}\n{around}", token())), "a secret (github-token"),
    ] {
        let (done, oid) = push(&world, &start, &content);
        let done = done.expect(false, &["bottler refused this object", words]);
        assert!(!done.text.contains(SECRET) && !done.text.contains(&token()), "{}", done.text);
        assert_eq!(done.text.contains("git approve"), words.contains("token"), "{}", done.text);
        assert_eq!((there(&world, &oid), world.upstream("agent/x")), (None, String::new()));
        if words.contains("token") {
            world.approve(&done.text, true);
            let again = push(&world, &start, &content).0;
            again.expect(true, &[]);
            assert_eq!(there(&world, &oid), Some(content));
            // Once is once.
            let other = xz(&format!("{around}{}\n", token()));
            push(&world, &start, &other).0.expect(false, &["a secret (github-token"]);
        }
    }
    let told = serde_json::to_string(&world.decisions()).unwrap();
    assert!(told.contains("secret_found") && !told.contains(SECRET) && !told.contains(&token()), "{told}");
}

/// Sends a request as a client that is not git-lfs; returns the whole response as text.
fn request(world: &World, method: &str, path: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(world.gate).unwrap();
    let head = format!(
        "{method} /app.git/info/lfs{path} HTTP/1.1\r\nHost: gate\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    let mut response = Vec::new();
    let _ = stream.read_to_end(&mut response);
    String::from_utf8_lossy(&response).into_owned()
}

#[test]
fn promise_10_a_client_that_is_not_git_lfs_sends_nothing_uninspected() {
    if !in_namespace("git_lfs::promise_10_a_client_that_is_not_git_lfs_sends_nothing_uninspected") {
        return;
    }
    let world = world(GitLfs::Scan);
    let content = b"content";
    let oid = HEXLOWER.encode(&Sha256::digest(content));
    let batch = |operation: &str, oid: &str, size: usize| {
        let body = format!(
            r#"{{"operation": "{operation}", "objects": [{{"oid": "{oid}", "size": {size}}}], "x": "{SECRET}"}}"#
        );
        request(&world, "POST", "/objects/batch", body.as_bytes())
    };
    let response = batch("upload", &oid, 7);
    assert!(response.starts_with("HTTP/1.1 200 ") && response.contains(&format!("/objects/{oid}/7")), "{response}");
    // Its own links lead to the gate, not to the upstream.
    assert!(!response.contains("upstream.git"), "{response}");
    let secret = format!("{}{}", HEXLOWER.encode(SECRET.as_bytes()), "0".repeat(64 - 2 * SECRET.len()));
    for operation in ["upload", "download"] {
        let response = batch(operation, &secret, 7);
        assert!(response.starts_with("HTTP/1.1 422 ") && response.contains("hold a secret"), "{response}");
    }
    assert!(batch("upload", &oid, 3_000_001).contains("a file may have at most 3000000"));
    for (method, path, body, words) in [
        ("PUT", format!("/objects/{oid}/7"), &b"another"[..], "another size or hash"),
        ("PUT", format!("/objects/{oid}/7"), b"conten", "another size or hash"),
        ("PUT", format!("/objects/{oid}/7"), b"content and more", "more than 7 bytes"),
        ("PUT", format!("/objects/{oid}/9"), content, "another size or hash"),
        ("PUT", format!("/objects/{oid}/3000001"), content, "at most 3000000"),
        ("PUT", format!("/objects/{oid}"), content, "404 Not Found"),
        ("GET", format!("/objects/{oid}/7"), b"", "there is no such object"),
        ("GET", format!("/objects/{secret}/7"), b"", "holds a secret"),
        ("POST", "/locks/verify".to_owned(), b"{}", "does not serve locks"),
        ("POST", "/objects/batch".to_owned(), b"{}", "cannot be read"),
        ("DELETE", format!("/objects/{oid}/7"), b"", "404 Not Found"),
    ] {
        let response = request(&world, method, &path, body);
        assert!(response.contains(words), "{method} {path}: {words}: {response}");
    }
    assert_eq!(there(&world, &oid), None);
    let asked = world.http.requests.lock().unwrap().join("\n");
    assert!(!asked.contains(&secret[..20]) && !asked.contains(SECRET), "{asked}");
    // An upstream that keeps objects elsewhere would lead the gate and its credential there.
    for at in ["http://127.0.0.1:1/upstream.git/info/lfs", "http://evil.example/upstream.git/info/lfs"] {
        *world.http.lfs_at.lock().unwrap() = Some(at.to_owned());
        let response = batch("upload", &oid, 7);
        assert!(response.contains("below the repository itself only"), "{response}");
        let response = request(&world, "PUT", &format!("/objects/{oid}/7"), content);
        assert!(
            response.starts_with("HTTP/1.1 502 ") && response.contains("below the repository itself only"),
            "{response}"
        );
    }
    *world.http.lfs_at.lock().unwrap() = None;
    let response = request(&world, "PUT", &format!("/objects/{oid}/7"), content);
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    assert_eq!(there(&world, &oid).as_deref(), Some(&content[..]));
    let response = request(&world, "GET", &format!("/objects/{oid}/7"), b"");
    assert!(response.starts_with("HTTP/1.1 200 ") && response.contains("content"), "{response}");
}

#[test]
fn without_lfs_scan_neither_objects_nor_pointers_pass() {
    if !in_namespace("git_lfs::without_lfs_scan_neither_objects_nor_pointers_pass") {
        return;
    }
    let world = world(GitLfs::Refuse);
    clone(&world, "clone");
    let start = world.id(&world.path("clone"), "HEAD");
    let (done, oid) = push(&world, &start, b"content");
    done.expect(false, &["Git LFS is off for this repository"]);
    let push = ["push", "--no-verify", "origin", "HEAD:refs/heads/agent/x"];
    world.git(&world.path("clone"), &push).expect(false, &["is a pointer to Git LFS"]);
    assert_eq!(request(&world, "PUT", &format!("/objects/{oid}/7"), b"content").split(' ').nth(1), Some("403"));
    assert_eq!((there(&world, &oid), world.upstream("agent/x")), (None, String::new()));
    assert!(!Path::new(&world.path("lfs")).exists());
}
