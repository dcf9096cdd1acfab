//! Real agents of every vendor, each by its own template, with a key in the user's environment as the vendor's documentation
//! names it, and a model that answers with the key only. The agent has a placeholder: the key is not in its environment, its
//! files, or the memory of its processes.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::memory::held;
use crate::support::process::{Done, PATIENCE, World, bottler, finish, wait_for};
use crate::support::tmux::Tmux;
use crate::support::vendors::{
    AIDER, ANSWER, CLAUDE, CODEX, COPILOT_CLI, Desk, GEMINI, GH, Image, OPENCODE, PI, QWEN, Vendor,
};

#[test]
fn promise_07_claude_answers_with_a_key_that_it_does_not_have() {
    headless(&CLAUDE);
}

#[test]
fn promise_07_codex_answers_with_a_key_that_it_does_not_have() {
    headless(&CODEX);
}

#[test]
fn promise_07_pi_answers_with_a_key_that_it_does_not_have() {
    headless(&PI);
}

#[test]
#[ignore = "slow"]
fn promise_07_gemini_answers_with_a_key_that_it_does_not_have() {
    headless(&GEMINI);
}

#[test]
#[ignore = "slow"]
fn promise_07_opencode_answers_with_a_key_that_it_does_not_have() {
    headless(&OPENCODE);
}

#[test]
#[ignore = "slow"]
fn promise_07_copilot_answers_with_a_key_that_it_does_not_have() {
    headless(&COPILOT_CLI);
}

#[test]
#[ignore = "slow"]
fn promise_07_qwen_answers_with_a_key_that_it_does_not_have() {
    headless(&QWEN);
}

#[test]
#[ignore = "slow"]
fn promise_07_aider_answers_with_a_key_that_it_does_not_have() {
    headless(&AIDER);
}

const GH_MANIFEST: &str = "
bottles:
  dev:
    workspace: {mode: none}
    credentials: [{name: github, source: 'env:GH_TOKEN', shape: github, env: GH_TOKEN, hosts: [api.github.com]}]
    egress: {allow: [api.github.com]}
agents:
  dev: {bottle: dev, template: shell, command: [gh, api, user, --jq, .login]}
";

#[test]
fn promise_07_gh_logs_in_with_a_token_that_it_does_not_have() {
    let (world, image) = (World::new(), Image::of(&GH));
    let desk = Desk::with_manifest(&world, &GH, GH_MANIFEST);
    let (words, origin) = desk.launch("v-gh", &image);
    let done: Done = desk.command(&words).output().unwrap().into();
    assert_eq!((done.code(), done.stdout.as_str()), (0, "octocat\n"), "{}\n{}", done.stderr, origin.log());
    assert!(origin.log().contains("GET api.github.com /user with the key"), "{}", origin.log());
    assert!(world.run(&["audit", "show", "v-gh"]).stdout.contains("credential_used"));
    world.assert_clean();
}

/// An image of the user's own without the program: the launch says so, and the agent does not run.
#[test]
fn a_missing_program_is_said_before_the_agent_runs() {
    let world = World::new();
    let desk = Desk::new(&world, &CODEX);
    // The image of the tests, in which there is Claude alone.
    let (words, _origin) = desk.launch("v-missing", &Image::of(&CLAUDE));
    let done: Done = desk.command(&words).args(["--headless", "--prompt", "x"]).output().unwrap().into();
    assert_eq!(done.code(), 120, "{}", done.stderr);
    let words = "in its image bottler-test:debian, there is no program \"codex\" in /usr/local/sbin:";
    assert!(done.stderr.contains(words) && done.stderr.contains("the template's own is built"), "{}", done.stderr);
    assert!(!done.stderr.contains("agent ran"), "{}", done.stderr);
    world.assert_clean();
}

