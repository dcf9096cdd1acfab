//! Interference with a bottle: the engine stops, is killed or hangs; somebody removes bottler's objects, or owns what
//! it needs; this process runs out of descriptors; another owner works at the same time. Nothing is left, and nothing
//! of others is touched.

use std::os::unix::fs::MetadataExt;
use std::process::Child;
use std::time::Duration;

use crate::support::engine::PrivateEngine;
use crate::support::process::{Done, World, bottler, finish, recipe, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn idle(world: &World) -> (Child, String) {
    let child = world.start(&["run", "probe", "--recipe", &recipe("idle.lua")]);
    let agent = wait_for("the idle agent", || world.agent_running("bottler idle"));
    (child, agent)
}

fn signal(child: &Child) {
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
}

fn docker(world: &World, arguments: &[&str]) -> bool {
    world.docker().args(arguments).output().unwrap().status.success()
}

/// Failed with one of bottler's own exit codes, and with a cause.
fn failed(done: &Done, words: &str) {
    assert!((120..=126).contains(&done.code()), "{}: {}", done.code(), done.stderr);
    assert!(done.stderr.contains("error: ") && done.stderr.contains(words), "{words}: {}", done.stderr);
}

/// One engine, in the order of a bottle's life; it stays in use, as on a real machine.
#[test]
fn promise_13_an_engine_that_stops_hangs_or_dies_stops_neither_unwind_nor_report() {
    let mut engine = PrivateEngine::start(&serde_json::json!({}));
    let world = World::on(&engine.endpoint());
    assert_eq!(world.run(&["run", "probe"]).code(), 0);

    // Killed during the launch: what is left is reported, and removed by the next command that reaches the engine.
    let child = world.start(&["run", "probe"]);
    wait_for("the first container", || world.objects().iter().any(|name| name.ends_with("-egress")).then_some(()));
    engine.kill();
    failed(&finish(child), "");
    engine.resume();
    wait_for("what a dead engine kept", || {
        world.run(&["gc"]);
        (world.objects().is_empty() && world.bottles().is_empty()).then_some(())
    });

    // Stopped while a client is attached: its containers end as well.
    let (child, _) = idle(&world);
    engine.stop();
    engine.resume();
    // 143 and 137: the agent was asked to end, or was killed.
    let done = finish(child);
    assert!(matches!(done.code(), 137 | 143 | 120..=126), "{}: {}", done.code(), done.stderr);
    wait_for("what a stopped engine kept", || {
        world.run(&["gc"]);
        (world.objects().is_empty() && world.bottles().is_empty()).then_some(())
    });

    // Hangs during the teardown, and continues.
    let (child, _) = idle(&world);
    engine.freeze(true);
    signal(&child);
    // Not for synchronisation: the engine hangs for this long.
    std::thread::sleep(Duration::from_secs(3));
    engine.freeze(false);
    assert_eq!(finish(child).code(), 126);
    world.assert_clean();
}

#[test]
fn promise_11_what_somebody_else_has_removed_is_not_missed() {
    let world = World::new();
    let (child, agent) = idle(&world);
    assert!(docker(&world, &["rm", "-f", &format!("{agent}-egress")]));
    signal(&child);
    let done = finish(child);
    assert_eq!(done.code(), 126, "{}", done.stderr);
    world.assert_clean();

    // Removes the agent itself while a client waits for it, and the network.
    let (child, agent) = idle(&world);
    assert!(docker(&world, &["rm", "-f", &agent, &format!("{agent}-egress")]));
    docker(&world, &["network", "rm", &format!("{agent}-outside")]);
    let done = finish(child);
    assert!(done.code() == 137 || (120..=126).contains(&done.code()), "{}: {}", done.code(), done.stderr);
    world.assert_clean();
}

#[test]
fn a_subnet_that_strangers_have_is_not_taken() {
    let mut world = World::new();
    let name = format!("stranger-{}", std::process::id());
    let create = |subnet: &str| {
        assert!(docker(&World::new(), &["network", "create", "--subnet", subnet, &name]));
    };
    create("10.213.252.16/28");
    // Three of four ranges are free, and two are needed.
    world.env = vec![("BOTTLER_POOLS".into(), "10.213.252.0/26".into())];
    let fits = world.run(&["run", "probe"]);
    world.env = vec![("BOTTLER_POOLS".into(), "10.213.252.0/27".into())];
    let full = world.run(&["run", "probe"]);
    let there = docker(&world, &["network", "inspect", &name]);
    assert!(docker(&world, &["network", "rm", &name]) && there, "the stranger's network is still there");
    assert_eq!(fits.code(), 0, "{}", fits.stderr);
    failed(&full, "name others in BOTTLER_POOLS");
    world.assert_clean();
}

#[test]
fn descriptors_that_run_out_are_an_error_and_leave_nothing() {
    let mut world = World::new();
    assert_eq!(world.run(&["run", "probe"]).code(), 0);
    let mut codes = Vec::new();
    for limit in [8, 14, 20, 32] {
        world.through = ["prlimit", &format!("--nofile={limit}:{limit}")].map(str::to_owned).to_vec();
        let done = world.run(&["run", "probe"]);
        codes.push(done.code());
        if done.code() != 0 {
            assert!(
                !done.stderr.contains("panicked") && done.stderr.contains("open files"),
                "{limit}: {}",
                done.stderr
            );
        }
        world.through.clear();
        world.run(&["gc"]);
        world.assert_clean();
    }
    assert!(codes.iter().any(|code| *code != 0), "none was too few: {codes:?}");
}

#[test]
fn promise_14_two_owners_on_one_engine_do_not_touch_each_others() {
    let (one, other) = (World::new(), World::new());
    let (child, agent) = idle(&one);
    // Dead: no process of its owner is left, and the other owner collects.
    for kind in [Signal::SIGSTOP, Signal::SIGKILL] {
        for pid in ["reaper", "holder"].into_iter().flat_map(|role| one.processes(role)) {
            let _ = kill(Pid::from_raw(pid), kind);
        }
    }
    finish(child);
    let before = one.objects();
    assert_eq!(other.run(&["gc"]).code(), 0);
    assert_eq!(other.run(&["run", "probe"]).code(), 0);
    // Not by its name, either.
    assert_ne!(other.run(&["stop", &agent]).code(), 0);
    assert_ne!(other.run(&["rm", "--force", &agent]).code(), 0);
    assert_eq!(one.objects(), before);
    assert_eq!(one.run(&["gc"]).code(), 0);
    one.assert_clean();
}

#[test]
fn promise_14_two_users_on_one_engine_do_not_touch_each_others() {
    const USER: u32 = 12_345;
    let mut theirs = World::new();
    let state = theirs.state.path().to_owned();
    std::os::unix::fs::chown(&state, Some(USER), Some(USER)).unwrap();
    let group = std::fs::metadata("/var/run/docker.sock").unwrap().gid();
    let groups = format!("--groups={group}");
    // Other users may be unable to enter the path of this checkout.
    let copy = state.join("bottler.copy");
    std::fs::copy(bottler(), &copy).unwrap();
    let idle = state.join("idle.lua");
    std::fs::copy(recipe("idle.lua"), &idle).unwrap();
    let script = format!("shift; cd {0}; HOME={0} exec {1} \"$@\"", state.display(), copy.display());
    let through = ["setpriv", "--reuid=12345", "--regid=12345", &groups, "sh", "-c", &script, "sh"];
    theirs.through = through.map(str::to_owned).to_vec();
    let name = format!("theirs-{}", std::process::id());
    let idle = idle.to_string_lossy();
    let done = theirs.run(&["run", "probe", "--recipe", &idle, "--name", &name, "--detach"]);
    assert_eq!(done.code(), 0, "{}", done.stderr);

    let ours = World::new();
    assert_eq!(ours.run(&["gc"]).code(), 0);
    assert_eq!(ours.run(&["run", "probe"]).code(), 0);
    assert_ne!(ours.run(&["stop", &name]).code(), 0);
    let running = ours.docker().args(["inspect", "--format", "{{.State.Status}}", &name]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&running.stdout).trim(), "running");

    // The other owner's objects are removed by their owner.
    assert_eq!(theirs.run(&["stop", &name]).code(), 0);
    wait_for("their bottle's end", || theirs.bottles().is_empty().then_some(()));
    let filter = format!("name={name}");
    let left = ours.docker().args(["ps", "-aq", "--filter", &filter]).output().unwrap();
    assert!(left.stdout.is_empty());
}
