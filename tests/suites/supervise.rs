//! The agent asks, the operator answers, and the bottle changes while it runs.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::process::{PATIENCE, World, recipe, wait_for};

/// A bottle with an idle agent that may ask; `supervise` as in the manifest.
struct Asked<'a> {
    world: &'a World,
    id: &'static str,
}

impl<'a> Asked<'a> {
    fn launch(world: &'a World, id: &'static str, supervise: &str) -> Self {
        let manifest = world.state.path().join("asked.yaml");
        let text = format!(
            "bottles:\n  b: {{supervise: {supervise}, egress: {{allow: [allowed.example.com], deny: ['*.denied.example.com']}}}}\n\
             agents: {{a: {{bottle: b, template: probe}}}}\n"
        );
        std::fs::write(&manifest, text).unwrap();
        let manifest = manifest.to_string_lossy().into_owned();
        let idle = recipe("idle.lua");
        let done = world.run(&["run", "a", "--manifest", &manifest, "--recipe", &idle, "--name", id, "--yes", "-d"]);
        assert_eq!(done.code(), 0, "{}", done.stderr);
        Self { world, id }
    }

    /// A path that the agent sees.
    fn inside(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.world.pid(self.id)))
    }

    /// Sends bytes to a sidecar as the agent does, and returns the whole response.
    fn raw(&self, sidecar: &str, bytes: &str) -> String {
        let mut stream = UnixStream::connect(self.inside(&format!("/run/bottler-services/{sidecar}/socket"))).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(bytes.as_bytes()).unwrap();
        let mut response = Vec::new();
        stream.read_to_end(&mut response).unwrap();
        String::from_utf8_lossy(&response).into_owned()
    }

    /// Calls a tool.
    fn call(&self, tool: &str, arguments: &Value) -> Value {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": tool, "arguments": arguments } });
        let body = body.to_string();
        let head = format!(
            "POST /mcp HTTP/1.1\r\nHost: supervise:9098\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2025-11-25\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let response = self.raw("supervise", &(head + &body));
        let found = response
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line.trim_start_matches("data:").trim()).ok());
        let result =
            found.map(|message| message["result"]["structuredContent"].clone()).find(|result| !result.is_null());
        result.unwrap_or_else(|| panic!("{tool} {arguments}: {response}"))
    }

    fn ask(&self, host: &str) -> Value {
        self.call("egress_request", &json!({ "host": host, "methods": ["GET"], "paths": ["/x"], "reason": "to build" }))
    }

    /// What egress says to a request for a host.
    fn get(&self, host: &str) -> String {
        self.raw("egress", &format!("GET http://{host}/x HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"))
    }

    fn operator(&self, words: &[&str]) -> crate::support::process::Done {
        self.world.run(&[&["requests", words[0], self.id], &words[1..]].concat())
    }

    fn waiting(&self) -> Vec<Value> {
        self.operator(&["list", "--format", "json"]).json().as_array().unwrap().clone()
    }

    /// The hash of a request that waits.
    fn hash(&self, id: &str) -> String {
        self.operator(&["show", id, "--format", "json"]).json()["hash"].as_str().unwrap().to_owned()
    }

    fn codes(&self) -> Vec<String> {
        let events = self.world.run(&["audit", "show", self.id, "--format", "json"]).json();
        events.as_array().unwrap().iter().map(|event| event["code"].as_str().unwrap().to_owned()).collect()
    }

    fn stop(self) {
        assert_eq!(self.world.run(&["stop", self.id]).code(), 0);
        self.world.assert_clean();
    }
}

