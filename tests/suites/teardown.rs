//! Failures, conflicts, signals and SIGKILL: nothing is left, and the cause is reported.

use std::process::{Child, Command};
use std::time::Duration;

use crate::support::process::{Done, World, finish, recipe, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The bound of promise 12, plus the time for listing.
const TEN_SECONDS: Duration = Duration::from_secs(10);

/// Starts a bottle whose agent runs until it is stopped; waits until it runs.
pub(crate) fn idle(world: &World) -> Child {
    let child = world.start(&["run", "probe", "--recipe", &recipe("idle.lua")]);
    wait_for("the idle agent", || world.agent_running("bottler idle"));
    child
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
}

#[test]
fn promise_11_a_failing_recipe_is_undone_and_its_line_is_told() {
    let world = World::new();
    let done = world.run(&["run", "probe", "--recipe", &recipe("fails.lua")]);
    assert_eq!(done.code(), 120, "{}", done.stderr);
    for words in
        ["error: on purpose", "fails.lua:8", "fail(\"on purpose\"", "hint: do not do this", "deferred", "removed: "]
    {
        assert!(done.stderr.contains(words), "{words}: {}", done.stderr);
    }
    world.assert_clean();
}

#[test]
fn a_living_bottle_keeps_its_name() {
    let world = World::new();
    let child = idle(&world);
    let name = world.bottles().remove(0);
    let done = world.run(&["run", "probe", "--name", &name]);
    assert_eq!(done.code(), 123, "{}", done.stderr);
    assert!(done.stderr.contains("is running"), "{}", done.stderr);
    let listed = world.run(&["ps", "--format", "json"]).json();
    assert_eq!(
        (&listed[0]["bottle"], &listed[0]["state"], &listed[0]["objects"]),
        (&name.into(), &"running".into(), &world.count(4).into())
    );
    let collected = world.run(&["gc", "--format", "json"]).json();
    assert_eq!(collected["bottles"].as_array().unwrap().len(), 0, "promise 14: a living bottle is not touched");
    signal(&child, Signal::SIGINT);
    assert_eq!(finish(child).code(), 126);
    world.assert_clean();
}

#[test]
fn promise_11_one_signal_of_each_kind_unwinds() {
    for kind in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let world = World::new();
        let child = idle(&world);
        signal(&child, kind);
        let done: Done = finish(child);
        assert_eq!(done.code(), 126, "{kind}: {}", done.stderr);
        assert!(
            done.stderr.contains("error: cancelled") && done.stderr.contains("removed: "),
            "{kind}: {}",
            done.stderr
        );
        world.assert_clean();
    }
}

#[test]
fn promise_11_two_signals_unwind_at_once() {
    let world = World::new();
    let child = idle(&world);
    signal(&child, Signal::SIGINT);
    signal(&child, Signal::SIGTERM);
    assert_eq!(finish(child).code(), 126);
    world.assert_clean();
}

#[test]
fn promise_11_three_signals_leave_it_to_the_reaper() {
    let world = World::new();
    let child = idle(&world);
    for kind in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signal(&child, kind);
    }
    assert_eq!(finish(child).code(), 126);
    world.wait_gone(TEN_SECONDS);
}

/// More than the computing time of a script and the time that the reaper takes.
const ENDLESS: Duration = Duration::from_secs(20);

/// Starts a bottle whose script never ends; waits until the script is in its loop.
fn wedged(world: &World) -> Child {
    let child = world.start(&["run", "probe", "--recipe", &recipe("endless.lua")]);
    wait_for("the bottle's things", || (world.objects().len() == 2).then_some(()));
    child
}

#[test]
fn a_script_that_never_ends_ends_its_holder_and_its_line_is_told() {
    let world = World::new();
    let done = world.run(&["run", "probe", "--recipe", &recipe("endless.lua")]);
    assert_eq!(done.code(), 120, "{}", done.stderr);
    for words in ["the script computed for 5 s", "endless.lua:7", "the reaper removes the bottle"] {
        assert!(done.stderr.contains(words), "{words}: {}", done.stderr);
    }
    world.wait_gone(TEN_SECONDS);
    assert_eq!(world.processes("holder"), Vec::<i32>::new());
}

#[test]
fn a_wedged_script_holds_back_no_request_to_stop() {
    let world = World::new();
    let child = wedged(&world);
    let bottle = world.bottles().remove(0);
    let done = world.run(&["rm", "--force", &bottle]);
    assert_eq!(done.code(), 0, "{}", done.stderr);
    finish(child);
    world.wait_gone(ENDLESS);
    // Three signals at once: the client exits, and nothing is left.
    let child = wedged(&world);
    for kind in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signal(&child, kind);
    }
    assert_eq!(finish(child).code(), 126);
    world.wait_gone(ENDLESS);
}

