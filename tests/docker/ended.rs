//! Commands about a bottle that has ended.

use crate::support::images::{DEBIAN, Debian};
use crate::support::process::World;

#[test]
fn a_detached_run_answers_for_its_output_and_exit_code_when_it_is_gone() {
    let (world, _image) = (World::new(), Debian::import());
    let script = "echo RESULT; echo why >&2; exit 3";
    let run = [
        "run",
        "shell",
        "--image",
        DEBIAN,
        "--no-workspace",
        "--name",
        "done",
        "-d",
        "--headless",
        "--",
        "sh",
        "-c",
        script,
    ];
    assert_eq!(world.run(&run).code(), 0);
    let waited = world.run(&["wait", "done"]);
    assert_eq!((waited.code(), waited.stdout.as_str()), (3, "3\n"), "{}", waited.stderr);
    world.assert_clean();
    let logs = world.run(&["logs", "done"]);
    assert_eq!((logs.code(), logs.stdout.as_str()), (0, "RESULT\n"), "{}", logs.stderr);
    assert!(logs.stderr.contains("why\n") && logs.stderr.contains("done has ended: exit code 3"), "{}", logs.stderr);
    let attached = world.run(&["attach", "done"]);
    assert_eq!((attached.code(), attached.stdout.as_str()), (3, "RESULT\n"));
    let inspected = world.run(&["inspect", "done"]).json();
    assert_eq!((&inspected["state"], &inspected["ended"]["exit_code"]), (&"ended".into(), &3.into()));
    let all = world.run(&["ps", "--all", "--format", "json"]).json();
    assert_eq!((&all[0]["state"], &all[0]["exit_code"]), (&"ended".into(), &3.into()));
    assert_eq!(world.run(&["ps", "--format", "json"]).json().as_array().map(Vec::len), Some(0));
    assert_ne!(world.run(&["wait", "never"]).code(), 0);
    // A failure to write the output is reported.
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    assert_eq!(world.command(&["logs", "done"]).stdout(full).status().unwrap().code(), Some(125));
}
