//! Nested bottles on the real engine: results are returned, and nothing is left, however they end.

use std::process::{Command, Stdio};

use crate::support::images::{Busybox, DEBIAN, Debian};
use crate::support::process::{PATIENCE, World, bottler, finish, recipe, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Runs in a separate folder, where results are saved.
fn run_in(world: &World, folder: &std::path::Path, arguments: &[&str]) -> crate::support::process::Done {
    let output = Command::new(bottler())
        .args(arguments)
        .current_dir(folder)
        .env("XDG_STATE_HOME", world.state.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    output.into()
}

fn git(folder: &std::path::Path, arguments: &[&str]) {
    let output = Command::new("git").args(arguments).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_bottle_is_a_thing_of_another_and_gives_its_results() {
    let world = World::new();
    let _image = Busybox::import();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("out")).unwrap();
    let done = run_in(&world, folder.path(), &["run", "shell", "--recipe", &recipe("bottles.lua")]);
    assert_eq!(done.code(), 0, "{}", done.stderr);
    for words in [
        "exit codes 0 3",
        "output started",
        "saved out/change.patch out/change-2.patch",
        "handed on new first more",
        "closed false bottle idle-",
    ] {
        assert!(done.stderr.contains(words), "{words}: {}", done.stderr);
    }
    world.assert_clean();
    // git applies the patch.
    std::fs::write(folder.path().join("notes.txt"), "first\n").unwrap();
    git(folder.path(), &["init", "-q"]);
    git(folder.path(), &["apply", "out/change.patch"]);
    assert_eq!(std::fs::read_to_string(folder.path().join("notes.txt")).unwrap(), "first\nmore\n");
    assert_eq!(std::fs::read_to_string(folder.path().join("made.txt")).unwrap(), "new\n");
    the_recipes_that_launch_bottles(&world);
    cancelled_or_killed_the_parent_takes_its_bottles_along(&world);
}

/// Another agent reviews what one agent has made: with the history and the user's identity, without the first agent's
/// settings and hooks.
#[test]
fn a_workspace_is_handed_on_with_its_history_and_identity() {
    let (world, _image) = (World::new(), Debian::import());
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    git(folder, &["init", "-q", "-b", "main"]);
    git(folder, &["config", "user.name", "The User"]);
    git(folder, &["config", "user.email", "user@example.com"]);
    std::fs::write(folder.join("a"), "one\n").unwrap();
    git(folder, &["add", "."]);
    git(folder, &["commit", "-qm", "first"]);
    let words =
        ["run", "shell", "--image", DEBIAN, "--workspace", ".", "--recipe", &recipe("handed.lua"), "--keep", "never"];
    let done = run_in(&world, folder, &words);
    assert_eq!(done.code(), 0, "{}", done.stderr);
    for line in [
        "writer The User:user@example.com words",
        "writer-",
        ": words",
        "reviewer mine first work| 1 file changed, 2 insertions(+)| M a|The User|",
    ] {
        assert!(done.stderr.contains(line), "{line}: {}", done.stderr);
    }
    let left: Vec<_> = std::fs::read_dir(folder).unwrap().collect();
    assert_eq!(left.len(), 2, "{left:?}");
    world.assert_clean();
}

fn workspace() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("sum.txt"), "2 + 2 = 5\n").unwrap();
    folder
}

