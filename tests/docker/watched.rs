//! The proof is repeated whatever the agent does, and after the engine was away. What needs no Docker is in `tests/suites/watch.rs`.

use std::io::Write;
use std::process::{Child, Command, Stdio};

use crate::support::engine::PrivateEngine;
use crate::support::fault::FaultProxy;
use crate::support::images::{DEBIAN, Debian};
use crate::support::process::{World, finish, targets, wait_for};
use crate::watch::{proofs, watched};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

/// An agent that runs a program as a user, in a bottle whose proof is repeated every second.
fn working(world: &World, user: &str, program: &[&str]) -> (Child, String) {
    let manifest = world.state.path().join("working.yaml");
    let text = format!(
        "bottles: {{b: {{watch: 1, image: \"{DEBIAN}\", user: \"{user}\"}}}}\nagents: {{a: {{bottle: b, template: shell}}}}\n"
    );
    std::fs::write(&manifest, text).unwrap();
    let manifest = manifest.to_string_lossy().into_owned();
    let words = [&["run", "a", "--no-workspace", "--manifest", &manifest, "--"][..], program].concat();
    let child = world.start(&words);
    let agent = wait_for("the agent", || world.agent_running("sleep 1000"));
    (child, agent)
}

/// Adds an interface to an agent, which only root on the engine's host can do.
fn leak(world: &World, agent: &str) {
    let pid = world.pid(agent).to_string();
    let add = "ip link add leak0 type veth peer name leak1 && ip link set leak0 up && ip link set leak1 up";
    assert!(Command::new("nsenter").args(["--target", &pid, "--net", "sh", "-c", add]).status().unwrap().success());
    wait_for("the pause", || (world.status(agent) == "paused").then_some(()));
}

fn end(world: &World, child: Child) {
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    let done = finish(child);
    assert_eq!(done.code(), 126, "{}", done.stderr);
    world.assert_clean();
}

#[test]
fn promise_01_an_agent_that_is_root_cannot_forge_the_proof() {
    let (world, _image) = (World::new(), Debian::import());
    let green = r#"[{"attempt":"x","expected":"x","happened":"x","ok":true}]"#;
    let attack = format!(
        "printf '#!/bin/sh\\nread x; echo \"$GREEN\"\\n' > /tmp/fake; chmod 755 /tmp/fake; export GREEN='{green}'; \
         for try in 'cp /tmp/fake /bottler' 'mv -f /tmp/fake /bottler' 'mv /bottler /gone' 'rm -f /bottler' 'ln -sf /tmp/fake /bottler' \
         'chmod 777 /bottler' 'chown 0:0 /bottler' 'cat /bottler' 'mount --bind /tmp/fake /bottler' 'umount /bottler'; \
         do $try >/dev/null 2>&1 && echo \"done: $try\"; done; id -u; echo tried; sleep 1000"
    );
    let (child, agent) = working(&world, "0:0", &["sh", "-c", &attack]);
    let said = wait_for("the attack", || {
        let said = world.run(&["logs", &agent]).stdout;
        said.contains("tried").then_some(said)
    });
    // Root may change the owner to root, which has no effect.
    assert_eq!(said.replace("done: chown 0:0 /bottler\n", "").replace('\r', ""), "0\ntried\n");
    let before = proofs(&world, &agent).unwrap();
    wait_for("further proofs", || proofs(&world, &agent).filter(|count| *count >= before + 2));
    assert_eq!(world.status(&agent), "running");
    leak(&world, &agent);
    end(&world, child);
}

#[test]
fn promise_01_connections_of_the_agents_own_do_not_turn_the_proof_red() {
    let (world, _image) = (World::new(), Debian::import());
    let program = "import socket, resource, time, os
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
held = [socket.create_connection(('127.0.0.2', 8888)) for _ in range(1500)]
print('held', len(held), flush=True)
os.execvp('sleep', ['sleep', '1000']) if os.fork() == 0 else time.sleep(1000)
";
    let (child, agent) = working(&world, "1000:1000", &["python3", "-c", program]);
    wait_for("the connections", || world.run(&["logs", &agent]).stdout.contains("held 1500").then_some(()));
    let before = proofs(&world, &agent).unwrap();
    wait_for("further proofs", || proofs(&world, &agent).filter(|count| *count >= before + 3));
    assert_eq!(world.status(&agent), "running");
    end(&world, child);
}