#[test]
fn promise_19_what_was_shown_is_granted_while_the_agent_waits_and_nothing_else() {
    let world = World::new();
    let asked = Asked::launch(&world, "asks", "true");
    // The refusal names the call, and the same id explains it.
    let refused = asked.get("new.example.com");
    for words in
        ["host_not_allowed", "egress_request", "\\\"host\\\":\\\"new.example.com\\\"", "\\\"paths\\\":[\\\"/x\\\"]"]
    {
        assert!(refused.contains(words), "{words}: {refused}");
    }
    let id = refused.rsplit_once("; refusal ").unwrap().1.split('"').next().unwrap().to_owned();
    let explained = wait_for("the refusal", || {
        let explained = asked.call("explain_denial", &json!({ "id": id }));
        (explained["status"] == "answer").then_some(explained)
    });
    assert_eq!(explained["denials"][0]["next_call"]["arguments"]["host"], "new.example.com");
    assert_eq!(asked.call("explain_denial", &json!({}))["denials"][0]["id"], json!(id));

    // What needs no operator is answered at once.
    assert_eq!(asked.ask("allowed.example.com")["status"], "already_allowed");
    assert_eq!(asked.ask("x.denied.example.com")["status"], "refused");
    assert_eq!(asked.ask("169.254.169.254")["status"], "refused");
    assert_eq!(asked.ask("*.com")["status"], "invalid");
    assert!(asked.waiting().is_empty());

    // It asks, and waits; the operator sees it, and grants what was seen.
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| asked.ask("new.example.com"));
        let one = wait_for("the request", || asked.waiting().pop());
        assert_eq!((&one["request"]["id"], &one["candidate"]["exact"]), (&json!("r1"), &json!(true)));
        assert_eq!(one["causes"][0]["id"], json!(id));
        let wrong = asked.operator(&["approve", "r1", "--hash", "0000000000000000"]);
        assert_eq!(wrong.code(), 122, "{}", wrong.stderr);
        assert!(wrong.stderr.contains("stale") && wrong.stderr.contains("nothing was granted"), "{}", wrong.stderr);
        // A change of the policy makes it stale; it is offered again.
        let hash = asked.hash("r1");
        assert_eq!(world.run(&["policy", "allow", "asks", "other.example.com"]).code(), 0);
        let stale = asked.operator(&["approve", "r1", "--hash", &hash]);
        assert!(stale.code() == 122 && stale.stderr.contains("stale"), "{}", stale.stderr);
        assert!(asked.get("new.example.com").contains("host_not_allowed"));
        // Two operators: one wins.
        let hash = asked.hash("r1");
        let both: Vec<_> =
            (0..2).map(|_| asked.operator(&["approve", "r1", "--hash", &hash, "--bottle"]).code()).collect();
        assert_eq!(both, [0, 122]);
        let answer = waits.join().unwrap();
        assert_eq!((&answer["status"], &answer["id"]), (&json!("approved"), &json!("r1")), "{answer}");
    });
    let reached = asked.get("new.example.com");
    assert!(!reached.contains("host_not_allowed"), "{reached}");
    // Only what was shown.
    let other = "POST http://new.example.com/x HTTP/1.1\r\nHost: new.example.com\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    assert!(asked.raw("egress", other).contains("method_not_allowed"));
    let codes = asked.codes();
    for code in ["request_asked", "request_approved", "request_refused", "policy_changed"] {
        assert!(codes.iter().any(|known| known == code), "{code}: {codes:?}");
    }
    asked.stop();
}

#[test]
fn a_rejection_is_remembered_and_a_grant_by_another_way_is_an_answer() {
    let world = World::new();
    let asked = Asked::launch(&world, "remembers", "true");
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| asked.ask("bad.example.com"));
        wait_for("the request", || asked.waiting().pop());
        assert_eq!(asked.operator(&["reject", "r1", "--reason", "use the mirror"]).code(), 0);
        let answer = waits.join().unwrap();
        assert_eq!(answer["status"], "rejected");
        assert!(answer["message"].as_str().unwrap().contains("use the mirror"), "{answer}");
        // The same, and what is in it, is answered from memory.
        let again = asked.ask("BAD.example.com.");
        assert_eq!((&again["status"], &again["id"]), (&json!("rejected"), &json!("r1")));
        let hash = "0000000000000000";
        assert_eq!(asked.operator(&["approve", "r1", "--hash", hash]).code(), 122);

        // `policy allow` answers a request, too.
        let waits = scope.spawn(|| asked.ask("good.example.com"));
        wait_for("the request", || asked.waiting().pop());
        assert_eq!(world.run(&["policy", "allow", "remembers", "good.example.com"]).code(), 0);
        assert_eq!(waits.join().unwrap()["status"], "approved");
    });
    assert_eq!(asked.call("request_status", &json!({ "id": "r1" }))["status"], "rejected");
    assert_eq!(asked.call("request_status", &json!({ "id": "r99" }))["status"], "unknown");
    for (tool, arguments) in [
        ("credential_request", json!({ "name": "token", "host": "x.com", "reason": "r" })),
        ("capability_request", json!({ "packages": ["jq"], "reason": "r" })),
        ("git_request", json!({ "repository": "x.com/y", "operation": "push", "reason": "r" })),
    ] {
        let answer = asked.call(tool, &arguments);
        assert_eq!(answer["status"], "rejected", "{tool}: {answer}");
    }
    assert_eq!(asked.operator(&["list", "--all", "--format", "json"]).json().as_array().unwrap().len(), 5);
    asked.stop();
}

