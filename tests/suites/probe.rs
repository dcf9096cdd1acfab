//! The main purpose: the probe passes in a bottle.

use crate::support::process::{World, recipe};

#[test]
fn promise_01_the_probe_is_green_in_a_bottle() {
    let world = World::new();
    let done = world.run(&["run", "probe", "--format", "json"]);
    assert_eq!(done.code(), 0, "{}{}", done.stdout, done.stderr);
    let data = done.json();
    let lines = data["lines"].as_array().unwrap();
    assert!(lines.len() > 60, "{} lines", lines.len());
    assert!(lines.iter().all(|line| line["ok"] == true));
    for attempt in [
        "UDP, IP_PKTINFO",
        "vsock socket",
        "loopback, octal",
        "counterpart on elsewhere",
        "received at counterpart",
        "core_pattern",
    ] {
        assert!(lines.iter().any(|line| line["attempt"].as_str().unwrap().contains(attempt)), "{attempt}");
    }
    let undone = data["undo"].as_array().unwrap();
    // Two networks, a volume and two sidecars; the engine has often already removed the agent's container.
    assert!(undone.len() >= 5, "{undone:?}");
    assert!(undone.iter().all(|row| row["outcome"] != "failed"), "{undone:?}");
    assert!(data["times"]["released"].as_u64() < data["times"]["gone"].as_u64());
}

/// Whether a line expects a refusal by egress: one of its HTTP status codes, or a closed connection.
fn is_refusal(line: &serde_json::Value) -> bool {
    let expected = line["expected"].as_str().unwrap();
    ["400 ", "403 ", "421 ", "closed"].iter().any(|status| expected.starts_with(status))
}

#[test]
fn promise_18_every_refusal_is_one_audit_event() {
    let world = World::new();
    let data = world.run(&["run", "probe", "--format", "json"]).json();
    let lines = data["lines"].as_array().unwrap();
    let refused = lines.iter().filter(|line| is_refusal(line)).count();
    let events = data["audit"].as_array().unwrap();
    // Both the release probe and the agent's own request the forbidden host.
    let told = events.iter().filter(|event| event["decision"] == "refuse");
    let told: usize = told.map(|event| usize::try_from(event["count"].as_u64().unwrap()).unwrap()).sum();
    assert_eq!(told, refused + 1, "{events:?}");
    assert!(
        events.iter().all(|event| event["sidecar"] == "egress" && event["time"].as_u64() > Some(1_700_000_000_000))
    );
    // The audit log is kept and complete: with the printed head, and with no other.
    let bottle = data["bottle"].as_str().unwrap();
    let kept = world.run(&["audit", "show", bottle, "--format", "json"]).json();
    assert_eq!(kept, data["audit"]);
    let closed = &data["evidence"];
    assert_eq!(closed["refused"].as_u64().unwrap(), u64::try_from(told).unwrap());
    let verify = |head: &str| world.run(&["audit", "verify", bottle, "--head", head]).code();
    assert_eq!(verify(closed["head"].as_str().unwrap()), 0);
    assert_eq!(verify("0000"), 1);
    let learnt = world.run(&["policy", "learn", bottle]).stdout;
    assert!(learnt.contains("- {host: \"counterpart:8080\", methods: [GET]}"), "{learnt}");
    // Hosts that only the proof requests are not learnt.
    assert!(!learnt.contains("forbidden.bottler.invalid"), "{learnt}");
}

#[test]
fn the_table_is_for_people_and_the_times_follow() {
    let world = World::new();
    let done = world.run(&["run", "probe"]);
    assert_eq!(done.code(), 0, "{}", done.stderr);
    assert!(done.stdout.lines().next().unwrap().contains("attempt"), "{}", done.stdout);
    assert!(!done.stdout.contains("RED"));
    for word in ["sidecars up", "agent released", "teardown"] {
        assert!(done.stderr.contains(word), "{}", done.stderr);
    }
}

/// The bottle is proved even if its policy is not enforced.
#[test]
fn promise_01_a_bottle_that_only_audits_is_proved_and_launched() {
    let world = World::new();
    let file = world.state.path().join("audit.yaml");
    std::fs::write(&file, "mode: audit\nallow: []\n").unwrap();
    let done = world.run(&["run", "probe", "--egress", file.to_str().unwrap()]);
    assert_eq!(done.code(), 0, "{}{}", done.stdout, done.stderr);
    world.assert_clean();
}

/// Whoever the agent is, it is held as any other, and its home is its own: git's identity goes there.
#[test]
fn agents_of_other_users_are_held_and_have_their_home() {
    for user in ["0:0", "4711:4712"] {
        let world = World::new();
        let manifest = world.state.path().join("users.yaml");
        let bounds = World::bounds();
        let text = format!(
            "bottles: {{b: {{user: \"{user}\", bounds: {bounds}}}}}\nagents: {{a: {{bottle: b, template: probe}}}}\n"
        );
        std::fs::write(&manifest, text).unwrap();
        let manifest = manifest.to_str().unwrap();
        let done = world.run(&["run", "a", "--manifest", manifest, "--yes", "--format", "json"]);
        assert_eq!(done.code(), 0, "{user}: {}{}", done.stdout, done.stderr);
        let work = tempfile::tempdir().unwrap();
        std::fs::write(work.path().join("notes.txt"), "given\n").unwrap();
        let idle = ["run", "a", "--manifest", manifest, "--recipe", &recipe("idle.lua"), "--detach", "--yes"];
        let work = ["--workspace", work.path().to_str().unwrap()];
        let launched = world.run(&[&idle[..], &work[..]].concat());
        assert_eq!(launched.code(), 0, "{user}: {}", launched.stderr);
        assert_eq!(world.run(&["rm", "--force", "--discard", launched.stdout.trim()]).code(), 0);
        world.assert_clean();
    }
}
