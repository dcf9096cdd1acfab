//! The real gVisor: Debian's `runsc`, on this test's own engine.

use crate::support::engine::PrivateEngine;
use crate::support::process::{Done, World};
use serde_json::json;

/// Only the ptrace platform runs inside a virtual machine without nesting, and gVisor's own network stack cannot
/// enter a namespace with only loopback.
const ARGUMENTS: [&str; 2] = ["--platform=ptrace", "--network=host"];

/// An engine with gVisor registered as in its documentation, and under a second name with host sockets enabled.
fn engine() -> PrivateEngine {
    let open = [&ARGUMENTS[..], &["--host-uds=open"]].concat();
    PrivateEngine::start(&json!({ "runtimes": {
            "runsc": { "path": "/usr/bin/runsc", "runtimeArgs": ARGUMENTS },
            "runsc-open": { "path": "/usr/bin/runsc", "runtimeArgs": open },
        } }))
}

fn probe(world: &World, arguments: &[&str]) -> Done {
    world.run(&[&["run", "probe", "--format", "json"], arguments].concat())
}

fn happened<'a>(lines: &'a [serde_json::Value], attempt: &str) -> &'a str {
    let line = lines.iter().find(|line| line["attempt"].as_str().unwrap().starts_with(attempt));
    line.unwrap_or_else(|| panic!("{attempt}: {lines:?}"))["happened"].as_str().unwrap()
}

#[test]
fn gvisor_is_sealed_where_its_sockets_are_open_and_else_on_a_network() {
    let engine = engine();
    let world = World::on(&engine.endpoint());

    // Options for isolation: none. Options for the runtime: none, or a name.
    for (arguments, isolation, interfaces) in [
        (
            &["--runtime", "runsc-open"][..],
            "sealed: no network of its own; runsc-open, with a kernel of its own",
            "only loopback",
        ),
        (&["--set-rp-filter"], "bridge: a network with only its sidecars", "eth0"),
    ] {
        let done = probe(&world, arguments);
        assert_eq!(done.code(), 0, "{arguments:?}: {}{}", done.stdout, done.stderr);
        assert!(done.stderr.contains(isolation), "{}", done.stderr);
        let data = done.json();
        let lines = data["lines"].as_array().unwrap();
        assert!(lines.len() > 80 && lines.iter().all(|line| line["ok"] == true), "{lines:?}");
        assert_eq!(happened(lines, "network interfaces"), interfaces);
        assert_eq!(happened(lines, "the kernel"), "gVisor's");
        assert_eq!(happened(lines, "bound: memory, bytes, by the engine"), (4_u64 << 30).to_string());
        assert_eq!(happened(lines, "bound: processes, by the engine"), "512");
        if interfaces == "eth0" {
            assert_eq!(happened(lines, "received on the host"), "nothing");
            assert!(happened(lines, "turned away by the host").contains(" came, "));
        }
        world.assert_clean();
    }

    let done = probe(&world, &["--isolation", "sealed"]);
    assert_eq!(done.code(), 120, "{}", done.stderr);
    assert!(done.stderr.contains("--host-uds=open"), "{}", done.stderr);

    let done = probe(&world, &["--runtime", "kata"]);
    assert_eq!(done.code(), 120, "{}", done.stderr);
    assert!(done.stderr.contains("the engine lists no runtime \"kata\""), "{}", done.stderr);
    assert!(done.stderr.contains("runc, runsc, runsc-open"), "{}", done.stderr);

    let done = probe(&world, &["--runtime", "runc"]);
    assert_eq!(done.code(), 0, "{}", done.stderr);
    assert_eq!(happened(done.json()["lines"].as_array().unwrap(), "seccomp filter"), "2");
}
