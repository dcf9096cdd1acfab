//! The proof is repeated while the agent runs. A failed proof pauses the agent, and so does an egress that is dead or does
//! not respond.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command};

use crate::support::process::{PATIENCE, World, finish, recipe, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

/// An agent that runs until it is stopped, in a bottle whose proof is repeated at this interval, in seconds.
pub(crate) fn watched(world: &World, every: u32) -> (Child, String) {
    let manifest = world.state.path().join("watched.yaml");
    let text = format!("bottles: {{b: {{watch: {every}}}}}\nagents: {{a: {{bottle: b, template: probe}}}}\n");
    std::fs::write(&manifest, text).unwrap();
    let manifest = manifest.to_string_lossy().into_owned();
    let child = world.start(&["run", "a", "--manifest", &manifest, "--recipe", &recipe("idle.lua")]);
    let agent = wait_for("the idle agent", || world.agent_running("bottler idle"));
    (child, agent)
}

/// How often the forbidden host was requested: once in every proof.
pub(crate) fn proofs(world: &World, agent: &str) -> Option<u64> {
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
    assert_eq!(world.status(&agent), "running");

    // Adds an interface, which only root on the engine's host can do.
    let pid = world.pid(&agent).to_string();
    let add = "ip link add leak0 type veth peer name leak1 && ip link set leak0 up && ip link set leak1 up";
    let added = Command::new("nsenter").args(["--target", &pid, "--net", "sh", "-c", add]).status().unwrap();
    assert!(added.success());
    wait_for("the pause", || (world.status(&agent) == "paused").then_some(()));
    let audited = wait_for("the audit event", || {
        let shown = world.run(&["audit", "show", &agent, "--refused", "--format", "json"]).stdout;
        shown.contains("not_tight").then_some(shown)
    });
    assert!(audited.contains("network interfaces"), "{audited}");

    // A paused bottle can be stopped like any other.
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    let done = finish(child);
    assert_eq!(done.code(), 126, "{}", done.stderr);
    for words in ["is not tight any more (it is time); the agent is PAUSED", "because: network interfaces"] {
        assert!(done.stderr.contains(words), "{words}: {}", done.stderr);
    }
    world.assert_clean();
}

/// The name of egress' container.
fn egress_of(agent: &str) -> String {
    format!("{agent}-egress")
}

/// The state of a bottle in `ps`.
fn state_of(world: &World, agent: &str) -> serde_json::Value {
    let rows = world.run(&["ps", "--format", "json"]).json();
    rows.as_array().unwrap().iter().find(|row| row["bottle"] == agent).cloned().unwrap_or_default()
}

/// Waits until the audit log has an event with this code; returns its reason.
fn until_audited(world: &World, agent: &str, code: &str) -> String {
    wait_for(code, || {
        let shown = world.run(&["audit", "show", agent, "--format", "json"]);
        let events: Vec<serde_json::Value> = serde_json::from_str(&shown.stdout).ok()?;
        let found = events.iter().find(|event| event["code"] == code)?;
        assert_eq!((&found["subject"], &found["sidecar"]), (&json!("sidecar"), &json!("egress")));
        Some(found["reason"].as_str().unwrap().to_owned())
    })
}

/// The dead egress is reported everywhere: in the audit log, `ps` and `inspect`, and the agent is paused. Ends the
/// bottle, and checks what the client was told.
fn paused_for(world: &World, agent: &str, code: &str, why: &str) {
    wait_for("the pause", || (world.status(agent) == "paused").then_some(()));
    let reason = until_audited(world, agent, code);
    assert!(reason.contains(why), "{reason}");
    let reason = until_audited(world, agent, "agent_paused");
    assert!(reason.contains(why), "{reason}");
    let row = wait_for("ps", || Some(state_of(world, agent)).filter(|row| row["state"] == "paused"));
    assert!(row["paused"].as_str().unwrap().contains(why), "{row}");
    assert!(row["sidecars"]["egress"].as_str().unwrap().contains(why), "{row}");
    let text = world.run(&["ps"]).stdout;
    assert!(text.contains(&format!("paused: egress {why}")), "{text}");
    let inspected = world.run(&["inspect", agent]).json();
    assert_eq!((&inspected["state"], &inspected["condition"]["paused"]), (&json!("paused"), &row["paused"]));
}

fn ends(world: &World, child: Child) -> String {
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    let done = finish(child);
    assert_eq!(done.code(), 126, "{}", done.stderr);
    world.assert_clean();
    done.stderr
}

#[test]
fn promise_20_an_egress_that_is_killed_is_told_and_pauses_the_agent() {
    let world = World::new();
    let (child, agent) = watched(&world, 3600);
    assert_eq!(state_of(&world, &agent)["state"], "running");
    world.kill(&egress_of(&agent));
    paused_for(&world, &agent, "sidecar_died", "died (exit 137)");
    // Clients that attach later are told, too.
    let mut late = world.start(&["attach", &agent]);
    let mut told = String::new();
    let mut lines = BufReader::new(late.stderr.take().unwrap());
    lines.read_line(&mut told).unwrap();
    assert!(told.contains("the agent is PAUSED: egress died (exit 137)"), "{told}");
    let said = ends(&world, child);
    late.wait().unwrap();
    for words in ["error: ", ": egress died (exit 137)", "the agent is PAUSED: egress died (exit 137)"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let verified = world.run(&["audit", "verify", &agent]);
    assert!(verified.code() == 0 && verified.stdout.starts_with("intact: "), "{}", verified.stdout);
}

/// By the kernel, whose memory limit is set below the current use.
#[test]
fn promise_20_an_egress_that_runs_out_of_memory_is_told_so() {
    let world = World::new();
    let (child, agent) = watched(&world, 3600);
    let egress = egress_of(&agent);
    let pid = world.pid(&egress);
    // The content of a memory file system inside counts towards the container's limit.
    let fill = "mount -t tmpfs -o size=300m fill /tmp && exec dd if=/dev/zero of=/tmp/fill bs=1M count=290";
    let group = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let place = group.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controller, path) = (parts.next()?, parts.next()?, parts.next()?);
        (controller == "memory")
            .then(|| format!("/sys/fs/cgroup/memory{path}/cgroup.procs"))
            .or_else(|| controller.is_empty().then(|| format!("/sys/fs/cgroup{path}/cgroup.procs")))
    });
    let join = format!("echo $$ > {} && {fill}", place.unwrap());
    // The kernel kills egress, if that is larger: the filling process is exempt.
    let spare = "echo -1000 > /proc/self/oom_score_adj";
    let _ = Command::new("unshare").args(["-m", "sh", "-c", &format!("{spare}; {join}")]).output().unwrap();
    paused_for(&world, &agent, "sidecar_died", "died (exit 137, out of memory)");
    ends(&world, child);
}

