//! Large and many: probes before large pushes, files and packs that are too large, and clones that share a fetch.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::git_gate_lab::{SECRET, Wish, World};
use crate::git_gate_upstream::Relay;
use crate::lab::in_namespace;
use crate::support::process::wait_for;

#[test]
fn a_probe_before_a_large_push_is_answered_and_the_push_goes_on() {
    if !in_namespace("git_gate_limits::a_probe_before_a_large_push_is_answered_and_the_push_goes_on") {
        return;
    }
    let world = World::new(Wish::default());
    let clone = world.clone_to("clone");
    let mut stream = TcpStream::connect(world.gate).unwrap();
    let probe =
        "POST /app.git/git-receive-pack HTTP/1.1\r\nHost: gate\r\nConnection: close\r\nContent-Length: 4\r\n\r\n0000";
    stream.write_all(probe.as_bytes()).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    assert!(response.contains("application/x-git-receive-pack-result"), "{response}");
    // git's own probe: its buffer is smaller than the pack.
    let gate = world.gate;
    let front = Relay::new(&["Content-Length: 4\r\n", "Transfer-Encoding: chunked\r\n"], move || gate);
    let url = format!("http://{}/app.git", front.address);
    world.git(&clone, &["remote", "set-url", "origin", &url]).expect(true, &[]);
    let mut content = vec![0; 500_000];
    std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut content).unwrap();
    world.write("clone/large", content);
    let commit = world.commit("clone", "large");
    let push = ["-c", "http.postBuffer=65536", "push", "origin", "HEAD:refs/heads/agent/x"];
    world.git(&clone, &push).expect(true, &[]);
    assert_eq!(world.upstream("agent/x"), commit);
    assert_eq!(front.seen(), [1, 1]);
    // A refusal arrives the same way.
    world.write("clone/key", SECRET);
    world.commit("clone", "key");
    world.write("clone/large", vec![b'x'; 10]);
    world.commit("clone", "small");
    let mut content = vec![0; 3_000_000];
    std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut content).unwrap();
    world.write("clone/large", content);
    world.commit("clone", "large again");
    world.git(&clone, &push).expect(false, &["[remote rejected]", "known-secret", "in key line 1"]);
    assert_eq!(front.seen(), [2, 2]);
}

#[test]
fn promise_15_a_file_of_a_gibibyte_is_refused_by_its_size() {
    if !in_namespace("git_gate_limits::promise_15_a_file_of_a_gibibyte_is_refused_by_its_size") {
        return;
    }
    let world = World::new(Wish::default());
    let clone = world.clone_to("clone");
    let file = std::fs::File::create(world.path("clone/huge")).unwrap();
    file.set_len(1 << 30).unwrap();
    for (name, value) in [("core.bigFileThreshold", "1m"), ("core.compression", "1")] {
        world.git(&clone, &["config", name, value]).expect(true, &[]);
    }
    world.commit("clone", "huge");
    world.git(&clone, &["rm", "-q", "--cached", "huge"]).expect(true, &[]);
    world.git(&clone, &["commit", "-q", "-m", "take it out"]).expect(true, &[]);
    let began = std::time::Instant::now();
    let done = world.git(&clone, &["push", "origin", "HEAD:refs/heads/agent/x"]);
    println!("a file of 1 GiB is refused in {:?}", began.elapsed());
    done.expect(false, &["huge has 1073741824 bytes", "at most 52428800"]);
    assert_eq!(world.upstream("agent/x"), "");
}

#[test]
fn twenty_clones_at_once_share_what_the_upstream_lists_and_one_fetch() {
    if !in_namespace("git_gate_limits::twenty_clones_at_once_share_what_the_upstream_lists_and_one_fetch") {
        return;
    }
    let world = World::new(Wish::default());
    let gate = world.gate;
    let front = Relay::new(&["command=ls-refs"], move || gate);
    let url = format!("http://{}/app.git", front.address);
    // The first question is not answered before all twenty have asked.
    world.http.hold.send_replace(Some("command=ls-refs"));
    std::thread::scope(|scope| {
        for number in 0..20 {
            let (world, url) = (&world, &url);
            let name = format!("clone-{number}");
            scope.spawn(move || {
                world.git(world.folder.path(), &["clone", "-q", url, &name]).expect(true, &[]);
                assert_eq!(world.id(&world.path(&name), "HEAD"), world.upstream("main"));
            });
        }
        wait_for("twenty questions", || (front.seen() == [20]).then_some(()));
        world.http.hold.send_replace(None);
    });
    let requests = world.http.requests.lock().unwrap();
    let count = |word: &str| requests.iter().filter(|request| request.contains(word)).count();
    assert_eq!(count("command=fetch"), 1, "{requests:#?}");
    // For the first clone, for git's fetch, and once more for all who asked meanwhile.
    assert_eq!(count("command=ls-refs"), 3, "{requests:#?}");
}