#[test]
fn the_agent_reads_its_configuration_and_cannot_write_it() {
    let world = World::new();
    let asked = Asked::launch(&world, "reads", "true");
    let read = |name: &str| std::fs::read_to_string(asked.inside(&format!("/run/bottler-policy/{name}"))).unwrap();
    let policy: Value = serde_json::from_str(&read("policy.json")).unwrap();
    assert!(policy["allow"].to_string().contains("allowed.example.com"), "{policy}");
    assert_eq!(asked.call("list_policy", &json!({})), policy);
    let before = read("generation");
    assert_eq!(world.run(&["policy", "allow", "reads", "later.example.com", "--for", "10m"]).code(), 0);
    wait_for("the new generation", || (read("generation") != before).then_some(()));
    assert!(read("allowlist.json").contains("later.example.com"));
    let mounts = std::fs::read_to_string(format!("/proc/{}/mountinfo", world.pid("reads"))).unwrap();
    let line = mounts.lines().find(|line| line.contains(" /run/bottler-policy ")).expect("it is mounted");
    assert!(line.split(' ').nth(5).unwrap().split(',').any(|option| option == "ro"), "{line}");
    // The sidecar has no network but its loopback.
    let interfaces = std::fs::read_to_string(format!("/proc/{}/net/dev", world.pid("reads-supervise"))).unwrap();
    let others = interfaces.lines().skip(2).filter(|line| !line.trim_start().starts_with("lo:"));
    assert_eq!(others.count(), 0, "{interfaces}");
    asked.stop();
}

#[test]
fn a_sidecar_that_dies_loses_no_request_and_no_decision() {
    let world = World::new();
    let asked = Asked::launch(&world, "dies", "true");
    std::thread::scope(|scope| {
        let waits =
            scope.spawn(|| std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| asked.ask("new.example.com"))));
        wait_for("the request", || asked.waiting().pop());
        world.kill("dies-supervise");
        // The call breaks off; the request stays, and is decided while nobody listens.
        assert!(waits.join().unwrap().is_err());
        let hash = asked.hash("r1");
        assert_eq!(asked.operator(&["approve", "r1", "--hash", &hash]).code(), 0);
    });
    assert!(!asked.get("new.example.com").contains("host_not_allowed"));
    wait_for("the restart", || (world.run(&["sidecar", "restart", "dies", "supervise"]).code() == 0).then_some(()));
    assert_eq!(asked.call("request_status", &json!({ "id": "r1" }))["status"], "approved");
    let read = asked.inside("/run/bottler-policy/policy.json");
    assert!(std::fs::read_to_string(read).unwrap().contains("new.example.com"));
    asked.stop();
}

