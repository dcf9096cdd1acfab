//! The agent asks, the operator answers, and the bottle changes while it runs.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::support::process::{PATIENCE, World, recipe, wait_for};

/// A bottle with an idle agent that may ask; `supervise` as in the manifest.
struct Asked<'a> {
    world: &'a World,
    id: &'static str,
}

impl<'a> Asked<'a> {
    fn launch(world: &'a World, id: &'static str, supervise: &str) -> Self {
        Self::launch_with(world, id, supervise, "")
    }

    /// The same, with further keys of the bottle, each in a line.
    fn launch_with(world: &'a World, id: &'static str, supervise: &str, more: &str) -> Self {
        let manifest = world.state.path().join("asked.yaml");
        let text = format!(
            "bottles:\n  b:\n    bounds: {}\n    supervise: {supervise}\n    egress: {{allow: [allowed.example.com], deny: ['*.denied.example.com']}}\n\
             {more}agents: {{a: {{bottle: b, template: probe}}}}\n",
            World::bounds()
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
        assert_eq!((&one["request"]["id"], &one["candidate"]["entry"]["exact"]), (&json!("r1"), &json!(true)));
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
        // Two operators at once: one wins, and it is granted once.
        let hash = asked.hash("r1");
        let decide = || {
            let (asked, hash) = (&asked, hash.clone());
            scope.spawn(move || asked.operator(&["approve", "r1", "--hash", &hash, "--bottle"]).code())
        };
        let mut codes = [decide(), decide()].map(|one| one.join().unwrap());
        codes.sort_unstable();
        assert_eq!(codes, [0, 122]);
        assert_eq!(asked.codes().iter().filter(|code| *code == "request_approved").count(), 1);
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
    let answer = asked.call("git_request", &json!({ "repository": "x.com/y", "operation": "push", "reason": "r" }));
    assert_eq!(answer["status"], "refused", "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("no git gate"), "{answer}");
    assert_eq!(asked.operator(&["list", "--all", "--format", "json"]).json().as_array().unwrap().len(), 2);
    asked.stop();
}

#[test]
fn a_credential_is_used_where_it_is_declared_and_the_operator_reads_what_to_write_for_another() {
    let mut world = World::new();
    let value = "value-of-a-forge-token-0123456789";
    world.env.push(("FORGE".to_owned(), value.to_owned()));
    let more = "    credentials: [{name: forge, source: 'env:FORGE', env: FORGE_TOKEN, hosts: [{host: allowed.example.com, slot: bearer, \
        methods: [GET], paths: [/api/**]}]}]\n";
    let asked = Asked::launch_with(&world, "keys", "true", more);
    let ask = |name: &str, host: &str| {
        asked.call("credential_request", &json!({ "name": name, "host": host, "reason": "to publish" }))
    };
    // It is there: the agent reads where, and nobody is asked. The name need not be known.
    for name in ["forge", "a token of the forge"] {
        let answer = ask(name, "ALLOWED.example.com.");
        assert_eq!(answer["status"], "already_allowed", "{answer}");
        assert!(answer["message"].as_str().unwrap().contains("FORGE_TOKEN"), "{answer}");
    }
    // A launch alone widens where a credential goes.
    let answer = ask("forge", "upload.example.com");
    assert_eq!(answer["status"], "rejected", "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("declared for upload.example.com"), "{answer}");
    let answer =
        asked.call("capability_request", &json!({ "packages": ["jq", "x; rm -rf /"], "reason": "to read JSON" }));
    assert_eq!(answer["status"], "rejected", "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("no other image is built for this bottle"), "{answer}");
    let listed = asked.operator(&["list"]).stdout;
    assert_eq!(listed.matches("noted").count(), 2, "{listed}");
    let shown = asked.operator(&["show", "r1"]).stdout;
    for words in
        ["add to its `hosts`: {host: upload.example.com, slot: \"bearer\"}", "bottler resume keys", "\"to publish\""]
    {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    let shown = asked.operator(&["show", "r2"]).stdout;
    let installs = shown.lines().filter(|line| line.contains("apt-get install"));
    assert!(
        installs.clone().count() == 1 && installs.clone().all(|line| line.contains(" jq") && !line.contains("rm -rf")),
        "{shown}"
    );
    assert_eq!(asked.operator(&["approve", "r1", "--hash", "0000000000000000"]).code(), 122);

    // The policy has become narrower than what is declared: a grant gives back that, and no more.
    let narrow = world.state.path().join("narrow.yaml");
    std::fs::write(&narrow, "allow: [other.example.com]\n").unwrap();
    let reloaded = world.run(&["policy", "reload", "keys", "--egress", narrow.to_str().unwrap()]);
    assert_eq!(reloaded.code(), 0, "{}", reloaded.stderr);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| ask("forge", "allowed.example.com"));
        let one = wait_for("the request", || asked.waiting().into_iter().find(|one| one["request"]["id"] == "r3"));
        let entry = &one["candidate"]["entry"];
        assert_eq!(entry["credentials"], json!(["forge"]), "{one}");
        assert_eq!(entry["entry"], json!({ "host": "allowed.example.com", "methods": ["GET"], "paths": ["/api/**"] }));
        let approved = asked.operator(&["approve", "r3", "--hash", one["hash"].as_str().unwrap(), "--bottle"]);
        assert_eq!(approved.code(), 0, "{}", approved.stderr);
        assert_eq!(waits.join().unwrap()["status"], "approved");
    });
    assert_eq!(ask("forge", "allowed.example.com")["status"], "already_allowed");
    assert!(asked.get("allowed.example.com").contains("path_not_allowed"));
    // No request has the value, wherever one is written.
    let kept = std::fs::read_to_string(world.state.path().join("bottler/bottles/keys/requests.jsonl")).unwrap();
    assert!(kept.contains("upload.example.com") && !kept.contains(value), "{kept}");
    let answer = ask(value, "upload.example.com");
    assert_eq!(answer["status"], "invalid", "{answer}");
    assert!(!asked.operator(&["list", "--all", "--format", "json"]).stdout.contains(value));
    asked.stop();
}

/// A web service: what it was told, in the order of arrival. It answers as it is told to; without an answer, it holds the connection.
fn service(answer: Option<&'static str>) -> (u16, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, (told, heard)) = (listener.local_addr().unwrap().port(), std::sync::mpsc::channel());
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let (mut text, mut buffer) = (String::new(), [0; 4096]);
            while !text.contains("\r\n\r\n") || !text.ends_with('}') {
                let Ok(length @ 1..) = stream.read(&mut buffer) else { break };
                text.push_str(&String::from_utf8_lossy(&buffer[..length]));
            }
            if let Some(answer) = answer {
                let _ = stream.write_all(answer.as_bytes());
            }
            held.push(stream);
            if told.send(text).is_err() {
                return;
            }
        }
    });
    (port, heard)
}

