//! The git gate in a bottle: the agent's unmodified git uses the URLs that people use, has no key, and pushes nothing
//! that was not inspected.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::images::{DEBIAN, Debian};
use crate::support::origin::{Origin, certificates, docker};
use crate::support::process::{Done, World, wait_for};

const FORGE: &str = "git.example.com";
const SSH: &str = "ssh.example.com";
const VALUE: &str = "value-of-a-forge-token-0123456789";
pub(super) const SECRET: &str = "correct-horse-battery-staple";

/// A forge: `git http-backend` behind TLS, which wants the token, and the little of GitHub's API that gh asks, whatever it
/// asks about; and OpenSSH's server.
const SERVER: &str = r#"
import base64, json, os, re, ssl, subprocess
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
WANTED = "Basic " + base64.b64encode(b"x-access-token:" + open("/origin/value", "rb").read()).decode()
TOKEN = "token " + open("/origin/value").read()
OWNER = {"id": "U1", "login": "acme", "name": "acme"}
REPOSITORY = {"id": "R1", "name": "lib", "nameWithOwner": "acme/lib", "owner": OWNER, "viewerPermission": "WRITE", "parent": None,
    "hasIssuesEnabled": True, "hasWikiEnabled": False, "isPrivate": True, "defaultBranchRef": {"name": "main"},
    "pullRequest": {"id": "P7", "number": 7, "state": "OPEN", "headRefName": "theirs", "baseRefName": "main",
        "headRepository": {"id": "R2", "name": "lib"}, "headRepositoryOwner": {"id": "U2", "login": "stranger"},
        "isCrossRepository": True, "maintainerCanModify": False, "url": "https://git.example.com/acme/lib/pull/7"},
    "pullRequests": {"nodes": [], "totalCount": 0}}
DATA = {"viewer": OWNER, "repository": REPOSITORY,
    "createPullRequest": {"pullRequest": {"id": "P8", "url": "https://git.example.com/acme/lib/pull/8"}}}
def answer(query):
    """What a query selects of DATA: gh takes no field that it has not asked for."""
    words, fragments, fields = re.findall(r"\.\.\.|\w+|[{}:]", re.sub(r"\([^)]*\)", "", query)), {}, None
    def selection():
        assert words.pop(0) == "{"
        chosen = []
        while words[0] != "}":
            name = words.pop(0)
            if name == "...":
                name = words.pop(0)
                if name == "on": words.pop(0); chosen.append(("...", None, selection()))
                else: chosen.append(("...", name, None))
                continue
            alias, name = (name, words[1]) if words[0] == ":" else (name, name)
            if alias != name or words[0] == ":": del words[:2]
            chosen.append((alias, name, selection() if words[0] == "{" else None))
        words.pop(0)
        return chosen
    while words:
        kind = words.pop(0) if words[0] != "{" else "query"
        name = words[0]
        while words[0] != "{": words.pop(0)
        if kind == "fragment": fragments[name] = selection()
        else: fields = selection()
    def select(chosen, value):
        if isinstance(value, list): return [select(chosen, one) for one in value]
        if chosen is None or value is None: return value
        found = {}
        for alias, name, inner in chosen:
            if alias == "...": found.update(select(inner or fragments[name], value))
            else: found[alias] = select(inner, value.get(name))
        return found
    return {"data": select(fields, DATA)}
