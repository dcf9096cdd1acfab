//! Real agents from a manifest, in sealed bottles: the real Claude Code with a Messages API of this test behind
//! egress, with and without a terminal; attaching, leaving and resizing; secrets, and where they must not be.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::images::{DEBIAN, Debian};
use crate::support::origin::{Origin, certificates, docker};
use crate::support::process::{Done, World, bottler, finish, wait_for};
use crate::support::tmux::Tmux;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The API's host, and another allowed host.
const API: &str = "api.anthropic.com";
const OTHER: &str = "other.example.com";

/// A Messages API with one answer, as JSON or as events. It logs each request's path and whether the request
/// contained the key, and serves all hosts alike.
const SERVER: &str = r#"
import json, ssl, sys
KEY = sys.argv[1]
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Api(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *a): pass
    def do_HEAD(self): self.answer(200, b"")
    def do_GET(self): self.answer(404, b"{}")
    def answer(self, code, body, kind="application/json"):
        self.send_response(code); self.send_header("content-type", kind); self.send_header("content-length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def do_POST(self):
        length = int(self.headers.get("content-length") or 0)
        asked = self.rfile.read(length)
        key = self.headers.get("x-api-key") or self.headers.get("authorization") or ""
        print(self.path, "with the key" if KEY in key else "without", flush=True)
        if not self.path.startswith("/v1/messages"): return self.answer(404, b"{}")
        if "count_tokens" in self.path: return self.answer(200, b'{"input_tokens": 5}')
        try: body = json.loads(asked)
        except Exception: return self.answer(400, b"{}")
        text = "The answer is forty-two."
        message = {"id": "msg_1", "type": "message", "role": "assistant", "model": body.get("model", "m"), "content": [], "stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 5, "output_tokens": 1}}
        if not body.get("stream"):
            message["content"] = [{"type": "text", "text": text}]; message["stop_reason"] = "end_turn"
            return self.answer(200, json.dumps(message).encode())
        events = [("message_start", {"type": "message_start", "message": message}),
          ("content_block_start", {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
          ("content_block_delta", {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}),
          ("content_block_stop", {"type": "content_block_stop", "index": 0}),
          ("message_delta", {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 9}}),
          ("message_stop", {"type": "message_stop"})]
        data = "".join("event: %s\ndata: %s\n\n" % (n, json.dumps(d)) for n, d in events).encode()
        self.answer(200, data, "text/event-stream")
server = ThreadingHTTPServer(("0.0.0.0", 443), Api)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); context.load_cert_chain("/origin/leaf.pem", "/origin/leaf.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"#;

/// Assembled at run time, so that scanners of repositories do not take it for a real key.
fn key() -> String {
    format!("sk-ant-api03-{}-{}AA", "0123456789abcdef".repeat(5), "wxyz-WXYZ_012")
}

/// Writes a manifest, a project and the API's files.
fn prepare(folder: &Path) -> PathBuf {
    let origin = folder.join("origin");
    std::fs::create_dir(&origin).unwrap();
    certificates(&origin, &[API, OTHER]);
    std::fs::write(origin.join("api.py"), SERVER).unwrap();
    std::fs::create_dir(folder.join("project")).unwrap();
    std::fs::write(folder.join("project/README"), "hello\n").unwrap();
    let manifest = format!(
        "bottles:
  dev:
    image: {DEBIAN}
    env: {{ANTHROPIC_API_KEY: \"${{ANTHROPIC_API_KEY}}\"}}
    keep: never
    egress: {{allow: [{OTHER}], roots: [origin/root.pem], ip_allow: [10.213.0.0/16, 172.29.0.0/16]}}
agents:
  researcher: {{bottle: dev, template: claude, prompt: You answer in one sentence.}}
  shell: {{bottle: dev, template: claude, command: [sh, -c, sleep 1000]}}
"
    );
    let path = folder.join("bottler.yaml");
    std::fs::write(&path, manifest).unwrap();
    path
}

fn start_api(bottle: &str, folder: &Path) -> Origin {
    // The address can only be reused once egress has its own.
    wait_for("egress", || {
        let state = ["inspect", "-f", "{{.State.Running}}", &format!("{bottle}-egress")];
        let output = Command::new("docker").args(state).output().unwrap();
        (output.stdout == b"true\n").then_some(())
    });
    Origin::start(bottle, &[API, OTHER], DEBIAN, &folder.join("origin"), &["python3", "/origin/api.py", &key()])
}

#[test]
fn the_real_claude_answers_without_a_terminal_and_its_key_goes_to_its_host_alone() {
    let world = World::new();
    Debian::import();
    let folder = tempfile::tempdir().unwrap();
    let manifest = prepare(folder.path());
    let manifest = manifest.to_str().unwrap();
    let mut command = world.command(&["run", "researcher", "--manifest", manifest, "--name", "headless", "--headless"]);
    command.args(["--prompt", "What is the answer?"]).current_dir(folder.path().join("project"));
    let child = command.env("ANTHROPIC_API_KEY", key()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let api = start_api("headless", folder.path());
    let done = finish(child);
    assert_eq!((done.code(), done.stdout.as_str()), (0, "The answer is forty-two.\n"), "{}", done.stderr);
    assert!(api.log().contains("/v1/messages?beta=true with the key"), "{}", api.log());
    assert!(!done.stderr.contains(&key()));
    drop(api);

    let mut command = world.command(&["run", "shell", "--manifest", manifest, "--name", "keys", "-d"]);
    command.current_dir(folder.path().join("project")).env("ANTHROPIC_API_KEY", key());
    let launched: Done = command.output().unwrap().into();
    assert_eq!(launched.code(), 0, "{}", launched.stderr);
    let api = start_api("keys", folder.path());
    let inside = |script: &str| world.run(&["exec", "keys", "--", "sh", "-c", script]).stdout;
    let post = |host: &str, more: &str| {
        inside(&format!("curl -sS -m 20 -w ' %{{http_code}}' {more} -d '{{}}' https://{host}/v1/messages 2>&1"))
    };
    wait_for("the API", || post(API, "").contains("forty-two").then_some(()));
    // It has a placeholder, which egress takes for the key at its host, and lets go nowhere else.
    let with_key = "-H \"x-api-key: $ANTHROPIC_API_KEY\"";
    assert!(!inside("env").contains(&key()));
    assert!(post(API, with_key).contains("forty-two"), "{}", post(API, with_key));
    assert!(post(OTHER, "").contains("forty-two"));
    let refused = post(OTHER, with_key);
    assert!(refused.contains("refused by bottler"), "{refused}");
    // Another key of this form does not pass at the key's host.
    let similar = post(API, &format!("-H 'x-api-key: {}'", key().replace("0123", "3210")));
    assert!(similar.contains("refused by bottler"), "{similar}");
    let log = api.log();
    assert_eq!(log.matches("with the key").count(), 1, "{log}");
    // The real program shows the reason, does not blame the key, and does not retry.
    let token = ["ghp_", "wWPw5k4aXcaT4fNP0UcnZwJUVFk6LO0pINUx"].concat();
    let keep = format!("keep $(printf %s {token} | base64 -w 0)");
    let said = inside(&format!("timeout 60 claude --dangerously-skip-permissions -p \"{keep}\" 2>&1; echo code=$?"));
    assert!(said.contains("API Error: 400 refused by bottler: secret_found") && said.contains("code=1"), "{said}");
    assert!(!said.contains("authenticate") && !api.log().contains("keep"), "{said}");
    // Variables for every CA bundle, the system's own bundle, git's identity, and the user.
    for (script, words) in [
        ("cat /etc/ssl/certs/ca-certificates.crt | grep -c BEGIN", ""),
        (
            "echo $SSL_CERT_DIR $CARGO_HTTP_CAINFO $DENO_CERT",
            "/run/bottler/certs /run/bottler/ca-bundle.pem /run/bottler/ca-bundle.pem",
        ),
        ("whoami; echo ~", "agent\n/home/agent"),
        ("cat /home/agent/.claude.json", "hasCompletedOnboarding"),
    ] {
        assert!(inside(script).contains(words), "{script}: {}", inside(script));
    }
    let certificates: usize = inside("grep -c BEGIN /etc/ssl/certs/ca-certificates.crt").trim().parse().unwrap();
    assert!(certificates > 100, "the image's own and the bottle's: {certificates}");
    assert!(
        inside("env -i curl -sS -m 20 --proxy http://egress:8888 -d '{}' https://other.example.com/v1/messages")
            .contains("forty-two"),
        "without variables too"
    );
    let logs = world.run(&["logs", "keys", "egress"]);
    assert!(logs.code() == 0 && !logs.stdout.contains(&key()), "{}", logs.stderr);
    let inspected = world.run(&["inspect", "keys"]);
    assert!(inspected.json()["state"] == "running" && !inspected.stdout.contains(&key()));
    drop(api);
    assert_eq!(world.run(&["stop", "keys"]).code(), 0);
    assert_eq!(world.run(&["stop", "keys"]).code(), 120);
    world.assert_clean();
}

/// In tmux: Claude's own screen, with the terminal filter in between; leaving, attaching, resizing, ending; then the
/// terminal is restored.
#[test]
fn the_real_claude_is_talked_to_at_a_terminal() {
    let world = World::new();
    Debian::import();
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path());
    let tmux = Tmux::new(&folder.path().join("project"));
    let state = world.state.path().display();
    let bottler = bottler().display().to_string();
    tmux.line(&format!("export XDG_STATE_HOME={state} XDG_CONFIG_HOME={state} ANTHROPIC_API_KEY={}; clear", key()));
    tmux.line(&format!("{bottler} run researcher --manifest ../bottler.yaml --name talk --yes; echo code=$?"));
    let _api = start_api("talk", folder.path());
    tmux.wait("The answer is forty-two.");
    tmux.line("and the question?");
    tmux.wait("and the question?\n\n● The answer is forty-two.");
    tmux.keys(&["C-p", "C-q"]);
    tmux.wait("talk keeps running");
    tmux.wait("code=0");
    assert!(world.agent_running("claude").is_some(), "it goes on");
    tmux.line(&format!("clear; {bottler} attach talk; echo code=$?"));
    tmux.wait("and the question?");
    tmux.resize(100, 30);
    let size = || world.run(&["exec", "talk", "--", "sh", "-c", "stty size < /dev/pts/0"]).stdout;
    wait_for("the size", || (size() == "30 100\n").then_some(()));
    tmux.line("/exit");
    tmux.wait("code=0");
    // The terminal echoes input, and line ends are as before.
    tmux.line("clear; echo still-$((40 + 2))");
    let screen = tmux.wait("still-42");
    assert!(screen.starts_with("still-42\nready$"), "{screen}");
    world.wait_gone(crate::support::process::PATIENCE);
}

/// A shell on a terminal: its exit code, its own Ctrl-C, an outside signal that ends it, the restored terminal.
#[test]
fn a_terminal_is_given_and_taken_back() {
    let world = World::new();
    Debian::import();
    let folder = tempfile::tempdir().unwrap();
    let tmux = Tmux::new(folder.path());
    let state = world.state.path().display();
    let bottler = bottler().display().to_string();
    tmux.line(&format!("export XDG_STATE_HOME={state} XDG_CONFIG_HOME={state}; clear"));
    tmux.line(&format!("{bottler} run shell --image {DEBIAN} --name term; echo code=$?"));
    wait_for("the agent", || world.agent_running("/bin/sh"));
    tmux.wait("$");
    tmux.line("PS1='inside> '; stty size; tty");
    tmux.wait("50 180");
    tmux.line("sleep 1000");
    wait_for("the command", || world.agent_running("sleep 1000"));
    tmux.keys(&["C-c"]);
    wait_for("the command's end", || world.agent_running("sleep 1000").is_none().then_some(()));
    // Sequences that set a title or the clipboard are removed on a terminal, but not in a pipe.
    tmux.line("printf '\\033]0;evil\\007\\033]52;c;ZXZpbA==\\007fine\\n'");
    tmux.wait("\nfine");
    tmux.line("exit 7");
    tmux.wait("code=7");
    // An outside signal ends the client: the bottle is removed, and the terminal is restored.
    tmux.line(&format!("clear; {bottler} run shell --image {DEBIAN} --name term; echo code=$?"));
    wait_for("the agent", || world.agent_running("/bin/sh"));
    let clients = wait_for("the client", || {
        let found = Command::new("pgrep").args(["-f", "run shell --image .* --name term"]).output().unwrap();
        let pids: Vec<i32> =
            String::from_utf8_lossy(&found.stdout).lines().filter_map(|pid| pid.parse().ok()).collect();
        let is_ours =
            |pid: &i32| std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == Path::new(&bottler));
        pids.into_iter().find(is_ours)
    });
    kill(Pid::from_raw(clients), Signal::SIGTERM).unwrap();
    tmux.wait("code=126");
    tmux.line("clear; echo still-$((40 + 2))");
    assert!(tmux.wait("still-42").starts_with("still-42\nready$"));
    world.wait_gone(crate::support::process::PATIENCE);
}

/// An image with one file, for any user; and all places where the agent's secrets must not be, during and after its
/// life. The secrets come from the terminal, a file and the host.
#[test]
fn promise_07_what_the_manifest_gives_is_the_agents_alone_also_in_an_image_without_a_shell() {
    // Held, so that the image cache is emptied after this as well.
    let world = World::new();
    Debian::import();
    let root = tempfile::tempdir().unwrap();
    std::fs::copy("/bin/busybox", root.path().join("busybox")).unwrap();
    let tag = "bottler-test:only";
    let import = format!("tar -C {} -c . | docker import - {tag}", root.path().display());
    assert!(Command::new("sh").args(["-c", &import]).stdout(Stdio::null()).status().unwrap().success());
    let folder = tempfile::tempdir().unwrap();
    let (asked, filed, hosted) = ("asked-asked-asked", "filed-filed-filed", "hosted-hosted-hosted");
    std::fs::write(folder.path().join("a.env"), format!("FILED={filed}\n")).unwrap();
    std::fs::write(
        folder.path().join("bottler.yaml"),
        format!(
            "bottles: {{b: {{image: '{tag}', user: '4711:4712', env: {{ASKED: '?Paste it', HOSTED: 'x-${{HOSTED}}', PLAIN: plain}}, \
             env_file: [a.env], workspace: {{mode: none}}}}}}\nagents: {{a: {{bottle: b, template: shell, prompt: Do it., \
             command: [/busybox, sh, -c, '/busybox id; /busybox env; /busybox cat $HOME/.bottler/prompt.md; exec /busybox sleep 1000']}}}}\n"
        ),
    )
    .unwrap();
    let tmux = Tmux::new(folder.path());
    let state = world.state.path().display();
    tmux.line(&format!("export XDG_STATE_HOME={state} XDG_CONFIG_HOME={state}; clear"));
    tmux.line(&format!(
        "HOSTED={hosted} {} run a --manifest bottler.yaml --name secrets --yes; echo code=$?",
        bottler().display()
    ));
    tmux.wait("ASKED: Paste it:");
    tmux.line(asked);
    let screen = tmux.wait("Do it.");
    for words in [
        "uid=4711(agent) gid=4712(agent)",
        "HOME=/home/agent",
        "PLAIN=plain",
        "SSL_CERT_FILE=/run/bottler/ca-bundle.pem",
    ] {
        assert!(screen.contains(words), "{words}: {screen}");
    }
    for (name, value) in [("ASKED", asked), ("FILED", filed), ("HOSTED", "x-hosted-hosted-hosted")] {
        assert!(screen.contains(&format!("{name}={value}")), "the agent has it: this test can fail: {screen}");
    }
    let told = world.run(&["exec", "secrets", "--", "/busybox", "env"]).stdout;
    assert!(told.contains(&format!("ASKED={asked}")), "so has what the operator runs beside it: {told}");
    let passwd = world.run(&["exec", "secrets", "--", "/busybox", "cat", "/etc/passwd"]).stdout;
    assert!(passwd.contains("agent:x:4711:4712:agent:/home/agent"), "{passwd}");
    let images = docker(&["inspect", "-f", "{{.Image}}", "secrets", "secrets-egress"]);
    let everywhere = |when: &str| {
        let mut places = Vec::new();
        for object in world.objects() {
            places.push(Command::new("docker").args(["inspect", &object]).output().unwrap().stdout);
            // The agent's own output is excluded.
            if object != "secrets" {
                places.push(Command::new("docker").args(["logs", &object]).output().unwrap().stdout);
            }
        }
        for image in images.lines() {
            places.push(docker(&["history", "--no-trunc", image]).into_bytes());
            places.push(Command::new("docker").args(["save", image]).output().unwrap().stdout);
        }
        places.push(Command::new("ps").args(["-eo", "args"]).output().unwrap().stdout);
        let find =
            ["-r", "-a", "--devices=skip", "-h", "", &world.state.path().display().to_string()].map(str::to_owned);
        places.push(Command::new("grep").args(find).output().unwrap().stdout);
        for pid in world.processes("holder").into_iter().chain(world.processes("reaper")) {
            places.push(std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default());
            places.push(std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default());
        }
        assert!(places.iter().map(Vec::len).sum::<usize>() > 1 << 20, "there was something to look at");
        for (place, bytes) in places.iter().enumerate() {
            for secret in [asked, filed, hosted] {
                let found = memchr::memmem::find(bytes, secret.as_bytes()).is_some();
                assert!(!found, "{secret} in place {place}, {when}");
            }
        }
    };
    everywhere("while it is_alive");
    assert_eq!(world.run(&["stop", "secrets"]).code(), 0);
    tmux.wait("code=126");
    everywhere("after it ended");
    // Not the whole cache, which other tests use.
    docker(&["rmi", "-f", images.lines().next().unwrap(), tag]);
    world.assert_clean();
}
