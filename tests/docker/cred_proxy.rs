//! The cred-proxy in a bottle: real clients use its routes, and neither the value nor a placeholder is in the agent.

use std::path::Path;

use serde_json::Value;

use crate::support::images::{DEBIAN, Debian};
use crate::support::origin::{Origin, certificates, docker};
use crate::support::process::{Done, World, wait_for};

const API: &str = "api.example.com";
const INDEX: &str = "pypi.example.com";
const GIT: &str = "git.example.com";
const VALUE: &str = "value-of-a-route-0123456789";

/// Answers 401 without the value in the host's own slot; shows the request's target, serves a package index and a repository.
const SERVER: &str = r#"
import base64, ssl
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
VALUE = open("/origin/value").read()
BASIC = "Basic " + base64.b64encode(b"__token__:" + VALUE.encode()).decode()
WANTED = {"api.example.com": "Bearer " + VALUE, "pypi.example.com": BASIC, "git.example.com": BASIC}
class Server(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def __init__(self, *a): super().__init__(*a, directory="/origin/files")
    def log_message(self, *a): pass
    def reply(self, status, body):
        self.send_response(status); self.send_header("content-length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def do_GET(self):
        held = self.headers.get_all("authorization") or []
        host = self.headers["host"]
        print(host, self.path, "has" if held == [WANTED.get(host)] else "lacks", flush=True)
        if held != [WANTED.get(host)]: return self.reply(401, b"no credential\n")
        if host == "api.example.com": return self.reply(200, ("path %s %s\n" % (self.path, held[0])).encode())
        super().do_GET()
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        print("POST", self.path, self.headers["authorization"] == WANTED["api.example.com"], flush=True)
        self.reply(200, b"got " + body)
server = ThreadingHTTPServer(("0.0.0.0", 443), Server)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); context.load_cert_chain("/origin/leaf.pem", "/origin/leaf.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"#;

/// The origin's files: a package index with one package, and a repository for git's dumb protocol.
const FILES: &str = r#"
mkdir -p files/simple/thing files/packages repo
cd repo && git init -q -b main && echo here > README && git add . && git -c user.name=a -c user.email=a@b commit -qm first && cd ..
git clone -q --bare repo files/repository.git && git -C files/repository.git update-server-info
mkdir -p wheel/thing-1.0.dist-info && cd wheel && echo 'WORD = "installed"' > thing.py
printf 'Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n' > thing-1.0.dist-info/METADATA
printf 'Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n' > thing-1.0.dist-info/WHEEL
printf 'thing.py,,\nthing-1.0.dist-info/METADATA,,\nthing-1.0.dist-info/WHEEL,,\nthing-1.0.dist-info/RECORD,,\n' > thing-1.0.dist-info/RECORD
python3 -c "import zipfile,sys; z=zipfile.ZipFile('../files/simple/thing/thing-1.0-py3-none-any.whl','w'); [z.write(n) for n in sys.argv[1:]]" thing.py thing-1.0.dist-info/*
echo '<a href="thing-1.0-py3-none-any.whl">thing-1.0-py3-none-any.whl</a>' > ../files/simple/thing/index.html
"#;

fn prepare(folder: &Path, source: &str, cred_proxy: &str) {
    let origin = folder.join("origin");
    std::fs::create_dir(&origin).unwrap();
    certificates(&origin, &[API, INDEX, GIT]);
    std::fs::write(origin.join("server.py"), SERVER).unwrap();
    std::fs::write(origin.join("value"), VALUE).unwrap();
    let made = std::process::Command::new("sh").args(["-ec", FILES]).current_dir(&origin).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    std::fs::create_dir(folder.join("project")).unwrap();
    let manifest = format!(
        "bottles:
  dev:
    image: {DEBIAN}
    credentials:
      - name: routed
        source: {source}
        hosts: [{API}, {{host: {INDEX}, slot: 'basic:__token__'}}, {{host: {GIT}, slot: 'basic:__token__'}}]
    cred_proxy: {cred_proxy}
    bridge: {{set_rp_filter: true}}
    workspace: {{mode: none}}
    egress: {{allow: [{API}, {INDEX}, {GIT}], roots: [origin/root.pem], ip_allow: [10.213.0.0/16, 172.29.0.0/16]}}
agents:
  dev: {{bottle: dev, command: [sleep, '1000']}}
"
    );
    std::fs::write(folder.join("bottler.yaml"), manifest).unwrap();
}

fn launch(world: &World, folder: &Path, id: &str, more: &[&str]) -> Done {
    world.launching(folder, id, more).env("ROUTED", VALUE).output().unwrap().into()
}

const ROUTES: &str = "{routes: [
      {path: anthropic, upstream: 'https://api.example.com', credential: routed, role: anthropic-base-url},
      {path: openai, upstream: 'https://api.example.com/v1', credential: routed, methods: [POST], role: openai-base-url},
      {path: pip, upstream: 'https://pypi.example.com/simple', credential: routed, role: pip-index},
      {path: git, upstream: 'https://git.example.com', credential: routed, role: git-insteadof},
      {path: tea, upstream: 'https://git.example.com/api', credential: routed, role: tea-login}]}";

#[test]
fn promise_08_routes_lead_real_clients_to_their_hosts_and_the_agent_has_no_credential() {
    for isolation in ["sealed", "bridge"] {
        let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
        Debian::import();
        prepare(folder.path(), "env:ROUTED", ROUTES);
        let id = format!("routes-{isolation}");
        let launched = launch(&world, folder.path(), &id, &["--isolation", isolation]);
        assert_eq!(launched.code(), 0, "{}", launched.stderr);
        assert!(
            launched.stderr.contains("the agent has no placeholder; routes of cred_proxy use it"),
            "{}",
            launched.stderr
        );
        let command = ["python3", "/origin/server.py"];
        let origin = Origin::start(&id, &[API, INDEX, GIT], DEBIAN, &folder.path().join("origin"), &command);
        let inside = |script: &str| world.inside(&id, script);
        // By name from the first call on, and by egress for a client that ignores NO_PROXY.
        let reply = wait_for("the API", || {
            let reply = inside("curl -sS -m 20 \"$ANTHROPIC_BASE_URL/v1/models?a=1\"");
            reply.contains("path /").then_some(reply)
        });
        assert!(reply.starts_with("path /v1/models?a=1 Bearer ") && !reply.contains(VALUE), "{reply}");
        let by_egress = inside("curl -sS -m 20 --noproxy '' -x \"$HTTP_PROXY\" http://cred-proxy:9099/anthropic/x");
        assert!(by_egress.starts_with("path /x Bearer "), "{by_egress}");
        let posted = inside("curl -sS -m 20 -d '{\"model\": 1}' \"$OPENAI_BASE_URL/responses\"");
        assert_eq!(posted, "got {\"model\": 1}");
        assert!(origin.log().contains("POST /v1/responses True"), "{}", origin.log());
        for (target, words) in
            [("openai/x", "for POST only"), ("none/", "/anthropic/"), ("anthropic/%2e%2e/x", "not accepted")]
        {
            let refused = inside(&format!("curl -sS -m 20 --path-as-is http://cred-proxy:9099/{target}"));
            assert!(refused.contains(words), "{target}: {refused}");
        }
        // pip and git, without a change to what they are asked.
        let installed = inside(
            "pip install --quiet --target /tmp/there thing 2>&1; PYTHONPATH=/tmp/there python3 -c 'import thing; print(thing.WORD)'",
        );
        assert!(installed.contains("installed"), "{installed}; {}", origin.log());
        let cloned = inside("cd /tmp && git clone -q https://git.example.com/repository.git && cat repository/README");
        assert_eq!(cloned.trim(), "here", "{}", origin.log());
        assert!(inside("cat ~/.config/tea/config.yml").contains("url: http://cred-proxy:9099/tea"));
        // The agent has neither the value nor a placeholder.
        let held = placeholder(&reply);
        let everything = inside(
            "env; cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'; grep -r -h -a '' ~ /run /tmp 2>/dev/null",
        );
        assert!(everything.contains("ANTHROPIC_BASE_URL"), "this test can fail");
        assert!(!everything.contains(VALUE) && !everything.contains(held), "{everything}");
        let sidecar = format!("{id}-cred-proxy");
        let exported = docker(&["inspect", &sidecar]);
        assert!(!exported.contains(VALUE) && !exported.contains(held));
        let events = world.run(&["audit", "show", &id, "--format", "json"]).json();
        let used = events.as_array().unwrap().iter().filter(|event| event["code"] == "credential_used");
        let used: u64 =
            used.map(|event| if event["client"] == "cred-proxy" { event["count"].as_u64().unwrap() } else { 0 }).sum();
        assert!(used >= 6, "{events}");
        // It ends before egress, which it uses.
        drop(origin);
        assert_eq!(world.run(&["stop", &id]).code(), 0);
        world.assert_clean();
    }
}

/// What stands in the place of the value in a response.
fn placeholder(reply: &str) -> &str {
    reply.trim().rsplit(' ').next().unwrap()
}

#[test]
fn a_value_is_renewed_a_cred_proxy_that_died_is_started_again_and_one_that_a_recipe_leaves_out_is_an_error() {
    let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
    Debian::import();
    prepare(folder.path(), "file:token", ROUTES);
    std::fs::write(folder.path().join("token"), "value-of-yesterday-0123456789").unwrap();
    let recipe = folder.path().join("without.lua");
    let plain = "local sidecars = require 'std.sidecars'
return recipe(function(plan)
  local net = { outside = network_create { name = 'outside' } }
  local egress = sidecars.egress(net, plan.egress)
  local agent = run_agent { image = build_image(plan.image), egress = egress, config = plan.agent }
  provision(agent, plan.provision)
  return agent
end)
";
    std::fs::write(&recipe, plain).unwrap();
    let refused = launch(&world, folder.path(), "without", &["--recipe", recipe.to_str().unwrap()]);
    assert_ne!(refused.code(), 0);
    for words in ["routes in `cred_proxy`", "no sidecar named cred-proxy", "sidecars.cred_proxy(net, egress)"] {
        assert!(refused.stderr.contains(words), "{words}: {}", refused.stderr);
    }
    let launched = launch(&world, folder.path(), "again", &[]);
    assert_eq!(launched.code(), 0, "{}", launched.stderr);
    let origin = Origin::start(
        "again",
        &[API, INDEX, GIT],
        DEBIAN,
        &folder.path().join("origin"),
        &["python3", "/origin/server.py"],
    );
    let call = || world.run(&["exec", "again", "--", "sh", "-c", "curl -sS -m 20 $ANTHROPIC_BASE_URL/x"]).stdout;
    // The host does not accept what the file had at the launch; it is read again for the first request.
    std::fs::write(folder.path().join("token"), VALUE).unwrap();
    wait_for("the API", || call().starts_with("path /x").then_some(()));
    let audited = world.run(&["audit", "show", "again", "--format", "json"]).stdout;
    assert!(audited.contains("credential_renewed") && !audited.contains(VALUE), "{audited}");
    docker(&["kill", "again-cred-proxy"]);
    wait_for("the news", || world.run(&["ps"]).stdout.contains("cred-proxy").then_some(()));
    assert_eq!(world.run(&["sidecar", "restart", "again", "cred-proxy"]).code(), 0);
    wait_for("the route", || call().starts_with("path /x").then_some(()));
    let inspected: Value = world.run(&["inspect", "again"]).json();
    assert_eq!(inspected["plan"]["cred_proxy"]["routes"][0]["path"], "anthropic");
    drop(origin);
    assert_eq!(world.run(&["stop", "again"]).code(), 0);
    world.assert_clean();
}