class Server(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *a): pass
    def reply(self, status, headers, body):
        self.send_response(status)
        for name, value in headers: self.send_header(name, value)
        self.send_header("content-length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def body(self):
        if self.headers.get("transfer-encoding") != "chunked": return self.rfile.read(int(self.headers.get("content-length", 0)))
        whole = b""
        while True:
            size = int(self.rfile.readline().strip(), 16)
            piece = self.rfile.read(size); self.rfile.readline()
            if size == 0: return whole
            whole += piece
    def serve(self):
        body = self.body()
        held = self.headers.get_all("authorization") or []
        if self.path.startswith("/api/"):
            print(self.command, self.path, "has" if held == [TOKEN] else "lacks", body[:80], flush=True)
            known = held == [TOKEN] and self.path == "/api/graphql"
            text = json.dumps(answer(json.loads(body)["query"]) if known else {"message": "Not Found"}).encode()
            return self.reply(200 if known else 404, [("content-type", "application/json")], text)
        print(self.command, self.path, "has" if held == [WANTED] else "lacks", flush=True)
        if held != [WANTED]: return self.reply(401, [], b"no credential\n")
        path, _, query = self.path.partition("?")
        env = {"PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": "/srv", "GIT_HTTP_EXPORT_ALL": "1", "REMOTE_USER": "agent",
            "PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": self.command, "CONTENT_LENGTH": str(len(body)),
            "CONTENT_TYPE": self.headers.get("content-type", ""), "GIT_PROTOCOL": self.headers.get("git-protocol", ""),
            "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
        done = subprocess.run(["git", "http-backend"], input=body, env=env, capture_output=True)
        head, _, rest = done.stdout.partition(b"\r\n\r\n")
        lines = [line.split(": ", 1) for line in head.decode().splitlines()]
        status = next((int(value[:3]) for name, value in lines if name == "Status"), 200)
        self.reply(status, [pair for pair in lines if pair[0] != "Status"], rest)
    do_GET = do_POST = serve
server = ThreadingHTTPServer(("0.0.0.0", 443), Server)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); context.load_cert_chain("/origin/leaf.pem", "/origin/leaf.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"#;

/// Starts both servers of the origin.
const START: &str = r"
mkdir -p /srv/acme /run/sshd /root/.ssh && cp -r /origin/lib.git /srv/acme/lib.git && cp -r /origin/lib.git /srv/acme/other.git
cp -r /origin/lib.git /srv/app.git && chown -R root:root /srv /origin && git config --system --add safe.directory '*'
for r in /srv/acme/lib.git /srv/acme/other.git /srv/app.git; do git -C $r config http.receivepack true; done
cp /origin/user.pub /root/.ssh/authorized_keys && chmod 600 /origin/host /root/.ssh/authorized_keys
/usr/sbin/sshd -e -o HostKey=/origin/host -o AcceptEnv=GIT_PROTOCOL -o PermitRootLogin=yes -o StrictModes=no
exec python3 /origin/server.py
";

/// A token of a provider's format, which nobody issued. Assembled here, so that repository scanners do not report it.
pub(super) fn token() -> String {
    ["ghp_", "wWPw5k4aXcaT4fNP0UcnZwJUVFk6LO0pINUx"].concat()
}

/// What a test wants otherwise.
pub(super) struct Wish<'a> {
    /// More of the egress.
    pub egress: &'a str,
    /// More of the credential, and of its hosts.
    pub credential: &'a str,
    pub hosts: &'a str,
    /// The key of the repository over ssh.
    pub identity: &'a str,
}

impl Default for Wish<'_> {
    fn default() -> Self {
        Self { egress: "", credential: "", hosts: "", identity: "origin/user" }
    }
}