fn the_recipes_that_launch_bottles(world: &World) {
    // The minimal recipe, unchanged.
    let run = ["run", "shell", "--recipe", "minimal", "--image", "bottler-test:busybox", "--", "/bin/echo", "minimal"];
    let done = world.run(&run);
    assert_eq!((done.code(), done.stdout.as_str()), (0, "minimal\n"), "{}", done.stderr);
    let with_image = |name: &str, command: &str| {
        let path = world.state.path().join(format!("{name}.lua"));
        let text = format!(
            "local it = require 'std.{name}'\nreturn function(plan)\n  plan.image.source = 'bottler-test:busybox'\n  plan.agent.command = {{ '/bin/sh', '-c', {command:?} }}\n  it(plan)\nend\n"
        );
        std::fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    };
    // Five attempts, of which the even ones succeed.
    let folder = workspace();
    let script = with_image("fan-out", "test $((TRY % 2)) = 0 && echo try $TRY >> sum.txt");
    let tries = ["run", "shell", "--recipe", &script, "--workspace", ".", "--set", "tries=5"];
    let done = run_in(world, folder.path(), &tries);
    assert_eq!(done.code(), 0, "{}", done.stderr);
    for number in 1..=5 {
        let patch = std::fs::read_to_string(folder.path().join(format!("try-{number}.patch")));
        assert_eq!(patch.is_ok(), number % 2 == 0, "{number}: {}", done.stderr);
        if let Ok(patch) = patch {
            assert!(patch.contains(&format!("+try {number}\n")), "{patch}");
        }
    }
    world.assert_clean();

    // The reviewer rejects it until the sum is right; the writer reads the review.
    let folder = workspace();
    let script = with_image("review-loop", "exit 1");
    let done = run_in(
        world,
        folder.path(),
        &[
            &["run", "shell", "--recipe", &script, "--workspace", ".", "--prompt", "mend the sum"],
            &["--set", "writer=grep -q 'say 4' /home/agent/.bottler/prompt.md && echo '2 + 2 = 4' > sum.txt; true"][..],
            &["--set", "reviewer=grep -q '= 4' sum.txt && grep -q '^+2 + 2 = 4' /home/agent/.bottler/prompt.md || { echo say 4; exit 1; }"][..],
        ]
        .concat(),
    );
    assert_eq!(done.code(), 0, "{}", done.stderr);
    assert!(done.stderr.contains("round 1 was sent back: say 4"), "{}", done.stderr);
    assert!(done.stderr.contains("accepted in round 2: reviewed.patch"), "{}", done.stderr);
    world.assert_clean();

    // A pipeline: a patch, or the reason for failure.
    let folder = workspace();
    std::fs::write(folder.path().join("task.md"), "count").unwrap();
    let script = with_image("ci", "cat /home/agent/.bottler/prompt.md && echo 3 > count.txt");
    let run = ["run", "shell", "--recipe", &script, "--prompt-file", "task.md", "--workspace", "."];
    let done = run_in(world, folder.path(), &run);
    assert_eq!(done.code(), 0, "{}", done.stderr);
    let patch = std::fs::read_to_string(folder.path().join("ci.patch")).unwrap();
    assert!(patch.contains("new file mode 100644") && patch.contains("+3"), "{patch}");
    let script = with_image("ci", "sleep 1000");
    let run =
        ["run", "shell", "--recipe", &script, "--prompt-file", "task.md", "--workspace", ".", "--set", "budget=2s"];
    let done = run_in(world, folder.path(), &run);
    assert_eq!(done.code(), 122, "{}", done.stderr);
    assert!(done.stderr.contains("wait: not done within 2s"), "{}", done.stderr);
    world.assert_clean();
}

fn cancelled_or_killed_the_parent_takes_its_bottles_along(world: &World) {
    for signal in [Signal::SIGINT, Signal::SIGKILL] {
        let child = world.start(&["run", "shell", "--recipe", &recipe("idle_bottles.lua")]);
        wait_for("both agents' commands", || {
            let agents =
                world.objects().into_iter().filter(|name| name.starts_with("idle-") && name.matches('-').count() == 2);
            let running = |name: &String| {
                let top = Command::new("docker").args(["top", name, "-eo", "pid,args"]).output().unwrap();
                String::from_utf8_lossy(&top.stdout).contains("sleep 1000")
            };
            (agents.filter(running).count() == 2).then_some(())
        });
        if signal == Signal::SIGINT {
            kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
            assert_eq!(finish(child).code(), 126);
            world.assert_clean();
        } else {
            // Kill the holder of all bottles; each bottle has its own reaper.
            for pid in world.processes("holder") {
                kill(Pid::from_raw(pid), signal).unwrap();
            }
            finish(child);
            world.wait_gone(PATIENCE);
        }
    }
}

/// Denials of the outer bottle apply to the nested one; its own grants are its own.
#[test]
fn a_bottle_inside_has_a_policy_of_its_own_and_loses_what_the_one_around_it_loses() {
    let world = World::new();
    let _image = Busybox::import();
    let recipe = recipe("idle_around.lua");
    let child = world.start(&["run", "probe", "--recipe", &recipe, "--allow", "shared.example.com"]);
    let running = |name: &str| {
        let top = Command::new("docker").args(["top", name, "-eo", "pid,args"]).output().unwrap();
        String::from_utf8_lossy(&top.stdout).contains("sleep 1000")
    };
    let inner = wait_for("the agent inside", || {
        world.bottles().into_iter().find(|bottle| bottle.starts_with("inner-") && running(bottle))
    });
    let outer = world.bottles().into_iter().find(|bottle| bottle.starts_with("probe-")).unwrap();
    let policy = |words: &[&str]| {
        let done = world.run(&[&["policy"], words].concat());
        assert_eq!(done.code(), 0, "{words:?}: {}", done.stderr);
        done
    };
    policy(&["allow", &inner, "inner.example.com"]);
    policy(&["deny", &outer, "shared.example.com"]);
    let of = |bottle: &str| policy(&["show", bottle]).json()["egress"].clone();
    let (around, inside) = (of(&outer), of(&inner));
    for denied in [&around["deny"], &inside["deny"]] {
        assert_eq!(*denied, serde_json::json!(["shared.example.com"]));
    }
    assert_eq!(inside["allow"], serde_json::json!(["shared.example.com", "inner.example.com"]));
    assert_eq!(around["allow"], serde_json::json!(["shared.example.com"]));
    // A command can be run in the nested bottle, too.
    let done = world.run(&["exec", &inner, "--", "/bin/sh", "-c", "echo inside"]);
    assert_eq!((done.code(), done.stdout.trim()), (0, "inside"), "{}", done.stderr);
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    assert_eq!(finish(child).code(), 126);
    world.assert_clean();
}
