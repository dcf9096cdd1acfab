//! What a launch does, and what runs in a bottle.

use crate::world::{Done, Who, World, groups_of, wait_for};

/// The probe's lines that did not end as expected; and how many there are in all.
fn red(world: &World) -> (Vec<String>, usize) {
    let done = world.run(&["run", "probe", "--format", "json"]);
    let report: serde_json::Value =
        serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {} {}", done.stdout, done.stderr));
    let lines = report["probe"].as_array().or_else(|| report["lines"].as_array()).cloned().unwrap_or_else(|| {
        panic!("no lines: {}", done.stdout);
    });
    let red = lines.iter().filter(|line| line["ok"] != true).map(ToString::to_string).collect();
    (red, lines.len())
}

#[test]
fn promise_01_the_probe_finds_no_way_out_as_root_and_as_an_ordinary_user() {
    for who in Who::BOUNDED {
        let world = World::new(who);
        let (red, tried) = red(&world);
        assert_eq!(red, Vec::<String>::new(), "{who:?}");
        assert!(tried > 80, "{who:?}: {tried}");
        world.wait_clean();
    }
}

/// One copy in memory for the host's processes and those of all containers. Who may execute it in a container cannot read it, nor
/// can its owner outside: an image is made from it all the same.
#[test]
fn containers_execute_the_file_that_holders_and_shims_start_from() {
    use std::os::unix::fs::MetadataExt;
    for who in Who::BOUNDED {
        let world = World::new(who);
        let launch = || {
            let (red, _) = red(&world);
            assert_eq!(red, Vec::<String>::new(), "{who:?}");
            let files = |folder: &str, name: &str| -> Vec<std::fs::Metadata> {
                let folders = std::fs::read_dir(world.store().join(folder)).unwrap();
                folders.map(|folder| std::fs::metadata(folder.unwrap().path().join(name)).unwrap()).collect()
            };
            let (own, images) = (files("executables", "bottler"), files("images", "files/bottler"));
            assert_eq!((own.len(), images.len()), (1, 1), "{who:?}");
            assert_eq!(own[0].ino(), images[0].ino(), "{who:?}");
            assert_eq!(own[0].mode() & 0o777, 0o111, "{who:?}");
        };
        launch();
        for folder in ["images", "tags"] {
            for entry in std::fs::read_dir(world.store().join(folder)).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
            }
        }
        launch();
        world.wait_clean();
    }
}

#[test]
fn without_bounds_nothing_is_launched_and_it_says_what_to_do() {
    let world = World::new(Who::Bare);
    let done = world.run(&["run", "probe"]);
    assert_ne!(done.code, 0);
    assert!(done.stderr.contains("bound memory and processes"), "{}", done.stderr);
    assert!(done.stderr.contains("`bounds: best-effort` for it in `bottles`"), "{}", done.stderr);
    world.wait_clean();
    // What it says to do does it. With systemd and the second version, that needs the user's own systemd.
    let remedy = done.stderr.split('`').find_map(|part| part.strip_prefix("sudo "));
    let Some(remedy) = remedy else {
        assert!(done.stderr.contains("Delegate=yes"), "{}", done.stderr);
        return;
    };
    let script = format!("{}; exec \"$@\"", remedy.replace("$(id -u)", &crate::world::USER.to_string()));
    let mut command = world.command_by("sh", &["-ec", &script, "sh"], &["run", "probe"]);
    let done = Done::from(command.output().unwrap());
    assert_eq!(done.code, 0, "{remedy}: {}", done.stderr);
    world.wait_clean();
    let places = remedy.split_once("for g in ").unwrap().1.split_once(';').unwrap().0;
    for place in places.split(' ') {
        let made = std::path::Path::new(place).join(format!("bottler-{}", crate::world::USER));
        wait_for("the group to be empty", || std::fs::remove_dir(&made).map_err(|error| format!("{made:?}: {error}")));
    }
}

