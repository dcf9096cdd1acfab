//! Kept work outlives changes of who may have it: of a user's ranges, of root's privileges, of who asks.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::world::{Done, RANGE, USER, Who, World};

/// The program that root without the host's privileges is made by.
const WITHOUT: [&str; 2] = ["--bounding-set=-sys_admin", "--inh-caps=-sys_admin"];

/// Launches a bottle that is kept, or not; it runs.
fn launch(world: &World, mut command: Command, keep: &str) -> Done {
    world.write("work/notes.txt", "first\n");
    world.hand_over(&world.folder().join("work"));
    let (recipe, work) = (world.recipe("idle.lua"), world.folder().join("work"));
    command.args(["run", "probe", "--recipe", &recipe, "--detach", "--yes", "--keep", keep, "--name", "kept"]);
    command.arg("--workspace").arg(work).output().unwrap().into()
}

/// Writes a file in the running bottle, as its agent.
fn put(mut command: Command, path: &str) {
    command.args(["exec", "kept", "--", "/bottler", "files", "put", path, "600"]);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"work\n").unwrap();
    let done = Done::from(child.wait_with_output().unwrap());
    assert_eq!(done.code, 0, "{}", done.stderr);
}

fn ok(done: &Done) {
    assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
}

/// What `diff` says of the work.
fn diff(world: &World) -> String {
    let done = world.run(&["diff", "kept"]);
    ok(&done);
    done.stdout
}

#[test]
fn promise_21_kept_work_outlives_a_change_of_its_users_ranges() {
    let world = World::new(Who::Range);
    let reserve = |file: &str, firsts: &[u32]| {
        let lines: Vec<String> = firsts.iter().map(|first| format!("ranger:{first}:65536\n")).collect();
        std::fs::write(world.folder().join(file), lines.concat()).unwrap();
    };
    let other = RANGE + (1 << 20);
    ok(&launch(&world, world.command(&[]), "always"));
    put(world.command(&[]), "/workspace/made.txt");
    ok(&world.run(&["stop", "kept"]));
    for (file, option) in [("subgid", "--add-subgids"), ("subuid", "--add-subuids")] {
        reserve(file, &[other]);
        for refused in [&["resume", "kept", "--detach", "--yes"][..], &["diff", "kept"]] {
            let done = world.run(refused);
            assert_ne!(done.code, 0, "{refused:?}");
            let command = format!("usermod {option} {RANGE}-{} ranger", RANGE + 65_535);
            assert!(done.stderr.contains(&command) && done.stderr.contains(file), "{refused:?} {}", done.stderr);
            assert!(!done.stderr.contains("discard") && !done.stderr.contains("fresh"), "{}", done.stderr);
            assert!(!done.stderr.contains("removed:"), "it comes before anything is made: {}", done.stderr);
        }
        ok(&world.run(&["gc"]));
        // What usermod does: the range that was there stays the first one.
        reserve(file, &[other, RANGE]);
        assert!(diff(&world).contains("made.txt"));
        ok(&world.run(&["resume", "kept", "--detach", "--yes"]));
        put(world.command(&[]), "/workspace/made.txt");
        ok(&world.run(&["stop", "kept"]));
        // Its files have numbers of the first range now.
        reserve(file, &[other]);
        assert!(diff(&world).contains("made.txt"));
    }

    // A range that has moved a little: its users are there, and are others.
    for first in [other + 500, other] {
        for file in ["subuid", "subgid"] {
            reserve(file, &[first, other]);
        }
        assert!(diff(&world).contains("made.txt"));
        ok(&world.run(&["resume", "kept", "--detach", "--yes"]));
        put(world.command(&[]), "/workspace/made.txt");
        ok(&world.run(&["stop", "kept"]));
    }

    // Nobody may remove what is there now: it stays the bottle's.
    for file in ["subuid", "subgid"] {
        reserve(file, &[]);
    }
    let command = format!("usermod --add-subuids {other}-{} ranger", other + 65_535);
    for refused in [&["rm", "--discard", "kept"][..], &["resume", "kept", "--detach", "--yes"]] {
        let left = world.run(refused);
        assert_ne!(left.code, 0);
        assert!(left.stderr.contains(&command), "{refused:?} {}", left.stderr);
    }
    for file in ["subuid", "subgid"] {
        reserve(file, &[other]);
    }
    assert!(diff(&world).contains("made.txt"));
    // One who is killed while giving it leaves files of both.
    let made = world.volume("kept-workspace").join("made.txt");
    std::os::unix::fs::lchown(&made, Some(USER), Some(USER)).unwrap();
    let half = made.parent().unwrap().with_file_name("half-given");
    std::fs::write(&half, "").unwrap();
    std::os::unix::fs::lchown(&half, Some(USER), Some(USER)).unwrap();
    ok(&world.run(&["resume", "kept", "--detach", "--yes"]));
    put(world.command(&[]), "/workspace/made.txt");
    assert!(!half.exists());
    ok(&world.run(&["stop", "kept"]));
    ok(&world.run(&["rm", "--discard", "kept"]));
    world.wait_clean();
}