#[test]
fn a_webhook_is_told_ids_and_kind_alone_and_nobody_waits_for_it() {
    let world = World::new();
    let (port, heard) = service(Some("HTTP/1.1 204 No Content\r\n\r\n"));
    let webhook = format!("{{webhook: 'http://127.0.0.1:{port}/hook?key=of-the-hook'}}");
    let asked = Asked::launch(&world, "hooked", &webhook);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| asked.ask("new.example.com"));
        let told = heard.recv_timeout(PATIENCE).unwrap();
        let (start, body) = told.split_once("\r\n\r\n").unwrap();
        assert!(start.starts_with("POST /hook?key=of-the-hook HTTP/1.1\r\n"), "{start}");
        assert_eq!(
            serde_json::from_str::<Value>(body).unwrap(),
            json!({ "bottle": "hooked", "id": "r1", "kind": "egress" })
        );
        assert!(!told.contains("new.example.com") && !told.contains("to build"), "{told}");
        assert_eq!(asked.operator(&["reject", "r1"]).code(), 0);
        assert_eq!(waits.join().unwrap()["status"], "rejected");
    });
    assert!(!asked.codes().contains(&"webhook_failed".to_owned()));
    asked.stop();

    // A redirect is not followed, and is told without the key in the URL.
    let (other, elsewhere) = service(None);
    let moved: &'static str =
        format!("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{other}/\r\nContent-Length: 0\r\n\r\n").leak();
    let (port, _heard) = service(Some(moved));
    let asked = Asked::launch(
        &world,
        "moved",
        &format!("{{on_request: wait, deadline: 1s, webhook: 'http://127.0.0.1:{port}/of-the-hook'}}"),
    );
    assert_eq!(asked.ask("new.example.com")["status"], "rejected");
    wait_for("the event", || asked.codes().contains(&"webhook_failed".to_owned()).then_some(()));
    let events = world.run(&["audit", "show", "moved", "--format", "json"]).stdout;
    assert!(events.contains("a redirect is not followed") && !events.contains("of-the-hook"), "{events}");
    assert!(elsewhere.try_recv().is_err());
    asked.stop();

    // One that never answers holds up no decision.
    let (port, heard) = service(None);
    let asked = Asked::launch(&world, "silent", &format!("{{webhook: 'http://127.0.0.1:{port}/'}}"));
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| asked.ask("new.example.com"));
        heard.recv_timeout(PATIENCE).unwrap();
        let hash = asked.hash("r1");
        assert_eq!(asked.operator(&["approve", "r1", "--hash", &hash]).code(), 0);
        assert_eq!(waits.join().unwrap()["status"], "approved");
    });
    assert!(!asked.codes().contains(&"webhook_failed".to_owned()), "the decision was made before the time limit");
    wait_for("the time limit", || asked.codes().contains(&"webhook_failed".to_owned()).then_some(()));
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
fn a_decision_that_egress_does_not_acknowledge_grants_nothing_and_can_be_made_again() {
    let world = World::new();
    let asked = Asked::launch(&world, "stuck", "true");
    let policy = world.state.path().join("bottler/bottles/stuck/policy.json");
    let status = || asked.call("request_status", &json!({ "id": "r1" }))["status"].clone();
    let approved = || asked.codes().iter().filter(|code| *code == "request_approved").count();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| asked.ask("new.example.com"));
        wait_for("the request", || asked.waiting().pop());
        // Between the decision and its effect: egress takes nothing, and then it is dead.
        let egress = world.pid("stuck-egress");
        kill(Pid::from_raw(egress), Signal::SIGSTOP).unwrap();
        let hash = asked.hash("r1");
        let deciding = scope.spawn({
            let (asked, hash) = (&asked, hash.clone());
            move || asked.operator(&["approve", "r1", "--hash", &hash, "--bottle"])
        });
        wait_for("the decision on its way", || {
            std::fs::read_to_string(&policy).unwrap().contains("new.example.com").then_some(())
        });
        kill(Pid::from_raw(egress), Signal::SIGKILL).unwrap();
        let failed = deciding.join().unwrap();
        assert!(failed.code() != 0 && failed.stderr.contains("egress"), "{}", failed.stderr);
        assert_eq!((status(), approved()), (json!("pending"), 0));
        assert!(!std::fs::read_to_string(&policy).unwrap().contains("new.example.com"));
        // Before the decision: nothing is granted either, and the request stays.
        let again = asked.operator(&["approve", "r1", "--hash", &asked.hash("r1"), "--bottle"]);
        assert_ne!(again.code(), 0, "{}", again.stderr);
        assert_eq!((status(), approved()), (json!("pending"), 0));
        wait_for("the restart", || (world.run(&["sidecar", "restart", "stuck", "egress"]).code() == 0).then_some(()));
        assert!(asked.get("new.example.com").contains("host_not_allowed"), "nothing of it is in effect");
        // What was shown before is stale; it is offered again.
        assert_ne!(asked.operator(&["approve", "r1", "--hash", &hash, "--bottle"]).code(), 0);
        let hash = asked.hash("r1");
        let done = asked.operator(&["approve", "r1", "--hash", &hash, "--bottle"]);
        assert_eq!(done.code(), 0, "{}", done.stderr);
        waits.join().unwrap();
    });
    assert_eq!((status(), approved()), (json!("approved"), 1));
    assert!(!asked.get("new.example.com").contains("host_not_allowed"));
    asked.stop();
}

