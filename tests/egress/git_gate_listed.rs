//! What a client is told before it pushes: the upstream lists its references once, and what has changed since is never
//! overwritten.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::git_gate_lab::{By, Wish, World};
use crate::lab::in_namespace;
use crate::support::process::wait_for;

const ZERO: &str = "0000000000000000000000000000000000000000";

/// Asks what there is, as git does before it pushes; returns the response.
fn list(world: &World) -> String {
    let mut stream = TcpStream::connect(world.gate).unwrap();
    let request = "GET /app.git/info/refs?service=git-receive-pack HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response
}

/// The pack of a commit on the upstream's branch.
fn pack(world: &World, commit: &str) -> Vec<u8> {
    let wanted = format!("{commit}\n^origin/main\n");
    world.git_with(&world.path("clone"), &["pack-objects", "--stdout", "-q", "--revs"], wanted.as_bytes())
}

/// Sets a branch of the upstream; nobody else hears of it.
fn set(world: &World, branch: &str, id: &str) {
    let upstream = world.path("upstream.git");
    world.git(&upstream, &["update-ref", &format!("refs/heads/{branch}"), id]).expect(true, &[]);
}

#[test]
fn a_push_has_the_upstream_list_its_references_once() {
    if !in_namespace("git_gate_listed::a_push_has_the_upstream_list_its_references_once") {
        return;
    }
    for by in [By::Http, By::Ssh] {
        let world = World::new(Wish { by, ..Wish::default() });
        let clone = world.clone_to("clone");
        for (number, url) in [world.url(), format!("git://{}/app.git", world.gate)].iter().enumerate() {
            world.write("clone/file", format!("{number}\n"));
            let commit = world.commit("clone", "more");
            world.git(&clone, &["fetch", "-q", "origin"]).expect(true, &[]);
            world.settled();
            world.http.requests.lock().unwrap().clear();
            let before = world.between.accepted();
            let branch = format!("agent/{number}");
            world.git(&clone, &["push", "-q", url, &format!("HEAD:refs/heads/{branch}")]).expect(true, &[]);
            assert_eq!(world.upstream(&branch), commit);
            let requests = world.http.requests.lock().unwrap().clone();
            let service = |request: &String| request.contains("git-receive-pack");
            match by {
                By::Http => assert!(requests.len() == 2 && requests.iter().all(service), "{url}: {requests:#?}"),
                By::Ssh => assert_eq!(world.between.accepted() - before, 1, "{url}"),
            }
        }
    }
}

#[test]
fn promise_10_what_has_changed_since_it_was_listed_is_not_overwritten() {
    if !in_namespace("git_gate_listed::promise_10_what_has_changed_since_it_was_listed_is_not_overwritten") {
        return;
    }
    for by in [By::Http, By::Ssh] {
        let world = World::new(Wish { by, ..Wish::default() });
        let clone = world.clone_to("clone");
        let main = world.upstream("main");
        world.write("clone/file", "theirs\n");
        let theirs = world.commit("clone", "theirs");
        world.git(&clone, &["push", "-q", "origin", "HEAD:refs/heads/agent/theirs"]).expect(true, &[]);
        world.git(&clone, &["reset", "-q", "--hard", "origin/main"]).expect(true, &[]);
        world.write("clone/file", "ours\n");
        let ours = world.commit("clone", "ours");
        let pack = pack(&world, &ours);
        let refused = |old: &str| {
            let response = world.post(&[format!("{old} {ours} refs/heads/agent/x")], &pack);
            assert!(response.contains("ng refs/heads/agent/x"), "{by:?} {response}");
        };
        // It did not exist.
        assert!(list(&world).contains(&format!("{main} refs/heads/main\n")));
        set(&world, "agent/x", &theirs);
        refused(ZERO);
        assert_eq!(world.upstream("agent/x"), theirs, "{by:?}");
        // It was another commit.
        set(&world, "agent/x", &main);
        assert!(list(&world).contains(&format!("{main} refs/heads/agent/x")));
        set(&world, "agent/x", &theirs);
        refused(&main);
        assert_eq!(world.upstream("agent/x"), theirs, "{by:?}");
        // The client knows better than the list that it was told: another one is made for its push.
        list(&world);
        set(&world, "agent/x", &main);
        let response = world.post(&[format!("{main} {ours} refs/heads/agent/x")], &pack);
        assert!(response.contains("ok refs/heads/agent/x"), "{by:?} {response}");
        assert_eq!(world.upstream("agent/x"), ours, "{by:?}");
    }
}

#[test]
fn what_the_upstream_has_got_meanwhile_is_brought_before_a_push_and_nothing_else_is_listed() {
    if !in_namespace(
        "git_gate_listed::what_the_upstream_has_got_meanwhile_is_brought_before_a_push_and_nothing_else_is_listed",
    ) {
        return;
    }
    for by in [By::Http, By::Ssh] {
        let world = World::new(Wish { by, ..Wish::default() });
        let clone = world.clone_to("clone");
        let seed = world.path("seed");
        let upstream = world.path("upstream.git").display().to_string();
        world.write("seed/more", "more\n");
        let base = world.commit("seed", "more");
        world.git(&seed, &["push", "-q", &upstream, "HEAD:main", "HEAD:refs/pull/1/head"]).expect(true, &[]);
        // The agent has it from elsewhere, and sends only what is new.
        world.git(&clone, &["fetch", "-q", &seed.display().to_string(), "main"]).expect(true, &[]);
        world.git(&clone, &["reset", "-q", "--hard", &base]).expect(true, &[]);
        world.write("clone/mine", "mine\n");
        let commit = world.commit("clone", "mine");
        let push = ["push", "-q", "origin", "HEAD:refs/heads/agent/x"];
        world.git(&clone, &push).expect(true, &[]);
        assert_eq!(world.upstream("agent/x"), commit, "{by:?}");
        let listed = list(&world);
        assert!(listed.contains(&format!("{commit} refs/heads/agent/x\0")), "{listed}");
        assert!(!listed.contains("refs/pull") && !listed.contains(".have"), "{listed}");
    }
}

#[test]
fn promise_15_who_has_lists_made_and_never_pushes_leaves_nothing() {
    if !in_namespace("git_gate_listed::promise_15_who_has_lists_made_and_never_pushes_leaves_nothing") {
        return;
    }
    let world = World::new(Wish { by: By::Ssh, ..Wish::default() });
    let _ = world.clone_to("clone");
    world.settled();
    let before = world.between.accepted();
    for _ in 0..6 {
        assert!(list(&world).contains("refs/heads/main"));
    }
    assert_eq!(world.between.accepted() - before, 6);
    // Four connections, each of two directions.
    wait_for("the oldest ones", || (world.between.open() <= 8).then_some(()));
    wait_for("all of them", || (world.between.open() == 0).then_some(()));
    let pid = world.pid();
    let children = || {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().filter_map(Result::ok);
        tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok()).collect::<String>()
    };
    wait_for("the processes", || children().trim().is_empty().then_some(()));
}
