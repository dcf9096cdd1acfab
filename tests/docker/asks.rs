//! An agent asks for a host with real clients, and reaches it once its operator has granted it, without a dropped connection.

use std::io::Read;
use std::path::Path;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::git_gate::call;
use crate::support::images::{DEBIAN, Debian};
use crate::support::origin::{Origin, certificates};
use crate::support::process::{World, wait_for};
use crate::support::tmux::Tmux;

const ALLOWED: &str = "api.example.com";
const NEW: &str = "new.example.com";

/// `/slow` answers in two parts, the second one when somebody asks for `/go`.
const SERVER: &str = r#"
import ssl, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
go = threading.Event()
class Server(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *a): pass
    def do_GET(self):
        print(self.headers["host"], self.path, flush=True)
        if self.path == "/go": go.set()
        self.send_response(200); self.send_header("content-length", "9"); self.end_headers()
        self.wfile.write(b"begin "); self.wfile.flush()
        if self.path == "/slow": go.wait()
        self.wfile.write(b"end")
server = ThreadingHTTPServer(("0.0.0.0", 443), Server)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); context.load_cert_chain("/origin/leaf.pem", "/origin/leaf.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"#;

const ASK: &str = r#"curl -sSN http://supervise:9098/mcp -H 'Content-Type: application/json' \
  -H 'Accept: application/json, text/event-stream' -H 'MCP-Protocol-Version: 2025-11-25' -d '{"jsonrpc": "2.0", "id": 1,
  "method": "tools/call", "params": {"name": "egress_request",
  "arguments": {"host": "new.example.com", "methods": ["GET"], "paths": ["/x"], "reason": "to build"}}}'"#;

fn prepare(folder: &Path) {
    let origin = folder.join("origin");
    std::fs::create_dir(&origin).unwrap();
    certificates(&origin, &[ALLOWED, NEW]);
    std::fs::write(origin.join("server.py"), SERVER).unwrap();
    let manifest = format!(
        "bottles:
  dev:
    image: {DEBIAN}
    supervise: true
    bridge: {{set_rp_filter: true}}
    workspace: {{mode: none}}
    egress: {{allow: [{ALLOWED}], roots: [origin/root.pem], ip_allow: [10.213.0.0/16, 172.29.0.0/16]}}
agents:
  dev: {{bottle: dev, command: [sleep, '1000']}}
"
    );
    std::fs::write(folder.join("bottler.yaml"), manifest).unwrap();
}

/// Calls the server from inside, and returns what it answers.
fn ask(world: &World, id: &str, host: &str) -> std::process::Child {
    let script = ASK.replace(NEW, host);
    world.command(&["exec", id, "--", "sh", "-c", &script]).stdout(Stdio::piped()).spawn().unwrap()
}

fn text_of(mut child: std::process::Child) -> String {
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    child.wait().unwrap();
    text
}