#[test]
fn a_grant_that_has_ended_is_told_as_ended_and_can_be_asked_for_again() {
    let world = World::new();
    let asked = Asked::launch(&world, "ends", "true");
    let status = |id: &str| asked.call("request_status", &json!({ "id": id }))["status"].clone();
    let grant = |id: &str, scope: &[&str]| {
        std::thread::scope(|scoped| {
            let waits = scoped.spawn(|| asked.ask("new.example.com"));
            wait_for("the request", || asked.waiting().pop());
            let hash = asked.hash(id);
            let done = asked.operator(&[&["approve", id, "--hash", &hash], scope].concat());
            assert_eq!(done.code(), 0, "{}", done.stderr);
            assert_eq!(waits.join().unwrap()["status"], "approved");
        });
    };
    // An agent that asked as often as this would be told to wait.
    let has_ended = || {
        let policy = world.run(&["policy", "show", "ends"]);
        assert_eq!(policy.code(), 0, "{}", policy.stderr);
        (!policy.stdout.contains("new.example.com")).then_some(())
    };
    grant("r1", &["--once"]);
    assert_eq!(status("r1"), "approved");
    assert!(!asked.get("new.example.com").contains("host_not_allowed"));
    wait_for("the end of the grant", has_ended);
    assert_eq!(status("r1"), "expired");
    assert!(asked.get("new.example.com").contains("host_not_allowed"));
    grant("r2", &["--for", "1s"]);
    wait_for("the end of the time", has_ended);
    assert_eq!(status("r2"), "expired");
    // Denied again by the operator.
    grant("r3", &["--bottle"]);
    assert_eq!(world.run(&["policy", "deny", "ends", "new.example.com"]).code(), 0);
    assert_eq!(status("r3"), "expired");
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

/// The screen of `requests watch` while an agent makes 10,000 refused requests in ten seconds: from a key to the first byte that the
/// screen draws for it. Printed, not asserted.
#[test]
#[ignore = "a measurement"]
fn measured_keys_of_the_screen_during_a_flood_of_refused_requests() {
    const CONNECTIONS: usize = 8;
    const REQUESTS: usize = 10_000;
    let world = World::new();
    let asked = Asked::launch(&world, "flooded", "true");
    std::thread::scope(|scope| {
        let waits = ["one.example.com", "two.example.org"].map(|host| scope.spawn(|| asked.ask(host)));
        wait_for("the requests", || (asked.waiting().len() == 2).then_some(()));
        let watch = format!("stty cols 80 rows 24; exec {} requests watch", world.bottler().display());
        let mut terminal = world.program("script", &["-qec", &watch, "/dev/null"]);
        let mut terminal = terminal.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (mut keys, mut screen) = (terminal.stdin.take().unwrap(), terminal.stdout.take().unwrap());
        let (drawn, screens) = std::sync::mpsc::channel();
        scope.spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = screen.read(&mut buffer) {
                if drawn.send((Instant::now(), String::from_utf8_lossy(&buffer[..length]).into_owned())).is_err() {
                    return;
                }
            }
        });
        let mut seen = String::new();
        while !(seen.contains("one.example.com") && seen.contains("two.example.org")) {
            seen.push_str(&screens.recv_timeout(PATIENCE).unwrap().1);
        }
        let began = Instant::now();
        let floods: Vec<_> = (0..CONNECTIONS)
            .map(|flood| {
                scope.spawn({
                    let asked = &asked;
                    move || {
                        let mut stream =
                            UnixStream::connect(asked.inside("/run/bottler-services/egress/socket")).unwrap();
                        let mut buffer = [0; 8192];
                        for n in 0..REQUESTS / CONNECTIONS {
                            // At the pace of 10,000 in ten seconds, if the machine is as fast.
                            let due = Duration::from_secs(10) * u32::try_from(n).unwrap()
                                / u32::try_from(REQUESTS / CONNECTIONS).unwrap();
                            std::thread::sleep(due.saturating_sub(began.elapsed()));
                            let host = format!("h{n}.flood{flood}.example");
                            write!(stream, "GET http://{host}/x HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
                            let mut text = String::new();
                            // The body is one line of JSON.
                            while !text.ends_with("}\n") {
                                let length = stream.read(&mut buffer).unwrap();
                                assert!(length > 0, "{text}");
                                text.push_str(&String::from_utf8_lossy(&buffer[..length]));
                            }
                            assert!(text.contains("host_not_allowed"), "{text}");
                        }
                        began.elapsed()
                    }
                })
            })
            .collect();
        let mut times = Vec::new();
        for n in 0.. {
            if floods.iter().all(std::thread::ScopedJoinHandle::is_finished) {
                break;
            }
            while screens.try_recv().is_ok() {}
            let pressed = Instant::now();
            keys.write_all(if n % 2 == 0 { b"j" } else { b"k" }).unwrap();
            keys.flush().unwrap();
            // An age that is drawn anew would be taken for it at most once in a second.
            let (at, _) = screens.recv_timeout(PATIENCE).unwrap();
            times.push(at.duration_since(pressed));
            std::thread::sleep(Duration::from_millis(50));
        }
        let took = floods.into_iter().map(|flood| flood.join().unwrap()).max().unwrap();
        times.sort();
        let at = |part: usize| times[(times.len() - 1) * part / 100];
        println!(
            "{REQUESTS} refused requests in {took:?}; a key: p50 {:?}, p99 {:?}, max {:?} of {}",
            at(50),
            at(99),
            at(100),
            times.len()
        );
        keys.write_all(b"q").unwrap();
        terminal.wait().unwrap();
        for id in ["r1", "r2"] {
            assert_eq!(asked.operator(&["reject", id]).code(), 0);
        }
        for wait in waits {
            wait.join().unwrap();
        }
    });
    asked.stop();
}
