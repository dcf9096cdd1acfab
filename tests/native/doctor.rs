//! `doctor` tries what the native engine needs, and names one command for what is missing.

use std::process::Command;

use crate::world::{Done, Who, World};

/// The checks of a run, by name: state, what was found, and the remedy.
fn checks(done: &Done) -> std::collections::BTreeMap<String, (String, String, String)> {
    let data: serde_json::Value =
        serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {} {}", done.stdout, done.stderr));
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let row = |check: &serde_json::Value| {
        (text(&check["check"]), (text(&check["state"]), text(&check["found"]), text(&check["remedy"])))
    };
    data["checks"].as_array().unwrap().iter().map(row).collect()
}

const DOCTOR: [&str; 3] = ["doctor", "--format", "json"];
const TRIED: [&str; 8] = [
    "bounds",
    "own users",
    "user namespace",
    "namespaces",
    "loopback interface",
    "overlay",
    "/proc",
    "system call filter",
];

#[test]
fn the_doctor_tries_what_the_native_engine_needs() {
    for who in Who::BOUNDED {
        let world = World::new(who);
        let done = world.run(&DOCTOR);
        let checks = checks(&done);
        for what in TRIED {
            // A user without a range has one user inside.
            let expected = if what == "own users" && who == Who::User { "warn" } else { "ok" };
            assert_eq!(checks[what].0, expected, "{who:?} {what}: {checks:?}");
        }
        assert!(matches!(checks["Landlock"].0.as_str(), "ok" | "warn"), "{who:?}: {checks:?}");
        assert!(checks["isolation"].1.contains("attempts to get out, all failed"), "{who:?}: {checks:?}");
        assert_eq!(done.code, 0, "{who:?}: {checks:?}");
        // It can be shown to anybody.
        assert!(!done.stdout.contains(world.store().to_str().unwrap()), "{}", done.stdout);
        world.wait_clean();
    }
}

#[test]
fn the_doctor_says_how_to_get_bounds() {
    let world = World::new(Who::Bare);
    let done = world.run(&DOCTOR);
    let checks = checks(&done);
    let (state, found, remedy) = &checks["bounds"];
    assert_eq!(state, "fail", "{checks:?}");
    assert!(found.contains("memory and processes have no bounds"), "{found}");
    assert!(remedy.starts_with("sudo sh -c") || remedy.contains("Delegate=yes"), "{remedy}");
    assert_eq!(checks["overlay"].0, "ok", "{checks:?}");
    assert_eq!(done.code, 1);
}

#[test]
fn the_doctor_says_why_there_are_no_user_namespaces() {
    let world = World::new(Who::User);
    // A user namespace in which nobody may make another one, and where this user has no capability.
    let id = crate::world::USER.to_string();
    let script = "echo 0 > /proc/sys/user/max_user_namespaces; \
                  exec setpriv --inh-caps=-all --ambient-caps=-all --bounding-set=-all \"$0\" \"$@\"";
    let inner = world.command(&DOCTOR);
    let (program, arguments) = (inner.get_program().to_owned(), inner.get_args().map(ToOwned::to_owned));
    let mut command = Command::new(program);
    let mut arguments: Vec<_> = arguments.collect();
    // The world's script becomes the user, then runs what follows it: that is wrapped.
    let at = 2;
    let wrapped = [
        "unshare",
        "--user",
        &format!("--map-user={id}"),
        &format!("--map-group={id}"),
        "--keep-caps",
        "sh",
        "-ec",
        script,
    ]
    .map(Into::into);
    arguments.splice(at..at, wrapped);
    command.args(arguments).current_dir(inner.get_current_dir().unwrap()).env_clear();
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let done = Done::from(command.output().unwrap());
    let checks = checks(&done);
    let (state, found, remedy) = &checks["user namespace"];
    assert_eq!(state, "fail", "{checks:?}");
    assert_eq!(found, "user.max_user_namespaces is 0: nobody may make one");
    assert_eq!(remedy, "sudo sysctl -w user.max_user_namespaces=10000");
    assert!(!checks.contains_key("overlay"), "what needs it is not tried: {checks:?}");
    assert_eq!(done.code, 1);
}