#[test]
fn a_flood_of_requests_is_bounded_and_the_operator_is_answered() {
    let world = World::new();
    let asked = Asked::launch(&world, "floods", "true");
    let statuses: Vec<String> = std::thread::scope(|scope| {
        let call = |n: usize| {
            let arguments = json!({ "host": format!("h{n}.flood{}.example", n % 6), "reason": "r" });
            let asked = &asked;
            move || asked.call("egress_request", &arguments)["status"].as_str().unwrap().to_owned()
        };
        let calls: Vec<_> = (0..120).map(|n| scope.spawn(call(n))).collect();
        wait_for("a full queue", || (asked.waiting().len() >= 8).then_some(()));
        let waiting = asked.waiting();
        assert!(waiting.len() <= 20, "{}", waiting.len());
        for one in &waiting {
            let id = one["request"]["id"].as_str().unwrap();
            assert_eq!(asked.operator(&["reject", id]).code(), 0);
        }
        // Some were recorded meanwhile.
        wait_for("an empty queue", || {
            for one in asked.waiting() {
                asked.operator(&["reject", one["request"]["id"].as_str().unwrap()]);
            }
            calls.iter().all(std::thread::ScopedJoinHandle::is_finished).then_some(())
        });
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    let refused = statuses.iter().filter(|status| *status == "refused").count();
    assert!(refused >= 90, "{statuses:?}");
    asked.stop();
}

#[test]
fn nobody_watches_and_requests_are_rejected_at_once_or_after_a_while() {
    let world = World::new();
    let asked = Asked::launch(&world, "nobody", "{on_request: reject}");
    let answer = asked.ask("new.example.com");
    assert_eq!(answer["status"], "rejected");
    assert!(answer["message"].as_str().unwrap().contains("nobody watches"), "{answer}");
    asked.stop();
    let marker = world.state.path().join("notified");
    let command = format!("[sh, -c, 'echo $BOTTLER_BOTTLE $BOTTLER_REQUEST $BOTTLER_KIND >> {}']", marker.display());
    let asked = Asked::launch(&world, "later", &format!("{{on_request: wait, deadline: 1s, notify: {command}}}"));
    let answer = asked.ask("new.example.com");
    assert_eq!(answer["status"], "rejected");
    assert!(answer["message"].as_str().unwrap().contains("in time"), "{answer}");
    wait_for("the notification", || (std::fs::read_to_string(&marker).ok()? == "later r1 egress\n").then_some(()));
    // It may be asked again: nobody has said no.
    assert_eq!(asked.ask("new.example.com")["id"], "r2");
    asked.stop();
}

#[test]
fn a_browser_page_and_other_names_are_refused() {
    let world = World::new();
    let asked = Asked::launch(&world, "names", "true");
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    let post = |path: &str, headers: &str, body: &str| {
        let length = body.len();
        asked.raw(
            "supervise",
            &format!(
                "POST {path} HTTP/1.1\r\nConnection: close\r\nContent-Type: application/json\r\n\
                 Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2025-11-25\r\n\
                 {headers}Content-Length: {length}\r\n\r\n{body}"
            ),
        )
    };
    assert!(post("/mcp", "Host: supervise:9098\r\n", body).contains("egress_request"));
    for (path, headers, status) in [
        ("/mcp", "Host: evil.example.com\r\n", "403"),
        ("/mcp", "Host: supervise:9098\r\nOrigin: https://evil.example.com\r\n", "403"),
        ("/mcp", "Host: supervise:9098\r\nOrigin: null\r\n", "403"),
        ("/other", "Host: supervise:9098\r\n", "404"),
    ] {
        let response = post(path, headers, body);
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{path} {headers}: {response}");
    }
    let long = format!("{{\"x\": \"{}\"}}", "y".repeat(65 << 10));
    assert!(post("/mcp", "Host: supervise:9098\r\n", &long).starts_with("HTTP/1.1 413 "));
    let got = asked.raw(
        "supervise",
        "GET /mcp HTTP/1.1\r\nHost: supervise:9098\r\nConnection: close\r\nAccept: text/event-stream\r\n\r\n",
    );
    assert!(got.starts_with("HTTP/1.1 405 "), "{got}");
    asked.stop();
}

/// From the operator's command to the agent's answer and to the first request that passes: printed, not asserted.
#[test]
#[ignore = "a measurement"]
fn measured_approval_to_effect() {
    let world = World::new();
    let asked = Asked::launch(&world, "measured", "true");
    let mut times: Vec<(Duration, Duration)> = Vec::new();
    for n in 0..20 {
        let host = format!("h{n}.domain{n}.example");
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| {
                let answer = asked.ask(&host);
                (answer["status"].clone(), Instant::now())
            });
            let one = wait_for("the request", || asked.waiting().pop());
            let (id, hash) = (one["request"]["id"].as_str().unwrap(), one["hash"].as_str().unwrap());
            let began = Instant::now();
            assert_eq!(asked.operator(&["approve", id, "--hash", hash]).code(), 0);
            let command = began.elapsed();
            let (status, at) = waits.join().unwrap();
            assert_eq!(status, "approved");
            times.push((at.duration_since(began), command));
        });
        if n % 18 == 17 {
            std::thread::sleep(Duration::from_secs(61));
        }
    }
    let mut heard: Vec<_> = times.iter().map(|(heard, _)| *heard).collect();
    heard.sort();
    println!("the agent hears: p50 {:?}, max {:?}; {times:?}", heard[heard.len() / 2], heard.last());
    asked.stop();
}
