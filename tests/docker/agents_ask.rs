//! Real agents of the vendors ask their operator, end to end: a request is refused, the agent makes the call that the refusal names
//! with its own MCP client, the operator approves, and the same command of the same agent passes. Only the model is scripted.

use std::process::Stdio;

use serde_json::json;

use crate::support::process::{World, finish, wait_for};
use crate::support::vendors::{CLAUDE, CODEX, Desk, GEMINI, Image, Vendor};

/// The host that the agent wants; the models' server plays it, too.
const NEW: &str = "new.example.com";

#[test]
fn claude_is_refused_asks_waits_for_the_approval_and_goes_on() {
    asks(&Vendor { hosts: &["api.anthropic.com", NEW], ..CLAUDE });
}

#[test]
fn codex_is_refused_asks_waits_for_the_approval_and_goes_on() {
    asks(&Vendor { hosts: &["api.openai.com", NEW], ..CODEX });
}

#[test]
fn gemini_is_refused_asks_waits_for_the_approval_and_goes_on() {
    asks(&Vendor { hosts: &["generativelanguage.googleapis.com", NEW], ..GEMINI });
}

fn asks(vendor: &Vendor) {
    let (world, image) = (World::new(), Image::of(vendor));
    let desk = Desk::new(&world, vendor);
    let fetch = json!({ "tool": "shell", "command": format!("curl -sS https://{NEW}/x; echo done") });
    let wanted = json!({ "host": NEW, "methods": ["GET"], "paths": ["/x"], "reason": "to read it" });
    desk.supervise(&json!([fetch, { "tool": "egress_request", "arguments": wanted }, fetch]));
    let id = format!("asks-{}", vendor.template);
    let (words, origin) = desk.launch(&id, &image);
    let mut command = desk.command(&words);
    command.args(["--headless", "--prompt", "Read it."]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let one = wait_for("the request", || {
        if child.try_wait().unwrap().is_some() {
            return Some(None);
        }
        let listed = world.run(&["requests", "list", &id, "--format", "json"]);
        let listed: serde_json::Value = serde_json::from_str(&listed.stdout).ok()?;
        listed.as_array()?.first().cloned().map(Some)
    });
    let Some(one) = one else {
        let done = finish(child);
        panic!("{}: it ended without asking: {}\n{}\n{}", vendor.template, done.stdout, done.stderr, origin.log());
    };
    // What the agent was refused before is what the operator sees with its request.
    assert_eq!(one["request"]["wish"]["egress"]["host"], NEW, "{one}");
    assert_eq!(one["causes"][0]["code"], "host_not_allowed", "{one}");
    let (request, hash) = (one["request"]["id"].as_str().unwrap(), one["hash"].as_str().unwrap());
    let approved = world.run(&["requests", "approve", &id, request, "--hash", hash]);
    assert_eq!(approved.code(), 0, "{}", approved.stderr);
    let done = finish(child);
    let log = origin.log();
    assert_eq!(done.code(), 0, "{}: {}\n{}\n{log}", vendor.template, done.stdout, done.stderr);
    assert!(done.stdout.contains("It said: ") && done.stdout.contains("what the host has"), "{}\n{log}", done.stdout);
    // The model has read the refusal with its call, and the decision.
    let result = |number: usize| {
        let line = log.lines().rev().find(|line| line.starts_with(&format!("result {number} ")));
        line.unwrap_or_else(|| panic!("{number}: {log}")).to_owned()
    };
    assert!(result(0).contains("host_not_allowed") && result(0).contains("egress_request"), "{}", result(0));
    assert!(result(1).contains("approved") && result(1).contains("Make the request now"), "{}", result(1));
    assert_eq!(log.matches(&format!("GET {NEW} /x")).count(), 1, "{log}");
    let audit = world.run(&["audit", "show", &id]).stdout;
    for code in ["host_not_allowed", "request_asked", "request_approved"] {
        assert!(audit.contains(code), "{code}: {audit}");
    }
    world.assert_clean();
}
