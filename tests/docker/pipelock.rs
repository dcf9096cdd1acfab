//! `engine: pipelock` with the real program, where `BOTTLER_PIPELOCK` names it. No registry here has its image, and nothing of
//! it is in this repository, so without the variable these tests say that they were skipped.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::images::{DEBIAN, Debian};
use crate::support::origin::{Origin, certificates, docker};
use crate::support::process::{Done, World, wait_for};

const API: &str = "api.example.com";
const OTHER: &str = "other.example.com";
const HELD: &str = "held.example.com";
const GIT: &str = "git.example.com";
const VALUE: &str = "value-of-a-credential-0123456789";
/// A number that Pipelock's rule for credit cards finds, and none of bottler's rules.
const CARD: &str = "4111111111111111";

/// Shows what arrived.
const SERVER: &str = r#"
import os, ssl, subprocess
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Server(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *a): pass
    def answer(self, body):
        print(self.command, self.headers["host"], self.path, body, self.headers["authorization"], flush=True)
        text = ("%s %s %s" % (self.command, self.path, body)).encode()
        self.send_response(200); self.send_header("content-length", str(len(text))); self.end_headers(); self.wfile.write(text)
    def do_GET(self):
        if self.headers["host"] != "git.example.com": return self.answer("")
        self.git("advertisement", b"001e# service=git-upload-pack\n0000", ["--advertise-refs"], b"")
    def git(self, what, before, options, asked):
        command = ["git", "-c", "safe.directory=*", "upload-pack", "--stateless-rpc", *options, "/origin/files/lib.git"]
        env = {**os.environ, "GIT_PROTOCOL": self.headers.get("git-protocol", "")}
        body = before + subprocess.run(command, input=asked, capture_output=True, env=env).stdout
        self.send_response(200); self.send_header("content-type", "application/x-git-upload-pack-" + what)
        self.send_header("content-length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers["host"] == "git.example.com": return self.git("result", b"", [], body)
        self.answer(body.decode())
def serve(port, tls):
    server = ThreadingHTTPServer(("0.0.0.0", port), Server)
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); context.load_cert_chain("/origin/leaf.pem", "/origin/leaf.key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
    return server
import threading
threading.Thread(target=serve(80, False).serve_forever, daemon=True).start()
serve(443, True).serve_forever()
"#;

/// An image with the program alone; its id. `None` without the program.
fn image() -> Option<String> {
    let Some(program) = std::env::var_os("BOTTLER_PIPELOCK") else {
        eprintln!("SKIPPED: set BOTTLER_PIPELOCK to the program of Pipelock to run this test");
        return None;
    };
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(program, folder.path().join("pipelock")).unwrap();
    let mut tar = Command::new("tar")
        .args(["-C", folder.path().to_str().unwrap(), "-c", "pipelock"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let import = Command::new("docker")
        .args(["import", "--change", "ENTRYPOINT [\"/pipelock\"]", "-", "bottler-test-pipelock"])
        .stdin(tar.stdout.take().unwrap())
        .output()
        .unwrap();
    assert!(tar.wait().unwrap().success() && import.status.success(), "{}", String::from_utf8_lossy(&import.stderr));
    Some(docker(&["inspect", "-f", "{{.Id}}", "bottler-test-pipelock"]).trim().to_owned())
}

fn prepare(folder: &Path, image: &str) {
    let origin = folder.join("origin");
    std::fs::create_dir(&origin).unwrap();
    certificates(&origin, &[API, OTHER, HELD, GIT]);
    std::fs::write(origin.join("server.py"), SERVER).unwrap();
    let script = "git init -q -b main work; cd work; printf 'hello\\n' > README; git add .
        git -c user.name=a -c user.email=a@b commit -qm first; cd ..; mkdir files
        git clone -q --bare work files/lib.git; rm -r work";
    let made = Command::new("sh").args(["-ec", script]).current_dir(&origin).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    std::fs::create_dir(folder.join("project")).unwrap();
    let manifest = format!(
        "bottles:
  dev:
    image: {DEBIAN}
    env: {{KNOWN: \"${{KNOWN}}\"}}
    credentials:
      - {{name: held, source: 'env:HELD', env: HELD, hosts: [{HELD}]}}
    cred_proxy: {{routes: [{{path: held, upstream: 'https://{HELD}', credential: held}}]}}
    git: [{{url: 'https://{GIT}/lib.git'}}]
    bridge: {{set_rp_filter: true}}
    workspace: {{mode: none}}
    egress:
      engine: pipelock
      image: {image}
      allow: [{API}, {HELD}, {{host: {GIT}, methods: [GET]}}]
      roots: [origin/root.pem]
      ip_allow: [10.213.0.0/16, 172.29.0.0/16]
agents:
  dev: {{bottle: dev, command: [sleep, '1000']}}
"
    );
    std::fs::write(folder.join("bottler.yaml"), manifest).unwrap();
}

fn launch(world: &World, folder: &Path, id: &str, more: &[&str]) -> Done {
    let mut command = world.launching(folder, id, more);
    command.env("HELD", VALUE).env("KNOWN", "a-secret-of-the-bottle").output().unwrap().into()
}

fn start(id: &str, folder: &Path) -> Origin {
    let command = ["python3", "/origin/server.py"];
    Origin::start(id, &[API, OTHER, HELD, GIT], DEBIAN, &folder.join("origin"), &command)
}

/// Whether the audit has an event with this code.
fn audited(world: &World, id: &str, code: &str) -> bool {
    let events = world.run(&["audit", "show", id, "--format", "json"]).json();
    events.as_array().unwrap().iter().any(|event| event["code"] == code)
}

/// Pipelock's refusal has the form of bottler's own, and its own words.
#[track_caller]
fn assert_refused(response: &str) {
    let (body, status) = response.rsplit_once('\n').unwrap();
    let error: Value = serde_json::from_str(body).unwrap();
    let message = error["error"]["message"].as_str().unwrap();
    assert_eq!((status, &error["error"]["code"]), ("400", &"pipelock_refused".into()), "{response}");
    assert!(message.contains("Pipelock refuses it: ") && message.contains("scan: off"), "{response}");
}

#[test]
fn pipelock_inspects_what_bottler_lets_pass_and_everything_beside_it_works() {
    let Some(image) = image() else { return };
    for isolation in ["sealed", "bridge"] {
        let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
        Debian::import();
        prepare(folder.path(), &image);
        let id = format!("pipelock-{isolation}");
        let launched = launch(&world, folder.path(), &id, &["--isolation", isolation]);
        assert_eq!(launched.code(), 0, "{}", launched.stderr);
        for words in
            ["by Pipelock, too", "NOT by Pipelock, but by bottler: held.example.com, the routes of cred_proxy, git"]
        {
            assert!(launched.stderr.contains(words), "{words}: {}", launched.stderr);
        }
        let origin = start(&id, folder.path());
        let inside = |script: &str| world.inside(&id, script);
        wait_for("the destination", || {
            inside("curl -sS -m 20 http://api.example.com/").contains("GET /").then_some(())
        });
        for version in ["--http1.1", "--http2"] {
            let get = inside(&format!("curl -sS -m 20 {version} https://api.example.com/get"));
            assert_eq!(get, "GET /get ", "{version}: {}", origin.log());
            let post = inside(&format!("curl -sS -m 20 {version} -d 'a=1' https://api.example.com/post"));
            assert_eq!(post, "POST /post a=1", "{version}: {}", origin.log());
            // What bottler refuses does not reach Pipelock; what only Pipelock finds, it refuses.
            let refused = inside(&format!("curl -sS -m 20 {version} https://other.example.com/"));
            assert!(refused.contains("host_not_allowed"), "{refused}");
            let refused = inside(&format!("curl -sS -m 20 {version} -d \"k=$KNOWN\" https://api.example.com/"));
            assert!(refused.contains("secret_found"), "{refused}");
            let status =
                format!("curl -sS -m 20 -w '%{{http_code}}' {version} -d 'card={CARD}' https://api.example.com/card");
            assert_refused(&inside(&status));
            let status = format!(
                "curl -sS -m 20 -w '%{{http_code}}' {version} -H 'x-card: {CARD}' https://api.example.com/card"
            );
            assert_refused(&inside(&status));
        }
        assert!(!origin.log().contains(CARD), "{}", origin.log());
        wait_for("its events", || audited(&world, &id, "pipelock_body_dlp").then_some(()));
        assert!(audited(&world, &id, "pipelock_header_dlp"));
        let private = inside("curl -sS -m 20 http://127.0.0.1:8889/health --noproxy '' -x \"$HTTP_PROXY\"");
        assert!(private.contains("address_not_public"), "{private}");
        // Pipelock's own pages are not reached.
        let page = inside("curl -sS -m 20 --noproxy '*' \"$HTTP_PROXY/fetch?url=https://api.example.com/\"");
        assert!(!page.contains("GET /"), "{page}");
        // A credential, a route and a repository work beside it.
        let own = inside("curl -sS -m 20 -H \"Authorization: Bearer $HELD\" https://held.example.com/own");
        assert_eq!(own, "GET /own ", "{}", origin.log());
        let routed = inside("curl -sS -m 20 http://cred-proxy:9099/held/route");
        assert_eq!(routed, "GET /route ", "{}", origin.log());
        let uses = format!("Bearer {VALUE}");
        assert_eq!(origin.log().matches(&uses).count(), 2, "{}", origin.log());
        assert!(inside("cat ~/.nothing; env").contains("HELD="), "this test can fail");
        assert!(!inside("env").contains(VALUE));
        let cloned = inside("cd && git ls-remote git://git-gate/lib.git 2>&1");
        assert!(cloned.contains("refs/heads/main"), "{cloned}");
        // A change is enforced by both, without a new launch.
        assert_eq!(world.run(&["policy", "allow", &id, OTHER]).code(), 0);
        assert_eq!(inside("curl -sS -m 20 https://other.example.com/later"), "GET /later ", "{}", origin.log());
        let status = format!("curl -sS -m 20 -w '%{{http_code}}' -d 'c={CARD}' https://other.example.com/");
        assert_refused(&inside(&status));
        assert_eq!(world.run(&["policy", "deny", &id, OTHER]).code(), 0);
        assert!(inside("curl -sS -m 20 https://other.example.com/").contains("denied"));
        // Neither its files nor the key of the bottle's CA are where somebody else reads them.
        let listed = docker(&["exec", &format!("{id}-egress"), "/bottler", "--version"]);
        assert!(listed.contains("bottler"));
        let inspected = docker(&["inspect", &format!("{id}-egress")]);
        assert!(!inspected.contains(VALUE) && !inspected.contains("a-secret-of-the-bottle"));
        drop(origin);
        assert_eq!(world.run(&["stop", &id]).code(), 0);
        world.assert_clean();
    }
}

#[test]
fn pipelock_that_dies_pauses_the_agent_and_is_gone_after_a_kill() {
    let Some(image) = image() else { return };
    let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
    Debian::import();
    prepare(folder.path(), &image);
    let launched = launch(&world, folder.path(), "pipelock-dies", &[]);
    assert_eq!(launched.code(), 0, "{}", launched.stderr);
    let origin = start("pipelock-dies", folder.path());
    let inside = |script: &str| world.run(&["exec", "pipelock-dies", "--", "sh", "-c", script]).stdout;
    wait_for("the destination", || inside("curl -sS -m 20 https://api.example.com/").contains("GET /").then_some(()));
    let top = docker(&["top", "pipelock-dies-egress", "-eo", "pid,args"]);
    let line = top.lines().find(|line| line.contains("/pipelock run")).unwrap();
    let pid = line.split_whitespace().next().unwrap().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    let dead = wait_for("the news", || {
        let shown: Value = world.run(&["inspect", "pipelock-dies"]).json();
        shown.to_string().contains("egress").then(|| world.run(&["ps"]).stdout).filter(|ps| ps.contains("egress"))
    });
    assert!(dead.contains("pipelock-dies"), "{dead}");
    let restarted = world.run(&["sidecar", "restart", "pipelock-dies", "egress"]);
    assert_eq!(restarted.code(), 0, "{}", restarted.stderr);
    wait_for("the way out", || inside("curl -sS -m 20 https://api.example.com/").contains("GET /").then_some(()));
    drop(origin);
    for pid in world.processes("holder") {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    }
    wait_for("the end", || docker(&["ps", "-aq", "--filter", "name=pipelock-dies"]).trim().is_empty().then_some(()));
    wait_for("the record's end", || world.bottles().is_empty().then_some(()));
    world.assert_clean();
}
