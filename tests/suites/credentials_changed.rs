//! Credentials of a bottle that runs: their limits and their values are changed by commands.

use crate::support::process::{World, recipe, wait_for};

#[test]
fn limits_and_values_of_credentials_are_changed_while_a_bottle_runs() {
    let world = World::new();
    let folder = world.state.path();
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    write("key", "first-value-of-it\n");
    write("keyfile", "another-value-1\n");
    let keyfile = folder.join("keyfile");
    let text = format!(
        "bottles:
  dev:
    bounds: {}
    credentials:
      - {{env: MY_KEY, source: 'file:key', hosts: [api.example.com], limits: {{total: 5, requests: 2, per: 1h}}}}
      - {{name: ran, source: {{command: [cat, {}]}}, env: RAN, hosts: [api.example.com]}}
    limits: {{concurrent: 4}}
    egress: {{allow: [api.example.com]}}
agents: {{dev: {{bottle: dev, template: probe}}}}
",
        World::bounds(),
        keyfile.display()
    );
    write("limited.yaml", &text);
    let manifest = folder.join("limited.yaml").display().to_string();
    let idle = recipe("idle.lua");
    let dry = world.run(&["run", "dev", "--manifest", &manifest, "--dry-run"]);
    let shown = format!("{}{}", dry.stdout, dry.stderr);
    assert!(
        shown.contains("  requests: 5 in all, 2 in 1h")
            && shown.contains("limits      requests with credentials, together: 4 at a time"),
        "{shown}"
    );
    let run = ["run", "dev", "--manifest", &manifest, "--recipe", &idle, "--name", "limited", "--yes", "--detach"];
    let launched = world.run(&run);
    assert_eq!(launched.code(), 0, "{}", launched.stderr);

    let policy = || world.run(&["policy", "show", "limited"]).json();
    let limits = policy()["limits"].clone();
    assert_eq!(limits["all"], serde_json::json!({"concurrent": 4}));
    assert_eq!(limits["credentials"], serde_json::json!({"my-key": {"total": 5, "requests": 2, "per": "1h"}}));
    for (arguments, words) in [
        (&["limited", "my-key", "--total", "9"][..], "requests of limited with my-key: 9 in all, 2 in 1h (policy 2)"),
        (&["limited", "ran", "--requests", "7", "--per", "90s"], "with ran: 7 in 1m30s (policy 3)"),
        (&["limited", "--none"], "with all credentials together: any number (policy 4)"),
    ] {
        let done = world.run(&[&["policy", "limit"], arguments].concat());
        assert_eq!(done.code(), 0, "{arguments:?}: {}", done.stderr);
        assert!(done.stderr.contains(words), "{arguments:?}: {}", done.stderr);
    }
    assert_eq!(policy()["limits"]["credentials"]["ran"], serde_json::json!({"requests": 7, "per": "1m30s"}));
    // What has no effect is an error, and changes nothing.
    for (arguments, words) in [
        (&["limited", "other", "--total", "9"][..], "it has no credential \"other\""),
        (&["limited", "--total", "0"], "total: 0 is not from 1"),
        (&["limited", "--requests", "7"], "--per"),
        (&["limited"], "--total"),
    ] {
        let done = world.run(&[&["policy", "limit"], arguments].concat());
        assert!(done.code() != 0 && done.stderr.contains(words), "{arguments:?}: {}", done.stderr);
    }
    assert_eq!(policy()["generation"], 4);
    let stats = world.run(&["stats", "limited"]).json();
    assert_eq!(stats["credentials"][0]["name"], "my-key");
    assert_eq!(stats["credentials"][0]["limit"]["limits"]["total"], 9, "{stats}");

    // Values: what is new is used, and said; a value is shown nowhere.
    write("keyfile", "another-value-2\n");
    let renewed = world.run(&["credentials", "renew", "limited"]);
    assert_eq!(renewed.code(), 0, "{}", renewed.stderr);
    assert!(renewed.stderr.contains("my-key has the value that it had"), "{}", renewed.stderr);
    assert!(renewed.stderr.contains("ran has a new value"), "{}", renewed.stderr);
    write("key", "bad\nvalue\n");
    for (arguments, words) in
        [(&["my-key"][..], "credential my-key from file:"), (&["other"], "has no credential \"other\"")]
    {
        let done = world.run(&[&["credentials", "renew", "limited"], arguments].concat());
        assert!(done.code() != 0 && done.stderr.contains(words), "{arguments:?}: {}", done.stderr);
    }
    let audited = || world.run(&["audit", "show", "limited", "--format", "json"]).stdout;
    wait_for("the event", || audited().contains("credential_renewed").then_some(()));
    let told = audited();
    assert!(told.contains("limit my-key to 9 in all") && told.contains("limit all credentials no more"), "{told}");
    assert!(!told.contains("another-value"), "{told}");
    assert_eq!(world.run(&["stop", "limited"]).code(), 0);
    world.assert_clean();
    let ended = world.run(&["credentials", "renew", "limited"]);
    assert_ne!(ended.code(), 0, "{}", ended.stderr);
}
