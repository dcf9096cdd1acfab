//! The agent's home outlives its bottle where the workspace does, and goes with it.

use std::io::Write;
use std::process::Stdio;

use crate::support::native::has_ended;
use crate::support::process::{Done, World, recipe, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const SESSION: &str = "/home/agent/.state/session";

/// Writes a file in a running bottle, as its agent.
fn put(world: &World, id: &str, path: &str, content: &str) {
    let mut command = world.command(&["exec", id, "--", "/bottler", "files", "put", path, "600"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(content.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

fn get(world: &World, id: &str, path: &str) -> Done {
    world.run(&["exec", id, "--", "/bottler", "files", "get", path])
}

fn kill_all(world: &World, role: &str) {
    let all = world.processes(role);
    for pid in &all {
        kill(Pid::from_raw(*pid), Signal::SIGKILL).unwrap();
    }
    wait_for(role, || all.iter().all(|pid| has_ended(*pid)).then_some(()));
}

#[test]
fn a_home_is_kept_with_the_workspace_and_goes_with_it() {
    let world = World::new();
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::write(folder.path().join("a"), "a\n").unwrap();
    let work = folder.path().to_str().unwrap();
    let recipe = recipe("idle.lua");
    let launch = |name: &str, keep: &str| {
        let run = ["run", "probe", "--recipe", &recipe, "--workspace", work, "--no-project", "-d", "--yes"];
        let done = world.run(&[&run[..], &["--name", name, "--keep", keep]].concat());
        assert_eq!(done.code(), 0, "{}", done.stderr);
    };
    let objects = || {
        let mut objects = world.objects();
        objects.sort();
        objects
    };
    let both = ["kept-home", "kept-workspace"];
    launch("kept", "always");
    put(&world, "kept", SESSION, "first\n");
    put(&world, "kept", "/workspace/made", "work\n");
    assert_eq!(world.run(&["stop", "kept"]).code(), 0);
    assert_eq!(objects(), both);
    assert_eq!(world.run(&["gc"]).code(), 0);
    assert_eq!(objects(), both);

    let resume = |more: &[&str]| {
        let done = world.run(&[&["resume", "kept", "-d"], more].concat());
        assert_eq!(done.code(), 0, "{}", done.stderr);
        done.stderr
    };
    let said = resume(&[]);
    assert!(said.contains("as the agent left it") && !said.contains("--fresh-home"), "{said}");
    assert_eq!(get(&world, "kept", SESSION).stdout, "first\n");
    assert_eq!(get(&world, "kept", "/workspace/made").stdout, "work\n");
    put(&world, "kept", SESSION, "second\n");
    // The reaper keeps both, and so does `gc` where that is dead, too.
    kill_all(&world, "holder");
    wait_for("the reaper", || world.processes("reaper").is_empty().then_some(()));
    assert_eq!(objects(), both);
    resume(&[]);
    assert_eq!(get(&world, "kept", SESSION).stdout, "second\n");
    kill_all(&world, "reaper");
    kill_all(&world, "holder");
    assert_eq!(world.run(&["gc"]).code(), 0);
    assert_eq!(objects(), both);

    let said = resume(&["--fresh-home"]);
    assert!(said.contains("is REMOVED"), "{said}");
    assert_ne!(get(&world, "kept", SESSION).code(), 0);
    assert_eq!(get(&world, "kept", "/workspace/made").stdout, "work\n");
    put(&world, "kept", SESSION, "third\n");
    assert_eq!(world.run(&["stop", "kept"]).code(), 0);
    resume(&[]);
    assert_eq!(get(&world, "kept", SESSION).stdout, "third\n");
    assert_eq!(world.run(&["rm", "--force", "--discard", "kept"]).code(), 0);
    world.assert_clean();

    // Nothing has changed in the workspace: what is in the home alone keeps nothing.
    launch("alone", "always");
    put(&world, "alone", SESSION, "first\n");
    assert_eq!(world.run(&["stop", "alone"]).code(), 0);
    assert_eq!(objects(), ["alone-home", "alone-workspace"], "a bottle that is stopped counts as interrupted");
    assert_eq!(world.run(&["rm", "alone"]).code(), 0, "no work is lost");
    launch("never", "never");
    assert!(!objects().contains(&"never-home".to_owned()));
    assert_eq!(world.run(&["stop", "never"]).code(), 0);
    world.assert_clean();
}
