//! Sidecars that use egress as their way out, on the real engine: how the agent reaches them, what they reach, and
//! the order of the teardown.

use std::process::Command;

use crate::support::process::{World, recipe, wait_for};
use crate::support::sleeper::Sleeper;

const HOST: &str = "api.example.com";
/// Logs requests and their headers.
const ORIGIN: &str = r#"exec python3 -u - <<'PYTHON'
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        print(self.command, self.path, body.decode(), flush=True)
        self.send_response(200)
        self.send_header("content-length", "6")
        self.end_headers()
        self.wfile.write(b"there\n")
    do_POST = do_GET
HTTPServer(("", 80), Handler).serve_forever()
PYTHON
"#;

/// The same with TLS.
const SECURE_ORIGIN: &str = r#"exec python3 -u - <<'PYTHON'
import ssl, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "6")
        self.end_headers()
        self.wfile.write(b"there\n")
plain, secure = ThreadingHTTPServer(("", 80), Handler), ThreadingHTTPServer(("", 443), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/origin/leaf.pem", "/origin/leaf.key")
secure.socket = context.wrap_socket(secure.socket, server_side=True)
threading.Thread(target=plain.serve_forever).start()
secure.serve_forever()
PYTHON
"#;

fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim().to_owned()
}

#[test]
fn a_sidecar_is_reached_and_goes_out_by_what_it_shares_with_egress_alone() {
    for isolation in [&[][..], &["--isolation", "bridge", "--set-rp-filter"]] {
        let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
        let stubs = recipe("stubs.lua");
        let more = [&["--recipe", &stubs][..], isolation].concat();
        let bottle = Sleeper::launch(&world, folder.path(), &[HOST], &more, ORIGIN);
        let agent = bottle.agent.as_str();
        let token = ["ghp_", "wWPw5k4aXcaT4fNP0UcnZwJUVFk6LO0pINUx"].concat();
        let exec = |command: &str| bottle.exec(50, &[("TOKEN", &token)], command);
        wait_for("the origin", || exec(&format!("curl -sS http://{HOST}/first")).contains("there").then_some(()));
        let curl = "curl -sS --max-time 20";
        // Through egress, with a client that ignores NO_PROXY.
        let proxied = format!("{curl} --noproxy '' ");
        for (command, expected) in [
            (format!("{curl} http://one:9000/"), "one by agent: \n"),
            (format!("{proxied} http://one:9000/"), "one by egress: \n"),
            (format!("{proxied} http://three:9000/"), "three by egress: \n"),
            // Scanned like any other request.
            (format!("{proxied} -d \"$TOKEN\" http://one:9000/"), "\"code\":\"secret_found\""),
            // This opens nothing else that is private: no other port, no address, no engine name.
            (format!("{proxied} http://one:9001/"), "\"code\":\"port_not_allowed\""),
            (format!("{proxied} http://four:9000/"), "\"code\":\"host_not_allowed\""),
            (format!("{proxied} http://127.0.3.1:9000/"), "\"code\":\"address_not_public\""),
            (format!("{proxied} http://{agent}-one:9000/"), "\"code\":\"host_not_allowed\""),
            // The bottle's policy applies to its own requests.
            (format!("{curl} http://one:9000/out/{HOST}/by-one"), "there\n"),
            (format!("{proxied} http://two:9000/out/{HOST}/by-two"), "there\n"),
            (format!("{curl} http://one:9000/out/evil.example/"), "\"code\":\"host_not_allowed\""),
            (format!("{curl} http://one:9000/out/{HOST}/{token}"), "\"code\":\"secret_found\""),
            // No sidecar reaches another one.
            (format!("{curl} http://one:9000/out/two:9000/"), "\"code\":\"host_not_allowed\""),
            (format!("{curl} http://one:9000/out/one:9000/"), "\"code\":\"host_not_allowed\""),
        ] {
            let said = exec(&command);
            assert!(said.contains(expected), "{isolation:?}: {command}: {said}");
        }
        // The audit log names the requester.
        let audited = wait_for("the audit", || {
            let shown = world.run(&["audit", "show", agent, "--format", "json"]).json();
            let of = |client: &str, host: &str| {
                let mut events = shown.as_array().unwrap().iter();
                let is = |event: &&serde_json::Value| {
                    event["client"].as_str().unwrap_or_default() == client
                        && event["destination"].as_str().unwrap().starts_with(host)
                };
                events.any(|event| is(&event))
            };
            let all = of("one", HOST) && of("two", HOST) && of("one", "evil.example") && of("", "one:9000");
            all.then(|| of("", "evil.example"))
        });
        assert!(!audited, "the agent has not asked for that");
        // A volume for each pair, mounted by these two containers only.
        for name in ["one", "two", "three"] {
            let volume = format!("volume={agent}-egress-{name}-pair");
            let mut users: Vec<String> =
                docker(&["ps", "--filter", &volume, "--format", "{{.Names}}"]).lines().map(str::to_owned).collect();
            users.sort();
            assert_eq!(users, [format!("{agent}-egress"), format!("{agent}-{name}")]);
        }
        // A dead sidecar is reported, and its service is gone; the other services continue.
        docker(&["kill", &format!("{agent}-three")]);
        wait_for("the news", || world.run(&["ps"]).stdout.contains("three died").then_some(()));
        assert!(exec(&format!("{proxied} http://three:9000/")).contains("\"code\":\"unreachable\""));
        assert!(exec(&format!("{proxied} http://one:9000/")).contains("one by egress"));
        bottle.end();
        world.assert_clean();
    }
}

