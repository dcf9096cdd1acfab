//! Ordinary images beside the agent, on the real engine: a real `PostgreSQL` and a real Redis, and no way out through
//! them.

use std::process::Command;

use crate::support::images::{DEBIAN, Debian};
use crate::support::process::{World, finish, recipe, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// One test, because the image is large: the library's recipe, handles, and what the service must not be able to do.
#[test]
fn databases_serve_the_agent_and_nobody_else() {
    let world = World::new();
    Debian::import();
    the_recipe_with_postgres(&world);
    two_services_and_their_handles(&world);
    a_service_is_as_sealed_as_the_agent(&world);
    a_service_that_fails_says_what_it_wrote(&world);
}

fn the_recipe_with_postgres(world: &World) {
    let set = format!("postgres_image={DEBIAN}");
    let query = "psql \"$DATABASE_URL\" -At -c 'select 40 + 2'";
    let path = world.state.path().join("in-debian.lua");
    let text = format!(
        "local with_postgres = require 'std.with-postgres'\nreturn recipe(function(plan)\n  plan.image.source = '{DEBIAN}'\n  local agent = with_postgres(plan)\n  return agent\nend)\n"
    );
    std::fs::write(&path, text).unwrap();
    let path = path.to_string_lossy();
    // Served through a socket, and through an internal address.
    for isolation in [&[][..], &["--isolation", "bridge", "--set-rp-filter"]] {
        let run = ["run", "shell", "--recipe", &path, "--set", &set];
        let done = world.run(&[&run, isolation, &["--", "/bin/sh", "-c", query]].concat());
        assert_eq!((done.code(), done.stdout.as_str()), (0, "42\n"), "{isolation:?}: {}", done.stderr);
        world.assert_clean();
    }
}

fn two_services_and_their_handles(world: &World) {
    let done = world.run(&["run", "shell", "--recipe", &recipe("services.lua")]);
    assert_eq!(done.code(), 0, "{}", done.stderr);
    assert_eq!(done.stdout, "7\nfrom redis\n", "{}", done.stderr);
    for words in [
        "ready: 0 127.0.0.1:5432 - accepting connections",
        "log has: true",
        "state running nil",
        "copied: any\\0bytes 9",
        "paused, then running",
        "stopped with 0",
        "closed twice",
    ] {
        assert!(done.stderr.contains(words), "{words}: {}", done.stderr);
    }
    world.assert_clean();
}

/// What an agent would try that has taken over its database, whose container is as closed as the agent's.
fn a_service_is_as_sealed_as_the_agent(world: &World) {
    let child = world.start(&["run", "shell", "--recipe", &recipe("service_idle.lua")]);
    let agent = wait_for("the agent's command", || world.agent_running("sleep 1000"));
    let service = format!("{agent}-db");
    let inspect: serde_json::Value = serde_json::from_str(&docker(&["inspect", &service])).unwrap();
    let host = &inspect[0]["HostConfig"];
    assert_eq!(host["NetworkMode"], "none");
    assert_eq!(host["CapDrop"], serde_json::json!(["ALL"]));
    assert_eq!(host["Privileged"], false);
    assert!(host["SecurityOpt"].to_string().contains("no-new-privileges"));
    assert!(host["PortBindings"].as_object().is_none_or(serde_json::Map::is_empty), "{host}");
    assert!(!inspect.to_string().contains("s3cr3t"), "a secret reaches the command only");
    let inside = |command: &[&str]| docker(&[&["exec", &service], command].concat());
    assert_eq!(inside(&["cat", "/proc/net/route"]).lines().count(), 1, "there is no route");
    assert!(inside(&["sh", "-c", "cat /proc/net/dev | tail -n +3"]).trim().starts_with("lo:"));
    let command = inside(&["sh", "-c", "cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | grep -c s3cr3t"]);
    assert_ne!(command.trim(), "0", "its command has the secret: this test can fail");
    // The agent can connect to the sockets, but not replace them.
    let touched =
        Command::new("docker").args(["exec", &agent, "touch", "/run/bottler-services/db/x"]).output().unwrap();
    assert!(!touched.status.success());
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    finish(child);
    world.assert_clean();
}

fn a_service_that_fails_says_what_it_wrote(world: &World) {
    let path = world.state.path().join("broken.lua");
    let text = format!(
        "return recipe(function(plan)\n  local db = sidecar_start {{ name = 'db', image = '{DEBIAN}', command = {{ 'sh', '-c', 'echo no such disk >&2; exit 3' }}, ready = {{ tcp = 1 }} }}\n  db:ready()\nend)\n"
    );
    std::fs::write(&path, text).unwrap();
    // Its last output and its end are a race between two processes and the engine.
    for _ in 0..5 {
        let done = world.run(&["run", "shell", "--recipe", &path.to_string_lossy()]);
        assert_eq!(done.code(), 122, "{}", done.stderr);
        for words in ["start sidecar db: it ended before it was ready", "broken.lua:2", "it wrote: no such disk"] {
            assert!(done.stderr.contains(words), "{words}: {}", done.stderr);
        }
    }
    world.assert_clean();
}