/// Stops the holder as a debugger or `kill -STOP` does, so that it does not respond.
fn freeze(world: &World) {
    for pid in world.processes("holder") {
        kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
    }
}

#[test]
fn a_stopped_holder_is_killed_and_the_reaper_removes_its_bottle() {
    for command in [&["stop"][..], &["rm", "--force"]] {
        let world = World::new();
        let child = idle(&world);
        let bottle = world.bottles().remove(0);
        freeze(&world);
        let done = world.run(&[command, &[bottle.as_str()]].concat());
        assert_eq!(done.code(), 0, "{command:?}: {}", done.stderr);
        assert!(done.stderr.contains("did not answer and was killed"), "{command:?}: {}", done.stderr);
        finish(child);
        world.wait_gone(TEN_SECONDS);
    }
    let world = World::new();
    let child = idle(&world);
    freeze(&world);
    for kind in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signal(&child, kind);
    }
    assert_eq!(finish(child).code(), 126);
    world.wait_gone(TEN_SECONDS);
}

/// What other processes of this user can see of the background processes.
#[test]
fn holder_and_reaper_have_no_variable_and_no_descriptor_that_is_not_theirs() {
    let mut world = World::new();
    let secret = "s3cret-of-the-host-1";
    for (name, value) in [("TOKEN", secret), ("PROXY", "http://me:s3cret-of-the-host-1@proxy"), ("OTHER", secret)] {
        world.env.push((name.to_owned(), value.to_owned()));
    }
    std::fs::create_dir_all(world.state.path().join("bottler")).unwrap();
    let manifest = "bottles: {b: {env: {TOKEN: '${TOKEN}'}}}\nagents: {a: {bottle: b, template: probe}}\n";
    std::fs::write(world.state.path().join("bottler/bottler.yaml"), manifest).unwrap();
    // A descriptor that the user's shell has open.
    let inherited = std::fs::File::open("/etc/passwd").unwrap();
    let child = {
        let mut command = world.command(&["run", "a", "--recipe", &recipe("idle.lua")]);
        let path = format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&inherited));
        let shell = "exec 9<\"$0\"; exec \"$@\"";
        let words: Vec<_> =
            [command.get_program().to_owned()].into_iter().chain(command.get_args().map(ToOwned::to_owned)).collect();
        let mut through = Command::new("sh");
        through
            .args(["-c", shell, &path])
            .args(words)
            .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command = through;
        command
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap()
    };
    wait_for("the idle agent", || world.agent_running("bottler idle"));
    for role in ["holder", "reaper"] {
        let [pid] = world.processes(role)[..] else { panic!("{role}: not one process") };
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
        assert!(!String::from_utf8_lossy(&environment).contains(secret), "{role}");
        let links = std::fs::read_dir(format!("/proc/{pid}/fd"))
            .unwrap()
            .map(|entry| std::fs::read_link(entry.unwrap().path()).unwrap());
        let links: Vec<String> = links.map(|link| link.to_string_lossy().into_owned()).collect();
        assert!(!links.iter().any(|link| link == "/etc/passwd"), "{role}: {links:?}");
        if role == "reaper" {
            // Its pipe, the lock and the log; no socket of the holder's.
            assert!(!links.iter().any(|link| link.starts_with("socket:")), "{links:?}");
            assert!(links.iter().any(|link| link.ends_with("/lock")), "{links:?}");
        }
    }
    signal(&child, Signal::SIGINT);
    assert_eq!(finish(child).code(), 126);
    world.assert_clean();
}

/// The processes that are killed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Victims {
    Client,
    Holder,
    HolderAndReaper,
}

pub(crate) fn sigkill(world: &World, child: &Child, victims: Victims) {
    let roles: &[&str] = match victims {
        Victims::Client => return signal(child, Signal::SIGKILL),
        Victims::Holder => &["holder"],
        Victims::HolderAndReaper => &["reaper", "holder"],
    };
    // Both are stopped before either is killed, so that the reaper cannot see the holder die.
    let pids: Vec<i32> = roles.iter().flat_map(|role| world.processes(role)).collect();
    for kind in [Signal::SIGSTOP, Signal::SIGKILL] {
        for pid in &pids {
            // It may just have ended.
            let _ = kill(Pid::from_raw(*pid), kind);
        }
    }
}

/// Thirty moments, from the first process to the end of the teardown: ten for each kind of victim.
fn moments() -> impl Iterator<Item = Duration> {
    (0..10).map(|moment| Duration::from_millis(20 + moment * 170))
}

fn killed_at(victims: Victims, after: Duration) -> World {
    let world = World::new();
    let child = world.start(&["run", "probe"]);
    // Not for synchronisation: this delay is what the test varies.
    std::thread::sleep(after);
    sigkill(&world, &child, victims);
    finish(child);
    world
}