#[test]
fn a_screen_shows_requests_as_they_come_and_keys_decide() {
    let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
    Debian::import();
    prepare(folder.path());
    let manifest = folder.path().join("bottler.yaml");
    let launched =
        world.run(&["run", "dev", "--manifest", manifest.to_str().unwrap(), "--name", "screen", "--yes", "-d"]);
    assert_eq!(launched.code(), 0, "{}", launched.stderr);
    let state = world.state.path().display().to_string();
    let tmux = Tmux::of_size(world.state.path(), 80, 24);
    tmux.line(&format!("export XDG_STATE_HOME={state} XDG_CONFIG_HOME={state}"));
    tmux.clear();
    tmux.line(&format!("{} requests watch; echo left-$((6 * 7))", world.bottler().display()));
    tmux.wait("0 wait");
    let first = ask(&world, "screen", "one.example.com");
    tmux.wait("one.example.com");
    tmux.keys(&["1"]);
    let screen = tmux.wait("Enter: REJECT it");
    assert!(screen.contains("says, and it may be wrong or misled: \"to build\""), "{screen}");
    // A key counts once the request can have been read.
    wait_for("the choice", || {
        tmux.keys(&["t"]);
        tmux.screen().contains("Enter: grant it for 10 minutes").then_some(())
    });
    tmux.keys(&["Enter"]);
    tmux.wait("r1 of screen is granted for 10m");
    assert!(text_of(first).contains("approved"));
    let second = ask(&world, "screen", "two.example.com");
    tmux.wait("two.example.com");
    tmux.keys(&["1"]);
    tmux.wait("Enter: REJECT it");
    wait_for("the choice", || {
        tmux.keys(&["t"]);
        tmux.screen().contains("Enter: grant it for 10 minutes").then_some(())
    });
    tmux.keys(&["r"]);
    tmux.wait("Enter: REJECT it");
    tmux.keys(&["Enter"]);
    tmux.wait("r2 of screen is rejected");
    assert!(text_of(second).contains("rejected"));
    tmux.keys(&["q"]);
    tmux.wait("left-42");
    assert_eq!(world.run(&["stop", "screen"]).code(), 0);
    world.assert_clean();
}

