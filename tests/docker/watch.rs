//! The proof is repeated while the agent runs: by schedule and when the engine was away; a red line pauses the agent.

use std::io::Write;
use std::process::{Child, Command, Stdio};

use crate::support::engine::PrivateEngine;
use crate::support::fault::FaultProxy;
use crate::support::process::{World, finish, recipe, targets, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

/// An agent that runs until it is stopped, in a bottle that is looked at after so many seconds.
fn watched(world: &World, every: u32) -> (Child, String) {
    let manifest = world.state.path().join("watched.yaml");
    let text = format!("bottles: {{b: {{watch: {every}}}}}\nagents: {{a: {{bottle: b, template: probe}}}}\n");
    std::fs::write(&manifest, text).unwrap();
    let manifest = manifest.to_string_lossy().into_owned();
    let child = world.start(&["run", "a", "--manifest", &manifest, "--recipe", &recipe("idle.lua")]);
    let agent = wait_for("the idle agent", || world.agent_running("bottler idle"));
    (child, agent)
}

fn inspect(world: &World, agent: &str, format: &str) -> String {
    let output = world.docker().args(["inspect", "--format", format, agent]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// How often the forbidden host was asked for: once in every proof.
fn proofs(world: &World, agent: &str) -> Option<u64> {
    let done = world.run(&["stats", agent, "--format", "json"]);
    let stats: serde_json::Value = serde_json::from_str(&done.stdout).ok()?;
    let refused = stats["decisions"].as_array()?.iter().filter(|it| it["decision"] == "refuse");
    refused.map(|it| it["count"].as_u64()).sum()
}

#[test]
fn promise_01_the_proof_is_repeated_and_a_red_line_pauses_the_agent() {
    let world = World::new();
    let (child, agent) = watched(&world, 1);
    wait_for("further proofs", || proofs(&world, &agent).filter(|count| *count >= 3));
    assert_eq!(inspect(&world, &agent, "{{.State.Status}}"), "running");

    // Somebody gives it an interface: only root on the engine's host can.
    let pid = inspect(&world, &agent, "{{.State.Pid}}");
    let add = "ip link add leak0 type veth peer name leak1 && ip link set leak0 up && ip link set leak1 up";
    let added = Command::new("nsenter").args(["--target", &pid, "--net", "sh", "-c", add]).status().unwrap();
    assert!(added.success());
    wait_for("the pause", || (inspect(&world, &agent, "{{.State.Status}}") == "paused").then_some(()));
    let audited = wait_for("the audit event", || {
        let shown = world.run(&["audit", "show", &agent, "--refused", "--format", "json"]).stdout;
        shown.contains("not_tight").then_some(shown)
    });
    assert!(audited.contains("network interfaces"), "{audited}");

    // What is paused can be ended like everything else.
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    let done = finish(child);
    assert_eq!(done.code(), 126, "{}", done.stderr);
    for words in ["is not tight any more (it is time); the agent is PAUSED", "because: network interfaces"] {
        assert!(done.stderr.contains(words), "{words}: {}", done.stderr);
    }
    world.assert_clean();
}

/// How many refusals are in the audit file.
fn audited(world: &World, agent: &str) -> u64 {
    let shown = world.run(&["audit", "show", agent, "--refused", "--format", "json"]).stdout;
    let events: Vec<serde_json::Value> = serde_json::from_str(&shown).unwrap();
    events.iter().filter_map(|event| event["count"].as_u64()).sum()
}

/// Asks for the same as a proof does, beside the agent: what is alike is counted, and told later.
fn ask_alike(world: &World, agent: &str) {
    let mut child = world.docker();
    child.args(["exec", "-i", agent, "/bottler", bottler::probe::AGAIN]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = child.spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{}", targets(&[])).unwrap();
    assert!(child.wait().unwrap().success());
}

/// Another proof after what has been done to the engine, every decision of egress' on file, also the last, and the agent's
/// end as always.
fn goes_on(world: &World, child: Child, agent: &str, before: u64) {
    let all = wait_for("another proof", || proofs(world, agent).filter(|count| *count > before));
    wait_for("its decision", || (audited(world, agent) >= all).then_some(()));
    assert_eq!(audited(world, agent), all, "each is told once");
    assert_eq!(inspect(world, agent, "{{.State.Status}}"), "running");
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

/// On a host, which is a namespace here, that gets an address, and then another way out.
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

/// An engine removes what is to go with its end when it starts again (`--rm`), be it running or not: Docker 20.10 does even
/// with `live-restore`.
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
