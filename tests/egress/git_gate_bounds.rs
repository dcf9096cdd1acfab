//! The limits of the git gate that a client or an upstream reaches, each at the limit and beyond it.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use flate2::{Compression, write::GzEncoder};

use crate::git_gate_lab::{By, Wish, World};
use crate::lab::in_namespace;
use crate::support::process::wait_for;

/// How long somebody is listened to who must not speak. It decides nothing if the gate is right.
const A_WHILE: Duration = Duration::from_millis(200);
/// The largest request of a fetch, and the largest commit, folder or tag, in bytes.
const MOST: usize = 16 << 20;
/// Few references have many bytes if each has so many; git reads and lists names of any length.
const EACH: usize = 60_000;
const ZERO: &str = "0000000000000000000000000000000000000000";

fn connect(world: &World, request: impl AsRef<[u8]>) -> TcpStream {
    let mut stream = TcpStream::connect(world.gate).unwrap();
    stream.write_all(request.as_ref()).unwrap();
    stream
}

/// Reads until these words have come.
fn hear(stream: &mut TcpStream, words: &str) {
    let mut heard = Vec::new();
    while memchr::memmem::find(&heard, words.as_bytes()).is_none() {
        let mut byte = [0];
        let read = stream.read(&mut byte).unwrap();
        assert_eq!(read, 1, "{words}: {}", String::from_utf8_lossy(&heard));
        heard.push(byte[0]);
    }
}

fn is_silent(stream: &TcpStream) -> bool {
    stream.set_read_timeout(Some(A_WHILE)).unwrap();
    let read = stream.peek(&mut [0]);
    stream.set_read_timeout(None).unwrap();
    read.is_err()
}

