//! The gate is killed in the middle of pushes: the upstream has a whole push or nothing of it, the client is told, and
//! another push works.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::git_gate_lab::{By, Wish, World};
use crate::git_gate_upstream::{Relay, Way};
use crate::lab::in_namespace;
use crate::support::process::wait_for;

/// The parts of the bytes of a direction after which the gate is killed, in percent.
const PARTS: [u64; 3] = [20, 70, 100];

/// Commits a file that no program compresses on top of the upstream's branch, so that every push is as long as the others; returns
/// the commit.
fn work(world: &World, number: usize) -> String {
    world.git(&world.path("clone"), &["reset", "-q", "--hard", "origin/main"]).expect(true, &[]);
    let mut content = vec![0; 200_000];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom").unwrap(), &mut content).unwrap();
    world.write("clone/file", content);
    world.commit("clone", &format!("work {number}"))
}

fn killed(by: By) {
    let mut world = World::new(Wish { by, ..Wish::default() });
    let clone = world.clone_to("clone");
    // The upstream shows no progress, whose length is a matter of moments.
    let upstream = world.path("upstream.git");
    world.git(&upstream, &["config", "receive.unpackLimit", "1"]).expect(true, &[]);
    let gate = std::sync::Arc::new(std::sync::Mutex::new(world.gate));
    let at = gate.clone();
    let front = Relay::new(&[], move || *at.lock().unwrap());
    let url = format!("http://{}/app.git", front.address);
    world.git(&clone, &["remote", "set-url", "origin", &url]).expect(true, &[]);
    let push =
        |world: &World, name: &str| world.git(&clone, &["push", "origin", &format!("HEAD:refs/heads/agent/{name}")]);
    // A push that is not disturbed says how many bytes there are on each way.
    work(&world, 0);
    world.settled();
    let _ = (front.take(), world.between.take());
    push(&world, "measured").expect(true, &[]);
    world.settled();
    let ways = [(true, Way::There), (true, Way::Back), (false, Way::There), (false, Way::Back)];
    world.git(&world.path("upstream.git"), &["update-ref", "-d", "refs/heads/agent/measured"]).expect(true, &[]);
    let totals = [front.take(), world.between.take()];
    assert!(totals.iter().flatten().all(|total| *total > 500), "{totals:?}");
    let mut outcomes = Vec::new();
    let moments = ways.iter().flat_map(|(is_front, way)| PARTS.map(|part| (*is_front, *way, part)));
    for (number, (is_front, way, part)) in moments.enumerate() {
        let name = format!("killed-{number}");
        let commit = work(&world, number + 1);
        // The mirror is as it was before the push that was measured, so that the same part is the same moment.
        world.git(&clone, &["ls-remote", "origin"]).expect(true, &[]);
        world.settled();
        wait_for("the front", || (front.open() == 0).then_some(()));
        let _ = (front.take(), world.between.take());
        let relay = if is_front { &front } else { &world.between };
        let total = totals[usize::from(!is_front)][way as usize];
        let pid = Pid::from_raw(world.pid().cast_signed());
        // Reports differ by a few bytes.
        // What is killed below has ended when its last bytes come.
        relay.trap(way, (total * part / 100).min(total - 40), move || {
            let _ = kill(pid, Signal::SIGKILL);
        });
        let done = push(&world, &name);
        let place = format!("{by:?}, {is_front}, {way:?}, {part} %: {}", done.text);
        if !relay.is_sprung() {
            // Behind the report, ssh has fewer bytes to say at times than when it was measured.
            assert!(matches!(by, By::Ssh) && !is_front && part == 100 && done.ok, "the gate was not killed: {place}");
            kill(pid, Signal::SIGKILL).unwrap();
        }
        world.settled();
        wait_for("the front", || (front.open() == 0).then_some(()));
        let branch = format!("agent/{name}");
        let there = world.upstream(&branch);
        assert!(there.is_empty() || there == commit, "{place}");
        // Who is told that it was pushed can rely on it; an error may come after the fact.
        assert!(!done.ok || there == commit, "{place}");
        // Before its last bytes have come to the gate, nothing of a push is behind it. What the gate has written before it
        // is killed still arrives there, and may be all of it.
        let is_cut = way == Way::There && is_front;
        assert!(!is_cut || there.is_empty(), "{place}");
        // Once the report is on its way, all of it is there.
        let is_reported = way == Way::Back && part == 100;
        assert!(!is_reported || there == commit, "{place}");
        world.git(&world.path("upstream.git"), &["fsck", "--connectivity-only"]).expect(true, &[]);
        outcomes.push((done.ok, !there.is_empty()));
        world.restart();
        *gate.lock().unwrap() = world.gate;
        push(&world, &name).expect(true, &[]);
        assert_eq!(world.upstream(&branch), commit, "{place}");
        world.settled();
        // The upstream lists as much as before.
        world
            .git(&world.path("upstream.git"), &["update-ref", "-d", &format!("refs/heads/{branch}")])
            .expect(true, &[]);
    }
    println!("{by:?}: told that it was pushed, and pushed: {outcomes:?}");
    // Nothing of it, and all of it: both have been seen, and mostly the client was told an error.
    assert!(outcomes.contains(&(false, false)) && outcomes.iter().any(|(_, there)| *there), "{outcomes:?}");
    assert!(outcomes.iter().filter(|(told, _)| !told).count() >= 10, "{outcomes:?}");
    // Nothing is left of the pushes that were not finished.
    let left = std::fs::read_dir(world.path("state/app")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with("push-")), "{left:?}");
}

#[test]
#[ignore = "slow: tests/run all"]
fn promise_10_a_gate_that_is_killed_at_twelve_points_of_a_push_over_http_leaves_all_or_nothing() {
    let name = "git_gate_killed::\
        promise_10_a_gate_that_is_killed_at_twelve_points_of_a_push_over_http_leaves_all_or_nothing";
    if in_namespace(name) {
        killed(By::Http);
    }
}

#[test]
#[ignore = "slow: tests/run all"]
fn promise_10_a_gate_that_is_killed_at_twelve_points_of_a_push_over_ssh_leaves_all_or_nothing() {
    let name = "git_gate_killed::\
        promise_10_a_gate_that_is_killed_at_twelve_points_of_a_push_over_ssh_leaves_all_or_nothing";
    if in_namespace(name) {
        killed(By::Ssh);
    }
}