/// Launches an agent with a question, looks around while its model waits, and reads the answer.
fn headless(vendor: &Vendor) {
    let (world, image) = (World::new(), Image::of(vendor));
    let desk = Desk::new(&world, vendor);
    let (id, key) = (format!("v-{}", vendor.template), (vendor.key)());
    let (words, origin) = desk.launch(&id, &image);
    let mut command = desk.command(&words);
    command.args(["--headless", "--prompt", "What is the answer?"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("the model to be asked", || {
        let ended = child.try_wait().unwrap().is_some();
        (ended || origin.log().contains("asked a model")).then_some(())
    });
    let log = origin.log();
    if !log.contains("asked a model") {
        let done = finish(child);
        panic!("{}: {}\n{}\n{log}", vendor.template, done.stdout, done.stderr);
    }
    let placeholder = world.run(&["exec", &id, "--", "printenv", vendor.variable]).stdout.trim().to_owned();
    assert!(placeholder.len() > 20 && placeholder != key, "{placeholder}");
    // The part behind what both have.
    let ends = [&key[key.len() - 20..], &placeholder[placeholder.len() - 20..]];
    let found = held(&id, &ends);
    assert!(found.contains(ends[1]), "{}: this test can fail", vendor.template);
    assert!(!found.contains(ends[0]), "{}: the key is in the memory of a process", vendor.template);
    assert_eq!(files_with(&id, ends[0]), "", "{}", vendor.template);
    origin.exec("touch /origin/go");
    let done = finish(child);
    let log = origin.log();
    assert_eq!(done.code(), 0, "{}: {}\n{}\n{log}", vendor.template, done.stdout, done.stderr);
    assert!(done.stdout.contains(ANSWER), "{}: {}\n{}", vendor.template, done.stdout, done.stderr);
    assert!(!done.stdout.contains(ends[0]) && !done.stderr.contains(ends[0]), "{}", done.stderr);
    assert!(!log.contains("with another key"), "{}: {log}", vendor.template);
    let audit = world.run(&["audit", "show", &id]).stdout;
    assert!(audit.contains("credential_used"), "{}: {audit}", vendor.template);
    world.assert_clean();
}

/// The files of an agent's container that have a text, which is on no command line.
fn files_with(container: &str, text: &str) -> String {
    let places = ["/home", "/tmp", "/run", "/var", "/etc", "/root", "/workspace"];
    let mut grep = Command::new("docker");
    grep.args(["exec", "-i", "--user", "0", container, "grep", "-raFl", "--devices=skip", "-f", "-"]).args(places);
    let mut grep = grep.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    grep.stdin.take().unwrap().write_all(format!("{text}\n").as_bytes()).unwrap();
    finish(grep).stdout
}

/// On its screen, in tmux: no dialog asks for a login, and the answer is there.
fn on_its_screen(vendor: &Vendor) {
    let (world, image) = (World::new(), Image::of(vendor));
    let desk = Desk::new(&world, vendor);
    let id = format!("s-{}", vendor.template);
    let (words, origin) = desk.launch(&id, &image);
    std::fs::write(desk.path("origin/go"), "").unwrap();
    let tmux = Tmux::new(&desk.path("project"));
    let state = world.state.path().display();
    let key = (vendor.key)();
    tmux.line(&format!("export XDG_STATE_HOME={state} XDG_CONFIG_HOME={state} {}={key}; clear", vendor.variable));
    let line = [&[bottler().display().to_string()], &words[..]].concat().join(" ");
    tmux.line(&format!("{line} --prompt 'What is the answer?'; echo code=$?"));
    tmux.wait(ANSWER);
    let log = origin.log();
    assert!(log.contains("asked a model") && !log.contains("with another key"), "{log}");
    if !vendor.ends {
        // What is typed at once, some take for what is pasted.
        assert_eq!(world.run(&["stop", &id]).code(), 0);
    }
    tmux.wait(if vendor.ends { "code=0" } else { "code=126" });
    let audit = world.run(&["audit", "show", &id]).stdout;
    assert!(audit.contains("credential_used"), "{}: {audit}", vendor.template);
    world.wait_gone(PATIENCE);
}

#[test]
#[ignore = "slow"]
fn codex_answers_on_its_screen() {
    on_its_screen(&CODEX);
}

#[test]
#[ignore = "slow"]
fn pi_answers_on_its_screen() {
    on_its_screen(&PI);
}

#[test]
#[ignore = "slow"]
fn gemini_answers_on_its_screen() {
    on_its_screen(&GEMINI);
}

#[test]
#[ignore = "slow"]
fn opencode_answers_on_its_screen() {
    on_its_screen(&OPENCODE);
}

#[test]
#[ignore = "slow"]
fn copilot_answers_on_its_screen() {
    on_its_screen(&COPILOT_CLI);
}

#[test]
#[ignore = "slow"]
fn qwen_answers_on_its_screen() {
    on_its_screen(&QWEN);
}

#[test]
#[ignore = "slow"]
fn aider_answers_on_its_screen() {
    on_its_screen(&AIDER);
}