fn post(service: &str, headers: &str, length: usize, body: &[u8]) -> Vec<u8> {
    let head =
        format!("POST /app.git/git-{service} HTTP/1.1\r\nHost: gate\r\n{headers}Content-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

#[test]
fn promise_15_further_connections_wait_for_another_to_end() {
    if !in_namespace("git_gate_bounds::promise_15_further_connections_wait_for_another_to_end") {
        return;
    }
    let world = World::new(Wish::default());
    let request = "GET /none HTTP/1.1\r\nHost: gate\r\n\r\n";
    let mut held: Vec<TcpStream> = (0..128).map(|_| connect(&world, request)).collect();
    for stream in &mut held {
        hear(stream, "serves no such repository");
    }
    let mut next = connect(&world, request);
    assert!(is_silent(&next), "there is one more");
    drop(held.pop());
    hear(&mut next, "serves no such repository");
}

#[test]
fn promise_15_further_fetches_wait_for_another_to_end() {
    if !in_namespace("git_gate_bounds::promise_15_further_fetches_wait_for_another_to_end") {
        return;
    }
    let world = World::new(Wish::default());
    // Who is told to go on has its turn: half a request, so that it keeps it.
    let begin = || connect(&world, post("upload-pack", "Expect: 100-continue\r\n", 5, b"0000"));
    let mut held: Vec<TcpStream> = (0..32).map(|_| begin()).collect();
    for stream in &mut held {
        hear(stream, "100 Continue");
    }
    let mut next = begin();
    assert!(is_silent(&next), "there is one more");
    drop(held.pop());
    hear(&mut next, "100 Continue");
    // By git's own protocol as well.
    let line = "git-upload-pack /app.git\0host=gate\0\0version=2\0";
    let mut other = connect(&world, format!("{:04x}{line}", line.len() + 4));
    assert!(is_silent(&other), "there is one more");
    drop(held.pop());
    hear(&mut other, "version 2");
}

#[test]
fn promise_15_further_pushes_wait_for_another_to_end() {
    if !in_namespace("git_gate_bounds::promise_15_further_pushes_wait_for_another_to_end") {
        return;
    }
    let world = World::new(Wish { by: By::Ssh, ..Wish::default() });
    let clone = world.clone_to("clone");
    world.write("clone/a", "a\n");
    let commit = world.commit("clone", "a");
    let pack = world.git_with(&clone, &["pack-objects", "--stdout", "-q", "--revs"], b"HEAD\n^HEAD~\n");
    // All but the last byte of a push.
    let begin = |number: usize| {
        let text = format!("{ZERO} {commit} refs/heads/agent/{number}\0report-status side-band-64k");
        let body = [format!("{:04x}{text}0000", text.len() + 4).as_bytes(), &pack].concat();
        connect(&world, post("receive-pack", "", body.len(), &body[..body.len() - 1]))
    };
    let quarantines = || {
        let names = std::fs::read_dir(world.path("state/app")).unwrap();
        names.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("push-")).count()
    };
    let mut held: Vec<TcpStream> = (0..4).map(begin).collect();
    wait_for("four pushes", || (quarantines() == 4).then_some(()));
    let mut next = begin(4);
    let end = &pack[pack.len() - 1..];
    next.write_all(end).unwrap();
    assert!(is_silent(&next) && quarantines() == 4, "there is one more");
    held[0].write_all(end).unwrap();
    hear(&mut held[0], "ok refs/heads/agent/0");
    hear(&mut next, "ok refs/heads/agent/4");
    drop(held);
    wait_for("the others", || (quarantines() == 0).then_some(()));
    let there: Vec<_> = (0..5).map(|number| world.upstream(&format!("agent/{number}"))).collect();
    assert_eq!(there, [&*commit, "", "", "", &*commit]);
}

#[test]
fn promise_15_a_commit_a_folder_and_a_tag_have_a_largest_size() {
    if !in_namespace("git_gate_bounds::promise_15_a_commit_a_folder_and_a_tag_have_a_largest_size") {
        return;
    }
    let mut wish = Wish { by: By::Ssh, ..Wish::default() };
    wish.terms.tags = vec!["*".to_owned()];
    let world = World::new(wish);
    let clone = world.clone_to("clone");
    let (parent, tree) = (world.id(&clone, "HEAD"), world.id(&clone, "HEAD^{tree}"));
    let write = |kind: &str, head: String, size: usize| {
        let mut content = head.into_bytes();
        content.resize_with(size - 1, Default::default);
        for (at, byte) in content.iter_mut().enumerate().filter(|(_, byte)| **byte == 0) {
            *byte = if at % 64 == 63 { b'\n' } else { b'a' };
        }
        content.push(b'\n');
        let id = world.git_with(&clone, &["hash-object", "-t", kind, "-w", "--stdin"], &content);
        String::from_utf8(id).unwrap().trim().to_owned()
    };
    let who = "A <a@example.com> 1 +0000";
    for (kind, name, head) in [
        ("commit", "refs/heads/agent/x", format!("tree {tree}\nparent {parent}\nauthor {who}\ncommitter {who}\n\n")),
        ("tag", "refs/tags/large", format!("object {parent}\ntype commit\ntag large\ntagger {who}\n\n")),
    ] {
        let large = write(kind, head.clone(), MOST + 1);
        let done = world.git(&clone, &["push", "origin", &format!("{large}:{name}")]);
        done.expect(false, &[&format!(" has {} bytes; a {kind} may have at most {MOST}", MOST + 1)]);
        let just = write(kind, head, MOST);
        world.git(&clone, &["push", "origin", &format!("{just}:{name}")]).expect(true, &[]);
        assert_eq!(world.id(&world.path("upstream.git"), name), just);
    }
    // A folder: entries of 28 bytes and a name.
    let blob = world.id(&clone, "HEAD:README");
    let each = 28 + 200;
    let count = MOST / each + 1;
    let entries: Vec<String> = (0..count).map(|number| format!("100644 blob {blob}\t{number:0200}\n")).collect();
    let large = world.git_with(&clone, &["mktree"], entries.concat().as_bytes());
    let large = String::from_utf8(large).unwrap().trim().to_owned();
    let commit = world.git(&clone, &["commit-tree", "-m", "x", "-p", &parent, &large]).text.trim().to_owned();
    let done = world.git(&clone, &["push", "origin", &format!("{commit}:refs/heads/agent/y")]);
    done.expect(false, &[&format!("{large} has {} bytes; a folder may have at most {MOST}", count * each)]);
}

#[test]
fn promise_15_a_push_of_too_many_objects_is_refused() {
    if !in_namespace("git_gate_bounds::promise_15_a_push_of_too_many_objects_is_refused") {
        return;
    }
    let world = World::new(Wish { by: By::Ssh, ..Wish::default() });
    let clone = world.clone_to("clone");
    // The list names each object with its path: few objects, far down.
    let folder: String = format!("{}/", "x".repeat(250)).repeat(16);
    let mut stream = format!(
        "commit refs/heads/many\ncommitter A <a@example.com> 1 +0000\ndata 2\nx\nfrom {}\n",
        world.id(&clone, "HEAD")
    );
    for number in 0..(256 << 20) / folder.len() {
        let _ = write!(
            stream,
            "M 100644 inline {folder}{}/{number}\ndata {}\n{number}\n",
            number % 100,
            number.to_string().len()
        );
    }
    world.git_with(&clone, &["fast-import", "--quiet"], stream.as_bytes());
    let done = world.git(&clone, &["push", "origin", "many:refs/heads/agent/x"]);
    done.expect(false, &["rev-list", "its output has more than 268435456 bytes"]);
    assert_eq!(world.upstream("agent/x"), "");
}

#[test]
fn promise_15_an_upstream_with_too_many_references_is_not_read() {
    if !in_namespace("git_gate_bounds::promise_15_an_upstream_with_too_many_references_is_not_read") {
        return;
    }
    for by in [By::Http, By::Ssh] {
        let world = World::new(Wish { by, ..Wish::default() });
        let id = world.id(&world.path("upstream.git"), "main");
        let list = |count: usize| {
            let mut text = "# pack-refs with: peeled fully-peeled sorted \n".to_owned();
            for number in 0..count {
                let _ = writeln!(text, "{id} refs/pull/{number:05}{}/head", "/x".repeat(EACH / 2 - 40));
            }
            world.write("upstream.git/packed-refs", text);
        };
        list((64 << 20) / EACH - 10);
        world.git(world.folder.path(), &["clone", "-q", &world.url(), "clone"]).expect(true, &[]);
        list((64 << 20) / EACH + 10);
        let done = world.git(&world.path("clone"), &["fetch", "origin"]);
        done.expect(false, &["bottler: the upstream of \"app\" cannot be asked", "more than 67108864 bytes"]);
    }
}

#[test]
fn promise_15_the_request_of_a_fetch_has_a_largest_size_also_when_it_is_unpacked() {
    if !in_namespace("git_gate_bounds::promise_15_the_request_of_a_fetch_has_a_largest_size_also_when_it_is_unpacked") {
        return;
    }
    let world = World::new(Wish::default());
    let packed = |size: usize| {
        let mut to = GzEncoder::new(Vec::new(), Compression::fast());
        to.write_all(&vec![b'0'; size]).unwrap();
        to.finish().unwrap()
    };
    let gzip = "Content-Encoding: gzip\r\n";
    for (headers, body, status) in [
        ("", vec![b'0'; MOST], "HTTP/1.1 200 "),
        ("", vec![b'0'; MOST + 1], "HTTP/1.1 413 "),
        (gzip, packed(MOST), "HTTP/1.1 200 "),
        (gzip, packed(MOST + 1), "HTTP/1.1 413 "),
        (gzip, b"0000".to_vec(), "HTTP/1.1 400 "),
    ] {
        let mut stream = connect(&world, post("upload-pack", headers, body.len(), &body));
        let mut head = [0; 13];
        stream.read_exact(&mut head).unwrap();
        assert_eq!(String::from_utf8_lossy(&head), status, "{headers}{}", body.len());
    }
    let line = |text: &[u8]| [format!("{:04x}", text.len() + 4).as_bytes(), text].concat();
    let begin = line(b"git-upload-pack /app.git\0host=gate\0\0version=2\0");
    let piece = line("x".repeat(60_000).as_bytes());
    let mut stream = connect(&world, [begin, piece.repeat(MOST / 60_000)].concat());
    hear(&mut stream, "version 2");
    stream.write_all(&piece).unwrap();
    hear(&mut stream, "ERR bottler: the request of a fetch has more than 16777216 bytes");
}