/// Its process is stopped, or its container paused, so it does not respond. Then it continues, and so does the agent,
/// which has not run meanwhile.
#[test]
fn promise_20_an_egress_that_hangs_pauses_the_agent_until_a_proof_is_green() {
    let world = World::new();
    let (child, agent) = watched(&world, 3600);
    let egress = egress_of(&agent);
    let pid = world.pid(&egress);
    kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
    paused_for(&world, &agent, "sidecar_silent", "does not answer");
    kill(Pid::from_raw(pid), Signal::SIGCONT).unwrap();
    until_audited(&world, &agent, "agent_resumed");
    wait_for("the agent to go on", || (world.status(&agent) == "running").then_some(()));
    wait_for("ps", || (state_of(&world, &agent)["state"] == "running").then_some(()));
    until_audited(&world, &agent, "sidecar_back");

    world.pause(&egress, true);
    wait_for("the second pause", || (world.status(&agent) == "paused").then_some(()));
    wait_for("ps", || state_of(&world, &agent)["paused"].as_str()?.contains("its container is paused").then_some(()));
    world.pause(&egress, false);
    wait_for("the agent to go on again", || (world.status(&agent) == "running").then_some(()));
    let said = ends(&world, child);
    for words in ["egress does not answer", "the agent is PAUSED", "egress answers again", "the agent continues"] {
        assert!(said.contains(words), "{words}: {said}");
    }
}

/// Egress comes back, but the bottle is not isolated any more: the agent stays paused until it is.
#[test]
fn promise_20_no_red_proof_lets_a_paused_agent_go_on() {
    let world = World::new();
    let (child, agent) = watched(&world, 3600);
    let egress = egress_of(&agent);
    world.pause(&egress, true);
    wait_for("the pause", || (world.status(&agent) == "paused").then_some(()));
    let pid = world.pid(&agent).to_string();
    let inside = |command: &str| {
        let done = Command::new("nsenter").args(["--target", &pid, "--net", "sh", "-c", command]).status().unwrap();
        assert!(done.success(), "{command}");
    };
    inside("ip link add leak0 type veth peer name leak1 && ip link set leak0 up && ip link set leak1 up");
    world.pause(&egress, false);
    let red = wait_for("the red proof", || {
        let shown = world.run(&["audit", "show", &agent, "--refused", "--format", "json"]).stdout;
        shown.contains("not_tight").then_some(shown)
    });
    assert!(red.contains("network interfaces"), "{red}");
    assert_eq!(world.status(&agent), "paused");
    inside("ip link delete leak0");
    wait_for("the agent to go on", || (world.status(&agent) == "running").then_some(()));
    ends(&world, child);
}

/// `stop` ends a bottle with a paused agent; so does the holder's death.
#[test]
fn promise_20_a_paused_agent_is_torn_down_like_any_other() {
    let world = World::new();
    for killed in [false, true] {
        let (child, agent) = watched(&world, 3600);
        world.kill(&egress_of(&agent));
        wait_for("the pause", || (world.status(&agent) == "paused").then_some(()));
        if killed {
            for holder in world.processes("holder") {
                kill(Pid::from_raw(holder), Signal::SIGKILL).unwrap();
            }
            finish(child);
            world.wait_gone(PATIENCE);
        } else {
            let stopped = world.run(&["stop", &agent]);
            assert_eq!(stopped.code(), 0, "{}", stopped.stderr);
            assert_eq!(finish(child).code(), 126);
        }
        world.assert_clean();
    }
}