#[test]
fn curl_is_refused_asks_and_passes_and_what_runs_goes_on() {
    for isolation in ["sealed", "bridge"] {
        let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
        Debian::import();
        prepare(folder.path());
        let (id, manifest) = (format!("asks-{isolation}"), folder.path().join("bottler.yaml"));
        let launched = world.run(&[
            "run",
            "dev",
            "--manifest",
            manifest.to_str().unwrap(),
            "--name",
            &id,
            "--yes",
            "-d",
            "--isolation",
            isolation,
        ]);
        assert_eq!(launched.code(), 0, "{}", launched.stderr);
        let command = ["python3", "/origin/server.py"];
        let origin = Origin::start(&id, &[ALLOWED, NEW], DEBIAN, &folder.path().join("origin"), &command);
        let inside = |script: &str| world.inside(&id, script);
        let start = |script: &str| {
            world.command(&["exec", &id, "--", "sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap()
        };
        wait_for("the origin", || {
            inside("curl -sS -m 20 https://api.example.com/x").contains("begin end").then_some(())
        });
        let refused = inside("curl -sS -m 20 https://new.example.com/x");
        for words in ["host_not_allowed", "not an outage", "egress_request", "\\\"paths\\\":[\\\"/x\\\"]"] {
            assert!(refused.contains(words), "{words}: {refused}");
        }
        // git shows plain text.
        let git = inside("git ls-remote https://new.example.com/r.git 2>&1");
        assert!(git.contains("egress_request") && git.contains("host_not_allowed"), "{git}");
        let slow = start("curl -sSN https://api.example.com/slow");
        wait_for("the slow request", || origin.log().contains("/slow").then_some(()));
        let asks = ask(&world, &id, NEW);
        let one: Value = wait_for("the request", || {
            world.run(&["requests", "list", &id, "--format", "json"]).json().as_array().unwrap().first().cloned()
        });
        let hash = one["hash"].as_str().unwrap();
        let granted = world.run(&["requests", "approve", &id, "r1", "--hash", hash]);
        assert_eq!(granted.code(), 0, "{}", granted.stderr);
        let answer = text_of(asks);
        assert!(answer.contains("approved") && answer.contains("Make the request now"), "{answer}");
        assert_eq!(inside("curl -sS -m 20 https://new.example.com/x"), "begin end");
        assert!(inside("curl -sS -m 20 https://new.example.com/y").contains("path_not_allowed"));
        inside("curl -sS -m 20 https://api.example.com/go");
        assert_eq!(text_of(slow), "begin end", "the connection was not dropped");
        assert!(inside("cat /run/bottler-policy/policy.json").contains(NEW));
        assert!(inside("touch /run/bottler-policy/x 2>&1").contains("Read-only file system"));
        drop(origin);
        assert_eq!(world.run(&["stop", &id]).code(), 0);
        world.assert_clean();
    }
}

#[test]
fn the_queue_outlives_its_holder_and_the_next_life_of_the_bottle_tells_the_truth() {
    let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
    Debian::import();
    prepare(folder.path());
    let manifest = folder.path().join("bottler.yaml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(
        &manifest,
        text.replace("    workspace: {mode: none}\n", "    workspace: {mode: copy}\n    keep: always\n"),
    )
    .unwrap();
    std::fs::create_dir(folder.path().join("project")).unwrap();
    std::fs::write(folder.path().join("project/README"), "hello\n").unwrap();
    let id = "lives";
    let launched = world.launching(folder.path(), id, &[]).output().unwrap();
    assert!(launched.status.success(), "{}", String::from_utf8_lossy(&launched.stderr));
    let operator = |words: &[&str]| world.run(&[&["requests", words[0], id], &words[1..]].concat());
    let all = || operator(&["list", "--all", "--format", "json"]).json().as_array().unwrap().clone();
    let status = |request: &str| call(&world, id, "request_status", &json!({ "id": request }))["status"].clone();
    let asks = |host: &str, request: &str| {
        let child = ask(&world, id, host);
        wait_for("the request", || all().iter().any(|one| one["request"]["id"] == request).then_some(()));
        child
    };
    let hash =
        |request: &str| operator(&["show", request, "--format", "json"]).json()["hash"].as_str().unwrap().to_owned();
    let granted = asks("granted.example.com", "r1");
    assert_eq!(operator(&["approve", "r1", "--hash", &hash("r1"), "--bottle"]).code(), 0);
    assert!(text_of(granted).contains("approved"));
    let refused = asks("refused.example.com", "r2");
    assert_eq!(operator(&["reject", "r2", "--reason", "use the mirror"]).code(), 0);
    assert!(text_of(refused).contains("use the mirror"));
    let mut waits = asks("waits.example.com", "r3");
    for pid in world.processes("holder") {
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    }
    wait_for("the reaper", || world.processes("reaper").is_empty().then_some(()));
    let _ = waits.wait();
    // Nothing waits in a bottle that has ended; what was decided is known.
    let kept: Vec<Value> = all().iter().map(|one| one["request"]["state"].clone()).collect();
    assert_eq!(kept.len(), 3, "{kept:?}");
    assert!(kept[0]["approved"].is_object() && kept[1]["rejected"]["by"] == "operator", "{kept:?}");
    assert!(kept[2]["rejected"]["reason"].as_str().unwrap().contains("ended before anybody decided"), "{kept:?}");
    assert!(operator(&["list"]).stdout.is_empty());
    assert_ne!(operator(&["approve", "r3", "--hash", "0000000000000000"]).code(), 0);

    let resumed = world.run(&["resume", id, "-d"]);
    assert_eq!(resumed.code(), 0, "{}", resumed.stderr);
    // A grant of the bottle ended with it, and is not said to be in effect.
    assert_eq!(status("r1"), "expired");
    assert_eq!((status("r2"), status("r3")), (json!("rejected"), json!("rejected")));
    let egress = world.run(&["exec", id, "--", "curl", "-sS", "-m", "20", "https://granted.example.com/x"]);
    assert!(egress.stdout.contains("host_not_allowed"), "{}{}", egress.stdout, egress.stderr);
    // What was rejected is answered from memory; the others are new requests.
    assert!(text_of(ask(&world, id, "refused.example.com")).contains("use the mirror"));
    let again = asks("waits.example.com", "r4");
    assert_eq!(operator(&["approve", "r4", "--hash", &hash("r4")]).code(), 0);
    assert!(text_of(again).contains("approved"));
    assert_eq!(world.run(&["stop", id]).code(), 0);
    assert_eq!(world.run(&["rm", "--discard", id]).code(), 0);
    world.assert_clean();
}