/// What cannot be removed is listed until it can be.
#[test]
fn what_a_gone_range_keeps_from_being_removed_is_not_forgotten() {
    let world = World::new(Who::Range);
    ok(&launch(&world, world.command(&[]), "never"));
    put(world.command(&[]), "/workspace/made.txt");
    let ranges = ["subuid", "subgid"].map(|file| world.folder().join(file));
    let reserve = |text: &str| ranges.iter().for_each(|file| std::fs::write(file, text).unwrap());
    let range = std::fs::read_to_string(&ranges[0]).unwrap();
    reserve("");
    for role in ["reaper", "holder", "container-shim"] {
        for process in world.processes(role) {
            let _ = kill(Pid::from_raw(process), Signal::SIGKILL);
            world.struck.lock().unwrap().push(process);
        }
    }
    world.wait_struck();
    for _ in 0..2 {
        let left = world.run(&["gc"]);
        assert_ne!(left.code, 0, "{}{}", left.stdout, left.stderr);
        assert!(left.stderr.contains("/etc/subuid") && left.stderr.contains("sudo rm -rf"), "{}", left.stderr);
        assert!(left.stdout.contains("failed") && left.stdout.contains("not all"), "{}", left.stdout);
        assert!(world.objects().iter().any(|name| name.starts_with("kept")), "{:?}", world.objects());
    }
    reserve(&range);
    ok(&world.run(&["gc"]));
    world.wait_clean();
}

#[test]
fn promise_21_work_that_an_agent_uses_stays_its_own_whatever_users_there_are_by_then() {
    let world = World::new(Who::Range);
    let (with, without) = (format!("ranger:{RANGE}:65536\n"), String::new());
    let reserve = |ranges: &str| {
        for file in ["subuid", "subgid"] {
            std::fs::write(world.folder().join(file), ranges).unwrap();
        }
    };
    for (at_launch, later) in [(&without, &with), (&with, &without), (&with, &format!("ranger:1000:70000\n{with}"))] {
        reserve(at_launch);
        ok(&launch(&world, world.command(&[]), "always"));
        put(world.command(&[]), "/workspace/made.txt");
        reserve(later);
        // It may not be readable. The agent goes on.
        let _ = world.run(&["diff", "kept"]);
        put(world.command(&[]), "/workspace/made.txt");
        reserve(at_launch);
        assert!(diff(&world).contains("made.txt"));
        ok(&world.run(&["stop", "kept"]));
        reserve(&with);
        ok(&world.run(&["rm", "--discard", "kept"]));
        world.wait_clean();
    }
}

#[test]
fn promise_21_root_leaves_the_work_of_another_user_alone() {
    for who in [Who::User, Who::Range] {
        let world = World::new(who);
        ok(&launch(&world, world.command(&[]), "always"));
        put(world.command(&[]), "/workspace/made.txt");
        ok(&world.run(&["stop", "kept"]));
        let root = |arguments: &[&str], state: Option<&Path>| -> Done {
            let mut command = world.command_as_root(arguments);
            command.envs(state.map(|state| ("XDG_STATE_HOME", state))).output().unwrap().into()
        };
        for arguments in [&["resume", "kept", "--detach", "--yes"][..], &["pull", "kept"], &["gc"], &["run", "probe"]] {
            let done = root(arguments, None);
            assert_ne!(done.code, 0, "{arguments:?}");
            let why = format!("belongs to user {USER}, and this is user 0");
            assert!(done.stderr.contains(&why) && done.stderr.contains("or set XDG_"), "{}", done.stderr);
        }
        // A state of root's own does not open the store of somebody else.
        let state = tempfile::tempdir().unwrap();
        let done = root(&["run", "probe"], Some(state.path()));
        assert_ne!(done.code, 0);
        let words = [format!("native belongs to user {USER}"), "XDG_DATA_HOME".to_owned()];
        assert!(words.iter().all(|words| done.stderr.contains(words)), "{}", done.stderr);
        ok(&world.run(&["resume", "kept", "--detach", "--yes"]));
        ok(&world.run(&["stop", "kept"]));
        assert!(diff(&world).contains("made.txt"));
        ok(&world.run(&["rm", "--discard", "kept"]));
        world.wait_clean();
    }
}

#[test]
fn promise_21_kept_work_goes_from_root_without_privileges_to_root_and_back() {
    let world = World::new(Who::Root);
    let without = || world.command_by("setpriv", &WITHOUT, &[]);
    let run = |mut command: Command, arguments: &[&str]| Done::from(command.args(arguments).output().unwrap());
    ok(&launch(&world, without(), "always"));
    put(without(), "/workspace/one.txt");
    ok(&run(without(), &["stop", "kept"]));
    for (command, path) in
        [(&(|| world.command(&[])) as &dyn Fn() -> Command, "/workspace/two.txt"), (&without, "/workspace/three.txt")]
    {
        ok(&run(command(), &["resume", "kept", "--detach", "--yes"]));
        put(command(), path);
        put(command(), "/workspace/one.txt");
        ok(&run(command(), &["stop", "kept"]));
    }
    let changed = diff(&world);
    assert!(["one", "two", "three"].iter().all(|name| changed.contains(name)), "{changed}");
    ok(&world.run(&["rm", "--discard", "kept"]));
    world.wait_clean();
}
