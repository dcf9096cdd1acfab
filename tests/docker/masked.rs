//! Real agents whose conversation holds a file full of keys: the session works through, and their model sees none of the keys.

use serde_json::json;

use crate::support::process::{Done, World};
use crate::support::vendors::{CLAUDE, CODEX, Desk, Image, Vendor, classic_github_key, github_key, google_key};

#[test]
fn promise_09_claude_reads_a_file_of_keys_and_its_model_does_not() {
    // Its own way to read a file shows the numbers of lines.
    let read = json!({ "tool": "Read", "arguments": { "file_path": "/workspace/keys.env" } });
    reads(&CLAUDE, &[read, json!({ "tool": "Read", "arguments": { "file_path": "/workspace/id_rsa" } })]);
}

#[test]
fn promise_09_codex_reads_a_file_of_keys_and_its_model_does_not() {
    reads(&CODEX, &[]);
}

/// The known secret of the bottle.
const PASSWORD: &str = "kD7-\"zebra\"/fence+9moss";

/// A PEM file, and its lines.
fn key_file() -> (String, Vec<String>) {
    let lines: Vec<String> = (0..26_u32)
        .map(|line| {
            let digits = (0..64_u32).map(|at| (line * 7919 + at * 104_729 + at * at * line) % 62);
            digits
                .map(|digit| {
                    char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"[digit as usize])
                })
                .collect()
        })
        .collect();
    let file =
        ["-----BEGIN RSA PRIV", "ATE KEY-----\n", &lines.join("\n"), "\n-----END RSA PRIV", "ATE KEY-----\n"].concat();
    (file, lines)
}

fn reads(vendor: &Vendor, more: &[serde_json::Value]) {
    let (world, image) = (World::new(), Image::of(vendor));
    let manifest = format!(
        "bottles:\n  dev:\n    env: {{{0}: \"${{{0}}}\", DB_PASSWORD: \"${{DB_PASSWORD}}\"}}\n\
         agents:\n  dev: {{bottle: dev, template: {1}}}\n",
        vendor.variable, vendor.template
    );
    let desk = Desk::with_manifest(&world, vendor, &manifest);
    let (file, lines) = key_file();
    let keys = [classic_github_key(), github_key(), google_key(), ["AKIA", "QYLPMN5HHHFPZAM2"].concat()];
    let lines_of = |(at, key): (usize, &String)| format!("# number {at}\nKEY_{at}={key}\n{key}\n");
    let text = keys.iter().enumerate().map(lines_of).collect::<Vec<_>>().concat();
    std::fs::write(desk.path("project/keys.env"), text).unwrap();
    std::fs::write(desk.path("project/id_rsa"), file).unwrap();
    let hidden: Vec<&String> = keys.iter().chain(&lines).collect();
    let hidden = json!([hidden, [PASSWORD]]);
    let hidden: Vec<&serde_json::Value> =
        hidden.as_array().unwrap().iter().flat_map(|list| list.as_array().unwrap()).collect();
    std::fs::write(desk.path("origin/hidden"), json!(hidden).to_string()).unwrap();
    let shell = |command: &str| json!({ "tool": "shell", "command": command });
    let mut script =
        vec![shell("cat /workspace/keys.env"), shell("cat /workspace/id_rsa"), shell("printenv DB_PASSWORD")];
    script.extend_from_slice(more);
    script.push(shell("echo 'that was all'"));
    std::fs::write(desk.path("origin/script.json"), json!(script).to_string()).unwrap();
    std::fs::write(desk.path("origin/go"), "").unwrap();
    let id = format!("masked-{}", vendor.template);
    let (words, origin) = desk.launch(&id, &image);
    let mut command = desk.command(&words);
    command.args(["--headless", "--prompt", "Read the keys."]).env("DB_PASSWORD", PASSWORD);
    let done: Done = command.output().unwrap().into();
    let log = origin.log();
    assert_eq!(done.code(), 0, "{}: {}\n{}\n{log}", vendor.template, done.stdout, done.stderr);
    assert!(done.stdout.contains("It said: ") && done.stdout.contains("that was all"), "{}\n{log}", done.stdout);
    assert!(!log.contains("SEEN "), "{log}");
    // The agent has read them: the model was told the rest of the file, and stars.
    let result = log.lines().find(|line| line.starts_with("result 0 ")).unwrap_or_else(|| panic!("{log}"));
    let starred = format!("KEY_0={}", "*".repeat(keys[0].len()));
    assert!(result.contains("# number 0") && result.contains(&starred) && result.contains("# number 1"), "{result}");
    let audit = world.run(&["audit", "show", &id]).stdout;
    for words in ["secret_masked", "github-token:", "known-secret was masked", "private-key:"] {
        assert!(audit.contains(words), "{words}: {audit}");
    }
    assert!(!audit.contains("secret_found") && !audit.contains(PASSWORD), "{audit}");
    world.assert_clean();
}