/// Who was killed while it tried whether it can make control groups leaves none to the next one.
#[test]
fn control_groups_of_a_killed_trial_are_removed() {
    let world = World::new(Who::User);
    let left: Vec<_> = world.groups().iter().map(|group| group.join("bottler-trial-4194305")).collect();
    for group in &left {
        std::fs::create_dir(group).unwrap();
        std::os::unix::fs::chown(group, Some(crate::world::USER), None).unwrap();
    }
    assert_eq!(world.run(&["doctor"]).code, 0);
    assert!(left.iter().all(|group| !group.exists()));
    world.wait_clean();
}

/// A folder of the host that the agent works in.
#[test]
fn a_folder_is_mounted_but_not_the_store() {
    for who in Who::BOUNDED {
        let world = World::new(who);
        world.write("work/notes.txt", "given\n");
        let work = world.folder().join("work");
        world.hand_over(&work);
        let recipe = world.recipe("idle.lua");
        let mounting = |folder: &std::path::Path| {
            world.run(&[
                "run",
                "probe",
                "--recipe",
                &recipe,
                "--mount",
                "--workspace",
                folder.to_str().unwrap(),
                "--detach",
                "--yes",
            ])
        };
        if who == Who::Root {
            std::os::unix::fs::chown(&work, Some(1000), Some(1000)).unwrap();
        }
        let launched = mounting(&work);
        assert_eq!(launched.code, 0, "{who:?} {}", launched.stderr);
        let bottle = launched.stdout.trim();
        let written = world.run(&["exec", bottle, "--", "/bottler", "files", "put", "/workspace/made.txt", "644"]);
        assert_eq!(written.code, 0, "{who:?} {}", written.stderr);
        assert!(work.join("made.txt").exists());
        // What the host would execute is not the agent's to change.
        let masked = world.run(&["exec", bottle, "--", "/bottler", "files", "put", "/workspace/.envrc", "644"]);
        assert_ne!(masked.code, 0, "{who:?}");
        assert_eq!(world.run(&["stop", bottle]).code, 0);
        assert!(!work.join(".envrc").exists(), "{who:?}: the placeholder is left");
        for closed in [world.store(), world.store().join("containers")] {
            let refused = mounting(&closed);
            assert_ne!(refused.code, 0, "{who:?} {closed:?}");
            assert!(refused.stderr.contains("controls what bottler does"), "{who:?} {}", refused.stderr);
        }
        world.wait_clean();
    }
}

