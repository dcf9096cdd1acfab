//! Things on the engine that are not a living bottle's: names of others, labels alone, and what the doctor finds of the dead.

use std::process::Command;

use crate::support::images::bottlers_own;
use crate::support::process::{World, finish};
use crate::teardown::{Victims, idle, sigkill};

#[test]
fn a_pinned_name_that_is_taken_is_an_error() {
    let world = World::new();
    let image = world.run(&["run", "probe", "--format", "json"]);
    assert_eq!(image.code(), 0, "{}", image.stderr);
    let tag = bottlers_own();
    let name = format!("taken-{}", std::process::id());
    let made = Command::new("docker").args(["create", "--name", &name, &tag, "/bottler"]).output().unwrap();
    assert!(made.status.success());
    let done = world.run(&["run", "probe", "--name", &name]);
    let removed = Command::new("docker").args(["rm", &name]).output().unwrap();
    assert!(removed.status.success(), "the stranger's container is still there");
    assert_eq!(done.code(), 123, "{}", done.stderr);
    assert!(
        done.stderr.contains("already in use") && done.stderr.contains("hint: choose another name"),
        "{}",
        done.stderr
    );
    world.assert_clean();
}

#[test]
fn the_doctor_finds_what_dead_bottles_left_and_removes_it_where_it_may() {
    let world = World::new();
    let child = idle(&world);
    let bottle = world.bottles().remove(0);
    sigkill(&world, &child, Victims::HolderAndReaper);
    finish(child);
    let left = world.objects();
    // `doctor` tries a real launch, which would collect the dead bottles, so these are checked first.
    let fixed = world.run(&["doctor", "--fix", "--format", "json"]);
    assert_eq!(fixed.code(), 0, "{}", fixed.stdout);
    let data = fixed.json();
    let found = |what: &str| {
        let checks = data["checks"].as_array().unwrap();
        let check = checks.iter().find(|check| check["check"] == what);
        check.unwrap_or_else(|| panic!("{what}: {checks:?}"))["found"].as_str().unwrap().to_owned()
    };
    assert_eq!((data["version"].as_u64(), left.len()), (Some(1), 4));
    assert_eq!(found("leftovers"), "removed what 1 dead bottles left");
    assert!(found("isolation").contains("attempts to get out, all failed"), "{}", found("isolation"));
    for what in ["engine", "rootless", "storage", "seccomp", "runtimes", "address pools", "processes", "clock"] {
        assert!(!found(what).is_empty());
    }
    // The output can be shared.
    let host = nix::unistd::gethostname().unwrap().into_string().unwrap();
    for secret in [&bottle, &host, "/home/", "/root", "/tmp/", "docker.sock"] {
        assert!(!fixed.stdout.contains(secret), "{secret}: {}", fixed.stdout);
    }
    world.assert_clean();

    let mut world = World::new();
    world.env = vec![("DOCKER_HOST".into(), "unix:///nowhere/docker.sock".into())];
    let done = world.run(&["doctor"]);
    assert_eq!(done.code(), 1, "{}", done.stdout);
    assert!(
        done.stdout.contains("FAIL  engine") && done.stdout.contains("engine: start Docker Engine"),
        "{}",
        done.stdout
    );
}

#[test]
fn promise_14_what_is_ours_by_label_alone_is_not_touched() {
    let world = World::new();
    assert_eq!(world.run(&["run", "probe"]).code(), 0);
    let state = bottler::session::StateDir::at(&world.state.path().join("bottler")).unwrap();
    let name = format!("stranger-{}", std::process::id());
    let labels = [
        "dev.bottler.session=probe-dead1".to_owned(),
        format!("dev.bottler.owner={}", state.owner),
        "dev.bottler.seq=1".to_owned(),
        "dev.bottler.kind=network".to_owned(),
    ];
    let mut create = Command::new("docker");
    create.args(["network", "create", "--subnet", "10.213.255.240/28"]);
    for label in &labels {
        create.args(["--label", label]);
    }
    assert!(create.arg(&name).output().unwrap().status.success());
    let collected = world.run(&["gc", "--format", "json"]).json();
    let removed = Command::new("docker").args(["network", "rm", &name]).output().unwrap();
    assert!(removed.status.success(), "the stranger's network is still there");
    assert_eq!(collected["bottles"].as_array().unwrap().len(), 0, "{collected}");
}