#[test]
fn promise_20_a_dead_egress_is_started_again_and_a_green_proof_lets_the_agent_go_on() {
    let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
    let bottle = Sleeper::launch(&world, folder.path(), &[HOST], &["--recipe", &recipe("stubs.lua")], SECURE_ORIGIN);
    let agent = bottle.agent.as_str();
    let exec = |command: &str| bottle.exec(50, &[], command);
    let status = |name: &str| docker(&["inspect", "--format", "{{.State.Status}}", name]);
    let fetch = format!("curl -sS --max-time 20 https://{HOST}/secure");
    wait_for("the origin", || exec(&fetch).contains("there").then_some(()));
    let ca = exec("cat /run/bottler/ca.pem");
    assert!(ca.starts_with("-----BEGIN CERTIFICATE"), "{ca}");
    // A grant survives egress' restart.
    assert_eq!(world.run(&["policy", "allow", agent, "granted.example.com"]).code(), 0);
    let restart = |name: &str| world.run(&["sidecar", "restart", agent, name]);
    for (name, why) in [("egress", "it has not died"), ("four", "there is no sidecar of this name")] {
        let done = restart(name);
        assert_eq!(done.code(), 120, "{}", done.stderr);
        assert!(done.stderr.contains(why), "{}", done.stderr);
    }
    for turn in 0..2 {
        docker(&["kill", &format!("{agent}-egress")]);
        wait_for("the pause", || (status(agent) == "paused").then_some(()));
        let shown = world.run(&["ps"]).stdout;
        assert!(shown.contains("egress died"), "{shown}");
        let done = restart("egress");
        assert_eq!(done.code(), 0, "{}", done.stderr);
        wait_for("the agent to go on", || (status(agent) == "running").then_some(()));
        wait_for("no more news", || (!world.run(&["ps"]).stdout.contains("died")).then_some(()));
        // With the CA that the agent already trusts; the other sidecars work as before.
        assert_eq!(exec("cat /run/bottler/ca.pem"), ca);
        assert_eq!(exec(&fetch), "there\n", "{turn}");
        assert_eq!(exec("curl -sS --noproxy '' http://two:9000/"), "two by egress: \n");
        assert!(exec(&format!("curl -sS http://one:9000/out/{HOST}/again")).ends_with("there\n"));
        let policy = world.run(&["policy", "show", agent]).json();
        assert_eq!(policy["generation"], 2, "{policy}");
        assert!(policy["grants"].to_string().contains("granted.example.com"), "{policy}");
        let counted = world.run(&["stats", agent]).json();
        assert_eq!(counted["generation"], 2, "{counted}");
    }
    // The CA's key is nowhere on the engine, on the disk or in the agent's container.
    let state = world.state.path().display().to_string();
    let on_disk = Command::new("grep").args(["-rl", "PRIVATE KEY", &state]).output().unwrap().stdout;
    let egress = format!("{agent}-egress");
    for seen in [
        String::from_utf8(on_disk).unwrap(),
        docker(&["logs", &egress]),
        docker(&["inspect", &egress, agent]),
        exec("grep -rl 'PRIVATE KEY' /run /tmp /home 2>/dev/null; cat /proc/*/environ | grep -a 'PRIVATE KEY'"),
    ] {
        assert!(!seen.contains("PRIVATE KEY") && !seen.contains(&state), "{seen}");
    }
    // Another sidecar's service is back after its restart.
    docker(&["kill", &format!("{agent}-three")]);
    wait_for("the news", || world.run(&["ps"]).stdout.contains("three died").then_some(()));
    assert_eq!(restart("three").code(), 0);
    assert_eq!(exec("curl -sS --noproxy '' http://three:9000/"), "three by egress: \n");
    let audited = world.run(&["audit", "show", agent, "--format", "json"]).json();
    let told = |code: &str| audited.as_array().unwrap().iter().filter(|event| event["code"] == code).count();
    assert_eq!((told("sidecar_restarted"), told("agent_resumed"), told("lines_lost")), (3, 2, 0), "{audited}");
    bottle.end();
    world.assert_clean();
}

#[test]
fn promise_11_egress_ends_after_those_that_go_out_through_it() {
    let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
    let bottle = Sleeper::launch(&world, folder.path(), &[HOST], &["--recipe", &recipe("stubs.lua")], ORIGIN);
    let agent = bottle.agent.clone();
    wait_for("the origin", || {
        bottle.exec(50, &[], &format!("curl -sS http://{HOST}/first")).contains("there").then_some(())
    });
    let held = bottle.exec(50, &[], &format!("curl -sS -d x http://two:9000/hold/{HOST}/held"));
    assert_eq!(held, "held\n");
    let since = docker(&["info", "--format", "{{.SystemTime}}"]);
    let origin = bottle.end_before_origin();
    let until = docker(&["info", "--format", "{{.SystemTime}}"]);
    let format = "{{.Actor.Attributes.name}}";
    let filters = ["--filter", "type=container", "--filter", "event=die", "--format", format];
    let ended = docker(&[&["events", "--since", &since, "--until", &until][..], &filters].concat());
    let ended: Vec<&str> = ended.lines().filter(|name| name.starts_with(&agent)).collect();
    let place = |name: &str| {
        let name = if name.is_empty() { agent.clone() } else { format!("{agent}-{name}") };
        ended.iter().position(|ended| *ended == name).unwrap_or_else(|| panic!("{name}: {ended:?}"))
    };
    for name in ["one", "two", "three"] {
        assert!(place("") < place(name) && place(name) < place("egress"), "{ended:?}");
    }
    assert!(origin.log().contains("POST /held begun, and ended\n"), "{}", origin.log());
    drop(origin);
    world.assert_clean();
}