/// What a disk or a hand has done to the executable in the store is mended by the next launch.
#[test]
fn a_damaged_copy_of_the_executable_is_replaced() {
    let world = World::new(Who::User);
    assert_eq!(world.run(&["run", "probe"]).code, 0);
    let copy = || {
        let mut copies = std::fs::read_dir(world.store().join("executables")).unwrap();
        copies.next().unwrap().unwrap().path().join("bottler")
    };
    let mode =
        |mode: u32| std::fs::set_permissions(copy(), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    // Processes of the launch before are ending, and nobody writes what is executed.
    let open = || {
        wait_for("the executable to be free", || {
            std::fs::File::options().write(true).open(copy()).map_err(|error| error.to_string())
        })
    };
    let damages: [(&str, &dyn Fn()); 4] = [
        ("shorter", &|| open().set_len(100_000).unwrap()),
        ("changed", &|| std::os::unix::fs::FileExt::write_all_at(&open(), &[0; 4096], 1 << 20).unwrap()),
        ("not executable", &|| mode(0o400)),
        ("gone", &|| std::fs::remove_file(copy()).unwrap()),
    ];
    for (name, damage) in damages {
        damage();
        let done = world.run(&["run", "probe"]);
        assert_eq!(done.code, 0, "{name}: {}", done.stderr);
    }
    world.wait_clean();
}

/// No bound is a choice of the operator's, which the summary names.
#[test]
fn without_bounds_a_bottle_is_launched_where_its_manifest_accepts_that() {
    let world = World::new(Who::Bare);
    world.write(
        ".config/bottler/bottler.yaml",
        "bottles: {loose: {bounds: best-effort}}\nagents: {loose: {bottle: loose, template: probe}}\n",
    );
    let shown = world.run(&["run", "loose", "--dry-run"]);
    let text = shown.stdout + &shown.stderr;
    assert!(text.contains("512 processes; NOT ENFORCED where this host has no control groups for it"), "{text}");
    let done = world.run(&["run", "loose", "--yes", "--format", "json"]);
    assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
    let report: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    let lines = report["lines"].as_array().unwrap();
    assert!(lines.iter().all(|line| line["ok"] == true), "{report}");
    assert!(!lines.iter().any(|line| line["attempt"].as_str().unwrap().starts_with("bound")), "{report}");
    world.wait_clean();
    // Where there are some, it has them all the same.
    let world = World::new(Who::User);
    world.write(
        ".config/bottler/bottler.yaml",
        "bottles: {loose: {bounds: best-effort}}\nagents: {loose: {bottle: loose, template: probe}}\n",
    );
    let done = world.run(&["run", "loose", "--yes", "--format", "json"]);
    assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
    assert!(done.stdout.contains("bound: memory, bytes"), "{}", done.stdout);
    world.wait_clean();
}

/// A container through which files are only read never runs: it needs no bounds, and so no control groups.
#[test]
fn work_is_read_without_control_groups() {
    let world = World::new(Who::Bare);
    world.write(
        ".config/bottler/bottler.yaml",
        "bottles: {loose: {bounds: best-effort}}\nagents: {loose: {bottle: loose, template: probe}}\n",
    );
    world.write("work/notes.txt", "first\n");
    let recipe = world.recipe("idle.lua");
    let work = world.folder().join("work").display().to_string();
    let launched = world.run(&["run", "loose", "--recipe", &recipe, "--workspace", &work, "--detach", "--yes"]);
    assert_eq!(launched.code, 0, "{}", launched.stderr);
    let bottle = launched.stdout.trim();
    let changed = world.run(&["diff", bottle]);
    assert_eq!((changed.code, changed.stdout.as_str()), (0, ""), "{}", changed.stderr);
    assert_eq!(world.run(&["rm", "--force", "--discard", bottle]).code, 0);
    world.wait_clean();
}

#[test]
fn what_this_engine_cannot_do_is_said_before_anything_is_made() {
    let world = World::new(Who::Root);
    for (arguments, words) in [
        (&["run", "shell", "--image", "debian:bookworm", "--yes"][..], "own images"),
        (&["run", "probe", "--isolation", "bridge", "--yes"], "isolation: bridge"),
        (&["run", "probe", "--runtime", "runsc", "--yes"], "runtime"),
    ] {
        let done = world.run(arguments);
        assert_ne!(done.code, 0, "{arguments:?}");
        assert!(done.stderr.contains(words), "{arguments:?}: {}", done.stderr);
        assert!(!done.stderr.contains("removed:"), "{arguments:?} made something: {}", done.stderr);
    }
}

#[test]
fn commands_run_beside_the_agent_with_as_few_privileges() {
    for who in Who::BOUNDED {
        let world = World::new(who);
        let bottle = world.idle();
        let version = world.run(&["exec", &bottle, "--", "/bottler", "--version"]);
        assert_eq!((version.code, version.stdout.starts_with("bottler ")), (0, true), "{who:?} {}", version.stderr);
        let missing = world.run(&["exec", &bottle, "--", "/nothing"]);
        assert_eq!(missing.code, 127, "{who:?}");
        assert!(missing.stderr.contains("/nothing"), "{who:?} {}", missing.stderr);
        let folder = world.run(&["exec", &bottle, "--", "/etc"]);
        assert_eq!(folder.code, 126, "{who:?} {}", folder.stderr);
        let failing = world.run(&["exec", &bottle, "--", "/bottler", "files", "get", "/proc/1/environ"]);
        assert_ne!(failing.code, 0, "{who:?}");
        // Everything of the command's is in the container's groups and namespaces, and nothing is left to it.
        let status = world.run(&["exec", &bottle, "--", "/bottler", "files", "get", "/proc/self/status"]);
        for line in [
            "CapEff:\t0000000000000000",
            "CapPrm:\t0000000000000000",
            "CapInh:\t0000000000000000",
            "CapBnd:\t0000000000000000",
            "CapAmb:\t0000000000000000",
            "NoNewPrivs:\t1",
            "Seccomp:\t2",
        ] {
            assert!(status.stdout.contains(line), "{who:?} {line}: {} {}", status.stdout, status.stderr);
        }
        let log = world.run(&["logs", &bottle, "egress"]);
        assert!(log.stdout.contains("host_not_allowed"), "{who:?} {}", log.stderr);
        assert!(!groups_of(&bottle).is_empty(), "{who:?}");
        assert_eq!(world.run(&["stop", &bottle]).code, 0, "{who:?}");
        world.wait_clean();
        assert_eq!(groups_of(&bottle), Vec::<std::path::PathBuf>::new(), "{who:?}");
    }
}

/// Docker runs, and its socket is for others.
#[test]
fn where_docker_is_not_this_users_the_native_engine_is_the_default_one() {
    let world = World::new(Who::User);
    let socket = world.folder().join("docker.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    std::fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o660)).unwrap();
    // Docker's usual place, in a mount namespace.
    let place =
        "mount -t tmpfs none /run; : > /run/docker.sock; mount --bind \"$SOCKET\" /run/docker.sock; exec \"$@\"";
    let run = |arguments: &[&str]| -> Done {
        let mut command = world.command_by("unshare", &["--mount", "sh", "-ec", place, "sh"], arguments);
        command.env("SOCKET", &socket).env_remove("BOTTLER_ENGINE").output().unwrap().into()
    };
    let done = run(&["run", "probe"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stderr.contains("native: the kernel alone, no daemon; Docker's socket"), "{}", done.stderr);
    for command in ["ps", "gc"] {
        let done = run(&[command]);
        assert_eq!(done.code, 0, "{command}: {}", done.stderr);
    }
    let done = run(&["run", "shell", "--image", "debian:bookworm", "--yes"]);
    assert!(done.stderr.contains("its group, usually `docker`"), "{}", done.stderr);
    world.wait_clean();
}

/// Root in somebody's container may not make namespaces by itself, and launches as an ordinary user does.
#[test]
fn root_without_the_hosts_privileges_launches_all_the_same() {
    let world = World::new(Who::Root);
    let without = ["--bounding-set=-sys_admin", "--inh-caps=-sys_admin"];
    let run =
        |arguments: &[&str]| -> Done { world.command_by("setpriv", &without, arguments).output().unwrap().into() };
    let done = run(&["run", "probe"]);
    assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
    let done = run(&["doctor"]);
    assert!(done.stdout.contains("can be made, with one user"), "{}{}", done.stdout, done.stderr);
    world.wait_clean();
}

/// The reason is behind what an archive's reader says, which names a file.
#[test]
fn a_full_disk_is_named_where_an_image_is_unpacked() {
    let world = World::new(Who::User);
    let store = world.folder().join("store");
    std::fs::create_dir(&store).unwrap();
    // What shims start from fits, and is copied first; the image has another one.
    assert_eq!(world.run(&["run", "probe"]).code, 0);
    let copy = std::fs::read_dir(world.store().join("executables")).unwrap().next().unwrap().unwrap();
    let size = std::fs::metadata(copy.path().join("bottler")).unwrap().len() + (4 << 20);
    let place = "mount -t tmpfs -o mode=777,size=$SIZE none \"$STORE\"; exec \"$@\"";
    let mut command = world.command_by("unshare", &["--mount", "sh", "-ec", place, "sh"], &["run", "probe"]);
    command.env("STORE", &store).env("SIZE", size.to_string()).env("XDG_DATA_HOME", &store);
    let done = Done::from(command.output().unwrap());
    assert_ne!(done.code, 0, "{}", done.stderr);
    assert!(done.stderr.contains("make image") && done.stderr.contains("No space left"), "{}", done.stderr);
    world.wait_clean();
}