pub(super) fn prepare(folder: &Path, wish: &Wish<'_>) {
    let Wish { egress, credential, hosts, identity } = wish;
    let origin = folder.join("origin");
    std::fs::create_dir(&origin).unwrap();
    certificates(&origin, &[FORGE]);
    std::fs::write(origin.join("server.py"), SERVER).unwrap();
    std::fs::write(origin.join("start"), START).unwrap();
    std::fs::write(origin.join("value"), VALUE).unwrap();
    let script = "for k in host user; do ssh-keygen -q -t ed25519 -N '' -f $k; done; git init -q -b main work; cd work
        printf 'hello\\n' > README; git add .; git -c user.name=a -c user.email=a@b commit -qm first; cd ..
        git clone -q --bare work lib.git; rm -r work";
    let made = std::process::Command::new("sh").args(["-ec", script]).current_dir(&origin).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    std::fs::create_dir(folder.join("project")).unwrap();
    let host_key = std::fs::read_to_string(origin.join("host.pub")).unwrap();
    let manifest = format!(
        "bottles:
  dev:
    image: {DEBIAN}
    env: {{KNOWN: \"${{KNOWN}}\"}}
    credentials:
      - {{name: forge, source: 'env:FORGE'{credential}, hosts: [{{host: {FORGE}, slot: 'basic:x-access-token'}}{hosts}]}}
    git:
      - {{url: 'https://{FORGE}/acme/lib.git', credential: forge}}
      - {{url: 'root@{SSH}:/srv/app.git', identity_file: {identity}, known_host_key: '{}'}}
    bridge: {{set_rp_filter: true}}
    workspace: {{mode: none}}
    egress: {{roots: [origin/root.pem], ip_allow: [10.213.0.0/16, 172.29.0.0/16]{egress}}}
agents:
  dev: {{bottle: dev, command: [sleep, '1000']}}
",
        host_key.trim()
    );
    std::fs::write(folder.join("bottler.yaml"), manifest).unwrap();
}

pub(super) fn launch(world: &World, folder: &Path, id: &str, more: &[&str], env: &[(&str, &Path)]) -> Done {
    let mut command = world.launching(folder, id, more);
    command.env("FORGE", VALUE).env("KNOWN", SECRET).envs(env.iter().copied()).output().unwrap().into()
}

pub(super) fn start(id: &str, folder: &Path) -> Origin {
    Origin::start(id, &[FORGE, SSH], DEBIAN, &folder.join("origin"), &["sh", "-e", "/origin/start"])
}

#[test]
fn promise_10_an_agent_clones_and_pushes_with_the_urls_that_people_use_and_nothing_is_pushed_unscanned() {
    for isolation in ["sealed", "bridge"] {
        let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
        Debian::import();
        prepare(folder.path(), &Wish::default());
        let id = format!("gate-{isolation}");
        let launched = launch(&world, folder.path(), &id, &["--isolation", isolation], &[]);
        assert_eq!(launched.code(), 0, "{}", launched.stderr);
        for words in ["with the credential forge", "host key ssh-ed25519 SHA256:", "branches agent/*"] {
            assert!(launched.stderr.contains(words), "{words}: {}", launched.stderr);
        }
        let origin = start(&id, folder.path());
        let inside = |script: &str| world.inside(&id, script);
        wait_for("the forge", || {
            inside("git ls-remote https://git.example.com/acme/lib").contains("main").then_some(())
        });
        let urls = [
            "https://git.example.com/acme/lib.git",
            "git@git.example.com:acme/lib.git",
            "ssh://git@git.example.com/acme/lib",
            "git://git.example.com/acme/lib.git",
            "git://git-gate/lib.git",
            "http://git-gate:9418/lib.git",
            "root@ssh.example.com:/srv/app.git",
            "ssh://root@ssh.example.com/srv/app.git",
            "git://git-gate/app.git",
        ];
        for (number, url) in urls.iter().enumerate() {
            let cloned = inside(&format!("cd && git clone -q {url} c{number} && cat c{number}/README"));
            assert_eq!(cloned, "hello\n", "{url}: {}", origin.log());
        }
        assert!(inside("cd ~/c1 && git remote -v").contains("https://git.example.com/acme/lib.git (push)"));
        let user = "git config --global user.name A; git config --global user.email a@example.com; ";
        inside(user);
        for (clone, repository) in [("c1", "/srv/acme/lib.git"), ("c6", "/srv/app.git"), ("c8", "/srv/app.git")] {
            let push = format!(
                "cd ~/{clone} && echo {clone} > work && git add . && git commit -qm work && git push origin HEAD:agent/{clone} 2>&1"
            );
            let pushed = inside(&push);
            assert!(pushed.contains("new branch"), "{pushed}");
            let there = origin.exec(&format!("git -C {repository} rev-parse agent/{clone}"));
            assert_eq!(there, inside(&format!("cd ~/{clone} && git rev-parse HEAD")));
            let refused = inside(&format!("cd ~/{clone} && git push origin HEAD:main 2>&1"));
            assert!(refused.contains("! [remote rejected]") && refused.contains("agent/*"), "{refused}");
        }
        // A secret of the bottle never leaves, a token only when the operator has approved it.
        let commit = |text: &str| {
            inside(&format!(
                "cd ~/c1 && git checkout -qB try origin/main && echo '{text}' > new && git add . && git commit -qm new && git push -f origin HEAD:agent/try 2>&1"
            ))
        };
        let refused = commit(&format!("x={SECRET}"));
        assert!(refused.contains("known-secret) in new line 1") && !refused.contains("git approve"), "{refused}");
        let refused = commit(&format!("x={}", token()));
        assert!(refused.contains("a secret (github-token:") && !refused.contains(&token()), "{refused}");
        let approval =
            refused.split("git approve ").nth(1).and_then(|rest| rest.lines().next()).unwrap().trim().to_owned();
        let (bottle, number) = approval.split_once(' ').unwrap();
        assert_eq!(bottle, id);
        let offers = world.run(&["git", "requests", &id, "--format", "json"]).json();
        assert_eq!(offers.as_array().unwrap().len(), 1, "{offers}");
        assert_eq!(offers[0]["id"], number);
        assert_ne!(world.run(&["git", "approve", &id, "000000000000"]).code(), 0);
        let approved = world.run(&["git", "approve", &id, number]);
        assert_eq!(approved.code(), 0, "{}", approved.stderr);
        let pushed = inside("cd ~/c1 && git push origin HEAD:agent/try 2>&1");
        assert!(pushed.contains("new branch"), "{pushed}");
        // Once is once.
        let again = inside("cd ~/c1 && git commit -q --amend -m other && git push origin HEAD:agent/other 2>&1");
        assert!(again.contains("a secret (github-token:"), "{again}");
        // A protected path.
        let refused = inside(
            "cd ~/c1 && git checkout -qB ci origin/main && mkdir -p .github/workflows && echo on: push > .github/workflows/x.yml && git add . && git commit -qm ci && git push origin HEAD:agent/ci 2>&1",
        );
        assert!(refused.contains("changes .github/workflows/x.yml, which is protected"), "{refused}");
        let approve = |refused: &str, more: &[&str]| {
            let number = refused.split("git approve ").nth(1).and_then(|rest| rest.split_whitespace().nth(1)).unwrap();
            let done = world.run(&[&["git", "approve", id.as_str(), number], more].concat());
            assert_eq!(done.code(), 0, "{}", done.stderr);
            assert!(done.stderr.contains("releases "), "{}", done.stderr);
        };
        // What was approved releases nothing else: neither what comes after many approved findings, nor a path in
        // another commit, whatever a file is called, nor what could not be shown.
        let commit = |files: &str| {
            inside(&format!(
                "cd ~/c1 && git checkout -qB more origin/main && {files} && git add . && git commit -qm more && git push -f origin HEAD:agent/more 2>&1"
            ))
        };
        approve(&commit(&format!("echo {} > a", token())), &["--bottle-wide"]);
        let many = format!("for n in $(seq 60); do echo $n {} > a$n; done; echo {SECRET} > z", token());
        let refused = commit(&many);
        assert!(refused.contains("known-secret) in z line 1") && !refused.contains("git approve"), "{refused}");
        let refused = commit("echo build > Jenkinsfile");
        approve(&refused, &[]);
        let again = "cd ~/c1 && echo evil > Jenkinsfile && echo x > $(git rev-parse HEAD) && git add . && git commit -qm evil && git push origin HEAD:agent/more 2>&1";
        let refused = inside(again);
        assert!(refused.contains("changes Jenkinsfile, which is protected"), "{refused}");
        let refused = commit(&format!("mkdir -p .github/workflows && echo on > .github/workflows/{}.yml", token()));
        assert!(refused.contains("refused this push") && !refused.contains("git approve"), "{refused}");
        // Nothing else of the host: neither another repository, nor a page, nor a push past the gate.
        for (command, words) in [
            ("git ls-remote https://git.example.com/acme/other 2>&1", "is not on this bottle's allowlist"),
            (
                "cd ~/c1 && git push https://git.example.com/acme/other HEAD:agent/x 2>&1",
                "goes through the git gate only",
            ),
            ("curl -sS https://git.example.com/api/v1/user", "host_not_allowed"),
            ("curl -sS https://git.example.com/acme/lib.git/HEAD", "host_not_allowed"),
            ("git ls-remote ssh://root@ssh.example.com/srv/other.git 2>&1", "is not on this bottle's allowlist"),
        ] {
            let refused = inside(command);
            assert!(refused.contains(words), "{command}: {refused}");
        }
        let log = origin.log();
        assert!(!log.contains("/other") && !log.contains("lacks") && log.contains("has"), "{log}");
        // The agent has neither key nor token.
        let key = std::fs::read_to_string(folder.path().join("origin/user")).unwrap();
        let key = key.lines().nth(2).unwrap();
        let everything = inside("env; grep -r -h -a '' ~ /run /tmp 2>/dev/null");
        assert!(everything.contains("GIT_CONFIG_COUNT"), "this test can fail");
        assert!(!everything.contains(VALUE) && !everything.contains(key));
        let exported = docker(&["inspect", &format!("{id}-git-gate"), &format!("{id}-egress"), &id]);
        assert!(!exported.contains(VALUE) && !exported.contains(key));
        let events = world.run(&["audit", "show", &id, "--format", "json"]).json();
        for (sidecar, code) in
            [("git-gate", "secret_found"), ("git-gate", "git_push_approved"), ("git-gate", "git_path_protected")]
        {
            let found =
                events.as_array().unwrap().iter().any(|event| event["sidecar"] == sidecar && event["code"] == code);
            assert!(found, "{code}: {events}");
        }
        drop(origin);
        assert_eq!(world.run(&["stop", &id]).code(), 0);
        world.assert_clean();
    }
}

#[test]
fn a_gate_that_died_is_started_again_and_hosts_that_are_tunnels_are_reached_by_its_own_door() {
    let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
    Debian::import();
    let egress = ", allow: [{host: ssh.example.com, tls: tunnel}]";
    prepare(folder.path(), &Wish { egress, ..Wish::default() });
    let launched = launch(&world, folder.path(), "gate-again", &[], &[]);
    assert_eq!(launched.code(), 0, "{}", launched.stderr);
    let origin = start("gate-again", folder.path());
    let list = || {
        let done = world.run(&["exec", "gate-again", "--", "git", "ls-remote", "root@ssh.example.com:/srv/app.git"]);
        format!("{}{}", done.stdout, done.stderr)
    };
    wait_for("the forge", || list().contains("refs/heads/main").then_some(()));
    docker(&["kill", "gate-again-git-gate"]);
    wait_for("the news", || world.run(&["ps"]).stdout.contains("git-gate").then_some(()));
    assert!(!list().contains("refs/heads/main"));
    assert_eq!(world.run(&["sidecar", "restart", "gate-again", "git-gate"]).code(), 0);
    wait_for("the gate", || list().contains("refs/heads/main").then_some(()));
    // It knows the secrets at once.
    let push = format!(
        "cd && git clone -q git://git-gate/app.git && cd app && echo {SECRET} > x && git add . && git -c user.name=a -c user.email=a@b commit -qm x && git push origin HEAD:agent/x 2>&1"
    );
    let refused = world.run(&["exec", "gate-again", "--", "sh", "-c", &push]).stdout;
    assert!(refused.contains("known-secret"), "{refused}");
    drop(origin);
    assert_eq!(world.run(&["stop", "gate-again"]).code(), 0);
    world.assert_clean();
}

/// Calls a tool of the MCP server from inside, and returns what it says.
pub(super) fn call_for_text(world: &World, id: &str, tool: &str, arguments: &Value) -> String {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": tool, "arguments": arguments } });
    let script = format!(
        "curl -sSN http://supervise:9098/mcp -H 'Content-Type: application/json' -H 'Accept: application/json, text/event-stream' \
         -H 'MCP-Protocol-Version: 2025-11-25' -d '{body}'"
    );
    world.run(&["exec", id, "--", "sh", "-c", &script]).stdout
}

/// Calls a tool of the MCP server from inside, and returns its answer.
pub(super) fn call(world: &World, id: &str, tool: &str, arguments: &Value) -> Value {
    let said = call_for_text(world, id, tool, arguments);
    let lines = said.lines().map(|line| line.trim_start_matches("data:").trim());
    let found = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let answer = found.map(|message| message["result"]["structuredContent"].clone()).find(|answer| !answer.is_null());
    answer.unwrap_or_else(|| panic!("{tool} {arguments}: {said}"))
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story")]
fn promise_10_an_agent_asks_for_a_refused_push_and_what_was_shown_is_released() {
    let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
    Debian::import();
    prepare(folder.path(), &Wish::default());
    let file = folder.path().join("bottler.yaml");
    let manifest = std::fs::read_to_string(&file).unwrap();
    std::fs::write(
        &file,
        manifest.replace("    workspace: {mode: none}\n", "    workspace: {mode: none}\n    supervise: true\n"),
    )
    .unwrap();
    let id = "gate-asks";
    let launched = launch(&world, folder.path(), id, &[], &[]);
    assert_eq!(launched.code(), 0, "{}", launched.stderr);
    let origin = start(id, folder.path());
    let inside = |script: &str| world.inside(id, script);
    wait_for("the forge", || inside("git ls-remote https://git.example.com/acme/lib").contains("main").then_some(()));
    inside(
        "cd && git clone -q https://git.example.com/acme/lib.git c && git config --global user.name A && git config --global user.email a@b.c",
    );
    // Two commits of one second would be one, but for their message.
    let push = |files: &str, branch: &str| {
        inside(&format!(
            "cd ~/c && git checkout -qB try origin/main && {files} && git add . && git commit -qm $(date +%N) && git push -f origin HEAD:{branch} 2>&1"
        ))
    };
    let operator = |words: &[&str]| world.run(&[&["requests", words[0], id], &words[1..]].concat());
    let waiting = || {
        let listed = operator(&["list", "--format", "json"]);
        serde_json::from_str::<Value>(&listed.stdout).ok()?.as_array()?.first().cloned()
    };
    let git = |repository: &str, reference: &str, operation: &str| {
        let arguments =
            json!({ "repository": repository, "ref": reference, "operation": operation, "reason": "an example key" });
        call(&world, id, "git_request", &arguments)
    };

    // Nothing was refused yet, and nobody is asked.
    assert_eq!(git("lib", "", "push")["status"], "refused");
    // The refusal names the call, and the operator sees what it would release.
    let files = format!("echo x={} > new", token());
    let refused = push(&files, "agent/try");
    assert!(
        refused.contains("git_request of the MCP server supervise") && !refused.contains("git approve"),
        "{refused}"
    );
    let named = refused.split("supervise with ").nth(1).unwrap().lines().next().unwrap();
    let named: Value = serde_json::from_str(named.trim()).unwrap();
    let (push_id, repository) = (named["operation"].as_str().unwrap(), named["repository"].as_str().unwrap());
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| git(repository, "", push_id));
        let one = wait_for("the request", waiting);
        assert_eq!(
            one["request"]["wish"]["git"],
            json!({ "repository": "lib", "reference": "refs/heads/agent/try", "operation": push_id })
        );
        let reasons = one["candidate"]["push"]["reasons"].to_string();
        assert!(reasons.contains("a secret (github-token:") && reasons.contains("in new line 1"), "{one}");
        let shown = operator(&["show", "r1"]).stdout;
        for words in
            ["RELEASES", "in new line 1", "lib, refs/heads/agent/try", "[--once | --bottle]", "\"an example key\""]
        {
            assert!(shown.contains(words), "{words}: {shown}");
        }
        assert!(!shown.contains(&token()), "{shown}");
        let hash = one["hash"].as_str().unwrap();
        for scope in [&["--for", "10m"][..], &["--always"]] {
            let refused = operator(&[&["approve", "r1", "--hash", hash], scope].concat());
            assert!(
                refused.code() != 0 && refused.stderr.contains("as long as the bottle lives"),
                "{}",
                refused.stderr
            );
        }
        // The same finding in another commit is another thing than what was shown; it is offered again.
        assert!(push(&files, "agent/try").contains("refused this push"));
        let stale = operator(&["approve", "r1", "--hash", hash]);
        assert!(stale.code() == 122 && stale.stderr.contains("stale"), "{}", stale.stderr);
        let one = wait_for("the request", waiting);
        let approved = operator(&["approve", "r1", "--hash", one["hash"].as_str().unwrap()]);
        assert_eq!(approved.code(), 0, "{}", approved.stderr);
        assert!(approved.stderr.contains("granted for one push"), "{}", approved.stderr);
        let answer = waits.join().unwrap();
        assert_eq!(
            (&answer["status"], &answer["next_steps"]),
            (&json!("approved"), &json!("Push again now.")),
            "{answer}"
        );
    });
    let pushed = inside("cd ~/c && git push origin HEAD:agent/try 2>&1");
    assert!(pushed.contains("new branch"), "{pushed}");
    // Once is once. `git approve` is an answer to a request, too.
    assert!(push(&files, "agent/other").contains("refused this push"));
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| git("https://git.example.com/acme/lib.git", "agent/other", "push"));
        let one = wait_for("the request", waiting);
        assert_eq!(one["request"]["id"], "r2");
        assert_eq!(world.run(&["git", "approve", id, push_id]).code(), 0);
        assert_eq!(waits.join().unwrap()["status"], "approved");
    });
    assert!(inside("cd ~/c && git push origin HEAD:agent/other 2>&1").contains("new branch"));
    // What was rejected is answered from memory; what nobody can release is no request.
    let protected = "mkdir -p .github/workflows && echo on: push > .github/workflows/x.yml";
    assert!(push(protected, "agent/ci").contains("git_request"));
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| git("lib", "agent/ci", "push"));
        wait_for("the request", waiting);
        assert_eq!(operator(&["reject", "r3", "--reason", "not here"]).code(), 0);
        assert_eq!(waits.join().unwrap()["status"], "rejected");
    });
    let again = git("lib", "refs/heads/agent/ci", "push");
    assert_eq!((&again["status"], &again["id"]), (&json!("rejected"), &json!("r3")));
    let refused = push(&format!("echo x={SECRET} > new"), "agent/known");
    assert!(refused.contains("known-secret") && !refused.contains("git_request"), "{refused}");
    assert_eq!(git("lib", "agent/known", "push")["status"], "refused");

    // The gate dies while a request waits: it is not granted, and it is granted once the push is refused and asked for again.
    assert!(push(&files, "agent/late").contains("git_request"));
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| git("lib", "", push_id));
        let one = wait_for("the request", waiting);
        docker(&["kill", &format!("{id}-git-gate")]);
        wait_for("the news", || world.run(&["ps"]).stdout.contains("git-gate").then_some(()));
        let failed = operator(&["approve", "r4", "--hash", one["hash"].as_str().unwrap()]);
        assert_ne!(failed.code(), 0, "{}", failed.stderr);
        assert_eq!(world.run(&["sidecar", "restart", id, "git-gate"]).code(), 0);
        let one = wait_for("the request", waiting);
        assert!(
            one["candidate"].is_null() && one["obstacle"].to_string().contains("offers this push no more"),
            "{one}"
        );
        wait_for("the gate", || push(&files, "agent/late").contains("git_request").then_some(()));
        let one = waiting().unwrap();
        assert_eq!(one["request"]["id"], "r4");
        assert_eq!(operator(&["approve", "r4", "--hash", one["hash"].as_str().unwrap(), "--bottle"]).code(), 0);
        // The call may have returned meanwhile.
        waits.join().unwrap();
        assert_eq!(call(&world, id, "request_status", &json!({ "id": "r4" }))["status"], "approved");
    });
    assert!(inside("cd ~/c && git push origin HEAD:agent/late 2>&1").contains("new branch"));

    let explained = call(&world, id, "explain_denial", &json!({}));
    let git_calls =
        explained["denials"].as_array().unwrap().iter().filter(|one| one["next_call"]["tool"] == "git_request");
    assert!(git_calls.count() > 0, "{explained}");
    // A credential that the gate alone uses opens its host to nobody.
    let answer =
        call(&world, id, "credential_request", &json!({ "name": "forge", "host": FORGE, "reason": "to push" }));
    assert_eq!(answer["status"], "already_allowed", "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("by the git gate"), "{answer}");
    // The agent reads what may be pushed, and neither a key nor where one is.
    let policy = call(&world, id, "list_policy", &json!({}));
    assert_eq!(
        (&policy["git"][0]["name"], &policy["git"][0]["terms"]["branches"]),
        (&json!("lib"), &json!(["agent/*"])),
        "{policy}"
    );
    assert!(!policy.to_string().contains("origin/user") && !policy.to_string().contains(VALUE), "{policy}");
    drop(origin);
    assert_eq!(world.run(&["stop", id]).code(), 0);
    world.assert_clean();
}
