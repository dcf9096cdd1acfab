//! The git gate on every engine: it is up before the agent, runs this machine's git and ssh, and is gone with the bottle.
//! What it does with pushes is tested with real upstreams elsewhere.

use std::process::Command;

use crate::support::process::{World, finish, recipe, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[test]
fn promise_10_the_gate_is_up_before_the_agent_and_fails_closed() {
    let world = World::new();
    let key = world.state.path().join("key");
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key);
    assert!(keygen.status().unwrap().success());
    let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
    let manifest = world.state.path().join("gate.yaml");
    let text = format!(
        "bottles:\n  b:\n    bounds: {}\n    git: [{{url: 'git@nowhere.invalid:acme/app.git', identity_file: {}, known_host_key: '{}'}}]\nagents: {{a: {{bottle: b, template: probe}}}}\n",
        World::bounds(),
        key.display(),
        public.trim()
    );
    std::fs::write(&manifest, text).unwrap();
    let child = world.start(&["run", "a", "--manifest", manifest.to_str().unwrap(), "--recipe", &recipe("idle.lua")]);
    let agent = wait_for("the idle agent", || world.agent_running("bottler idle"));
    let names = world.run(&["inspect", &agent]).stdout;
    assert!(names.contains("git-gate"), "{names}");
    // Real git, in the agent's network, which has nothing but what init leads elsewhere.
    let pid = world.pid(&agent).to_string();
    let list = |target: &str| {
        let mut command = Command::new("nsenter");
        command.args(["--target", &pid, "--net", "git", "ls-remote", target]).env("GIT_TERMINAL_PROMPT", "0");
        let done = command.output().unwrap();
        assert!(!done.status.success());
        String::from_utf8_lossy(&done.stderr).into_owned()
    };
    let gate = (1..10).map(|number| format!("127.0.3.{number}")).find(|address| {
        list(&format!("git://{address}:9418/none.git")).contains("the git gate serves no such repository")
    });
    let gate = gate.expect("the gate's door");
    // ssh runs, and egress says why there is no way to the upstream.
    for target in [format!("git://{gate}:9418/app.git"), format!("http://{gate}:9418/app.git")] {
        let told = list(&target);
        assert!(told.contains("bottler: ") && told.contains("nowhere.invalid"), "{target}: {told}");
    }
    let events = world.run(&["audit", "show", &agent, "--format", "json"]).stdout;
    assert!(events.contains("git_upstream_failed"), "{events}");
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    assert_eq!(finish(child).code(), 126);
    world.assert_clean();
}