/// How many refusals the audit file has.
fn audited(world: &World, agent: &str) -> u64 {
    let shown = world.run(&["audit", "show", agent, "--refused", "--format", "json"]).stdout;
    let events: Vec<serde_json::Value> = serde_json::from_str(&shown).unwrap();
    events.iter().filter_map(|event| event["count"].as_u64()).sum()
}

/// Makes the same request as a proof, beside the agent: equal requests are counted, and reported later.
fn ask_alike(world: &World, agent: &str) {
    let mut child = world.docker();
    child.args(["exec", "-i", agent, "/bottler", bottler::probe::AGAIN]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = child.spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{}", targets(&[])).unwrap();
    assert!(child.wait().unwrap().success());
}

/// After the interference there is another proof, all decisions of egress are in the audit log, including the last
/// one, and the agent ends normally.
fn goes_on(world: &World, child: Child, agent: &str, before: u64) {
    let all = wait_for("another proof", || proofs(world, agent).filter(|count| *count > before));
    wait_for("its decision", || (audited(world, agent) >= all).then_some(()));
    assert_eq!(audited(world, agent), all, "each is told once");
    assert_eq!(world.status(agent), "running");
    ask_alike(world, agent);
    ask_alike(world, agent);
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    let done = finish(child);
    assert_eq!(done.code(), 126, "{}", done.stderr);
    assert_eq!(audited(world, agent), all + 2);
    world.assert_clean();
}

#[test]
fn promise_01_the_proof_is_repeated_when_the_engine_was_away() {
    let proxy = FaultProxy::start("/var/run/docker.sock".as_ref(), None);
    let mut world = World::new();
    world.env = vec![("DOCKER_HOST".to_owned(), proxy.endpoint())];
    let (child, agent) = watched(&world, 3600);
    let before = proofs(&world, &agent).unwrap();
    proxy.cut();
    goes_on(&world, child, &agent, before);
}

/// On a host (here a namespace) that gets an address, and then another default route.
#[test]
fn promise_01_the_proof_is_repeated_when_the_network_changes() {
    let engine = PrivateEngine::start(&json!({}));
    let mut world = World::on(&engine.endpoint());
    world.through = engine.through();
    let ip = |arguments: &str| {
        assert!(engine.inside("ip").args(arguments.split(' ')).status().unwrap().success(), "{arguments}");
    };
    ip("link add out0 type veth peer name out1");
    ip("link set out0 up");
    let (child, agent) = watched(&world, 3600);
    let before = proofs(&world, &agent).unwrap();
    ip("address add 198.51.100.7/24 dev out0");
    let before = wait_for("another proof", || proofs(&world, &agent).filter(|count| *count > before));
    ip("route add default via 198.51.100.1");
    goes_on(&world, child, &agent, before);
}

/// Podman's containers do not need its service.
#[test]
fn promise_01_a_bottle_outlives_the_service_of_podman() {
    let mut engine = PrivateEngine::podman();
    let world = World::on(&engine.endpoint());
    let (child, agent) = watched(&world, 3600);
    let before = proofs(&world, &agent).unwrap();
    engine.kill();
    engine.resume();
    goes_on(&world, child, &agent, before);
}

/// When an engine restarts it removes containers with `--rm`, running or not: Docker 20.10 does so even with
/// `live-restore`.
#[test]
fn promise_13_an_engine_that_is_killed_and_starts_again_is_left_without_anything() {
    let mut engine = PrivateEngine::start(&json!({ "live-restore": true }));
    let world = World::on(&engine.endpoint());
    let (child, _) = watched(&world, 3600);
    engine.kill();
    engine.resume();
    let done = finish(child);
    assert_eq!(done.code(), 122, "{}", done.stderr);
    assert!(done.stderr.contains("error: ") && done.stderr.contains("it is gone"), "{}", done.stderr);
    world.assert_clean();
}