#[test]
fn promise_12_sigkill_of_the_client_at_ten_moments() {
    for after in moments() {
        killed_at(Victims::Client, after).wait_gone(TEN_SECONDS);
    }
}

#[test]
fn promise_12_sigkill_of_the_holder_at_ten_moments() {
    for after in moments() {
        killed_at(Victims::Holder, after).wait_gone(TEN_SECONDS);
    }
}

#[test]
fn promise_12_sigkill_of_holder_and_reaper_at_ten_moments_then_gc() {
    for after in moments() {
        let world = killed_at(Victims::HolderAndReaper, after);
        let dry = world.run(&["gc", "--dry-run", "--format", "json"]).json();
        let dead = dry["bottles"].as_array().unwrap().len();
        assert_eq!(dead, world.bottles().len(), "{dry}");
        let done = world.run(&["gc"]);
        assert_eq!(done.code(), 0, "{}{}", done.stdout, done.stderr);
        world.wait_gone(TEN_SECONDS);
    }
}

/// The reaper has received everything that it needs.
#[test]
fn promise_12_a_holder_that_dies_without_its_state_directory_leaves_nothing() {
    for lost in ["bottler", "bottler/bottles", "bottler/id"] {
        let world = World::new();
        let child = idle(&world);
        let owner = bottler::session::StateDir::at(&world.state.path().join("bottler")).unwrap().owner;
        let [holder] = world.processes("holder")[..] else { panic!("one holder") };
        let path = world.state.path().join(lost);
        std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir_all(&path)).unwrap();
        kill(Pid::from_raw(holder), Signal::SIGKILL).unwrap();
        finish(child);
        let began = std::time::Instant::now();
        while !world.objects_of(&owner).is_empty() {
            assert!(began.elapsed() < TEN_SECONDS * 2, "{lost}: {:?}", world.objects_of(&owner));
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Unknown entries in the state directory are neither removed nor an obstacle.
#[test]
fn what_is_no_bottles_stops_neither_gc_nor_a_launch() {
    let world = World::new();
    let at = |name: &str| world.state.path().join("bottler/bottles").join(name);
    std::fs::create_dir_all(at("mine")).unwrap();
    std::fs::write(at("mine/work"), "x").unwrap();
    std::fs::write(at("stray"), "x").unwrap();
    let child = idle(&world);
    sigkill(&world, &child, Victims::HolderAndReaper);
    finish(child);
    assert_eq!(world.run(&["run", "probe"]).code(), 0);
    assert_eq!(world.objects(), Vec::<String>::new(), "the launch has collected the dead");
    let done = world.run(&["gc"]);
    assert_eq!(done.code(), 0, "{}", done.stderr);
    for words in ["bottles/stray belongs to no bottle: it is not a folder", "bottles/mine belongs to no bottle"] {
        assert_eq!(done.stderr.matches(words).count(), 1, "{words}: {}", done.stderr);
    }
    assert!(at("mine/work").exists() && at("stray").exists());
    std::fs::remove_dir_all(at("mine")).unwrap();
    std::fs::remove_file(at("stray")).unwrap();
    world.assert_clean();
}

/// A client that did not launch the bottle is ended by a signal; the bottle continues.
#[test]
fn a_signal_to_an_attach_ends_the_attach_and_not_the_bottle() {
    let world = World::new();
    let child = idle(&world);
    let bottle = world.bottles().remove(0);
    for (kind, code) in [(Signal::SIGTERM, 143), (Signal::SIGHUP, 129)] {
        let mut attach = world.command(&["attach", &bottle]);
        let attach = attach.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
        // By then it has installed its handlers and connected.
        wait_for("the attach", || {
            let status = std::fs::read_to_string(format!("/proc/{}/status", attach.id())).ok()?;
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?.trim().to_owned();
            let caught = u64::from_str_radix(&caught, 16).ok()?;
            (caught & (1 << (kind as i32 - 1)) != 0).then_some(())
        });
        signal(&attach, kind);
        let done = finish(attach);
        assert_eq!(done.code(), code, "{}", done.stderr);
        assert!(done.stderr.contains("keeps running"), "{}", done.stderr);
        assert!(world.agent_running("bottler idle").is_some());
    }
    signal(&child, Signal::SIGTERM);
    assert_eq!(finish(child).code(), 126);
    world.assert_clean();
}

#[test]
fn promise_12_the_next_run_collects_a_dead_bottle() {
    let world = World::new();
    let child = idle(&world);
    let agent = world.bottles().remove(0);
    sigkill(&world, &child, Victims::HolderAndReaper);
    finish(child);
    // On the native engine, the agent's container removes itself once its holder has died.
    let left = world.objects().into_iter().filter(|name| *name != agent).count();
    assert_eq!(left, world.count(4) - 1);
    assert_eq!(world.run(&["run", "probe"]).code(), 0);
    world.assert_clean();
}
