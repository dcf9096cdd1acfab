//! Presets with real clients, each in a bottle that allows nothing but its preset: what they install from the real registries,
//! what they clone, and that nothing which writes gets out.

use std::collections::BTreeSet;
use std::net::ToSocketAddrs;
use std::process::Command;

use bottler::policy::{AllowSpec, Preset};

use crate::support::images::{DEBIAN, Debian};
use crate::support::npm::install;
use crate::support::origin::docker;
use crate::support::process::{World, wait_for};
use crate::support::sleeper::Sleeper;

/// The authorities of this machine, by which it verifies registries.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// A preset, the commands of an agent, and the last line of what they print.
const CLIENTS: &[(&str, &str, &str)] = &[
    (
        "@pypi",
        "pip install --no-cache-dir --target /tmp/py six==1.16.0 && PYTHONPATH=/tmp/py python3 -c 'import six; print(six.__version__)'",
        "1.16.0",
    ),
    (
        "@npm",
        "cd /tmp && mkdir js && cd js && node /tmp/npm/bin/npm-cli.js install is-number@7.0.0 @types/estree@1.0.5 && \
         ls node_modules/@types && node -p 'require(\"is-number\")(7) && \"a number\"'",
        "a number",
    ),
    (
        "@crates",
        "mkdir -p /tmp/crate/src && cd /tmp/crate && printf '[package]\\nname = \"own\"\\nversion = \"0.1.0\"\\nedition = \"2021\"\\n\
         [dependencies]\\nitoa = \"=1.0.15\"\\n' > Cargo.toml && \
         echo 'pub fn it(n: u8) -> String { itoa::Buffer::new().format(n).to_owned() }' > src/lib.rs && \
         PATH=/workspace/bin:$PATH CARGO_HOME=/tmp/cargo cargo build && ls target/debug/libown.rlib",
        "target/debug/libown.rlib",
    ),
    (
        "@go",
        "mkdir -p /tmp/go && cd /tmp/go && export GOROOT=/workspace GOPATH=/tmp/gopath GOCACHE=/tmp/gocache GOFLAGS= GOTOOLCHAIN=local && \
         /workspace/bin/go mod init own && /workspace/bin/go get github.com/pkg/errors@v0.9.1 && \
         /workspace/bin/go mod verify && /workspace/bin/go build github.com/pkg/errors && echo built",
        "built",
    ),
    (
        "@debian",
        "mkdir -p /tmp/apt/lists/partial /tmp/apt/cache/archives/partial && cd /tmp/apt && \
         echo 'deb http://deb.debian.org/debian trixie main' > sources.list && \
         apt='apt-get -q -o Dir::Etc::SourceList=/tmp/apt/sources.list -o Dir::Etc::SourceParts=/nowhere -o Dir::State::Lists=/tmp/apt/lists \
         -o Dir::Cache=/tmp/apt/cache -o Acquire::Check-Valid-Until=false -o Acquire::Languages=none' && \
         $apt update && $apt download hello && dpkg-deb -x hello_*.deb /tmp/hello && /tmp/hello/usr/bin/hello",
        "Hello, world!",
    ),
    (
        "@maven",
        "cd /tmp && at=https://repo.maven.apache.org/maven2/junit/junit/4.13.2/junit-4.13.2 && curl -fsSO $at.pom && \
         curl -fsSO $at.jar && echo \"$(curl -fsS $at.jar.sha1)  junit-4.13.2.jar\" | sha1sum -c",
        "junit-4.13.2.jar: OK",
    ),
];

/// The addresses of a preset's hosts: on some machines, registries have private ones.
fn addresses(preset: &str) -> BTreeSet<String> {
    let hosts = Preset::named(preset).unwrap().entries().map(|entry| entry.host().trim_end_matches(":443").to_owned());
    let found = hosts.filter_map(|host| (host.as_str(), 443).to_socket_addrs().ok()).flatten();
    found.filter(std::net::SocketAddr::is_ipv4).map(|address| format!("{}/32", address.ip())).collect()
}

/// The folder of a toolchain that a client is in, which the agent has read-only.
fn toolchain(program: &str, arguments: &[&str]) -> String {
    let said = Command::new(program).args(arguments).output().unwrap();
    String::from_utf8(said.stdout).unwrap().trim().to_owned()
}

#[test]
fn real_clients_install_from_real_registries_with_their_preset_alone() {
    Debian::import();
    let npm = install("npm@11.6.2").join("node_modules/npm");
    let world = World::new();
    for (preset, command, expected) in CLIENTS {
        let name = format!("preset-{}", &preset[1..]);
        let addresses = addresses(preset);
        let mut arguments = vec!["run", "shell", "--name", &name, "--image", DEBIAN, "--allow", preset];
        arguments.extend(["--upstream-ca", AUTHORITIES]);
        for address in &addresses {
            arguments.extend(["--allow-ip", address]);
        }
        let folder = match *preset {
            "@crates" => toolchain("rustc", &["--print", "sysroot"]),
            "@go" => toolchain("go", &["env", "GOROOT"]),
            _ => String::new(),
        };
        if folder.is_empty() {
            arguments.push("--no-workspace");
        } else {
            arguments.extend(["--workspace", &folder, "--mount", "--read-only"]);
        }
        arguments.extend(["-d", "--", "sleep", "1000"]);
        let launched = world.run(&arguments);
        assert_eq!(launched.code(), 0, "{preset}: {}", launched.stderr);
        wait_for("the agent", || world.agent_running("sleep 1000"));
        if *preset == "@npm" {
            docker(&["cp", &npm.display().to_string(), &format!("{name}:/tmp/npm")]);
        }
        let done = world.run(&["exec", &name, "--", "timeout", "240", "sh", "-c", command]);
        let refused = world.run(&["audit", "show", &name, "--refused"]).stdout;
        let last = done.stdout.lines().last().unwrap_or_default();
        assert!(done.code() == 0 && last == *expected, "{preset}: {}\n{}\n{refused}", done.stdout, done.stderr);
        let shown = world.run(&["policy", "show", &name]).json();
        let allow = shown["egress"]["allow"].as_array().unwrap();
        assert!(allow.iter().all(|entry| entry["preset"]["name"] == *preset), "{shown}");
        assert_eq!(world.run(&["stop", &name]).code(), 0);
        world.run(&["wait", &name]);
    }
    world.assert_clean();
}

/// The services of all presets: repositories on github.com, files elsewhere. It takes whatever comes, and says so.
const SERVICES: &str = r#"set -e
cd /origin
mkdir -p repos/me && git init -q work && cd work && echo hello > file && git add file
git -c user.name=a -c user.email=a@b commit -q -m 'the first' && cd ..
git clone -q --bare work repos/me/app.git && git -C repos/me/app.git config http.receivepack true
exec python3 - <<'PYTHON'
import os, ssl, subprocess
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Service(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *a): pass
    def body(self):
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body
    def answer(self):
        body, host, (path, _, query) = self.body(), self.headers["host"], self.path.partition("?")
        print(self.command, host, self.path, flush=True)
        status, headers, content = 200, {}, b"content of " + path.encode()
        if host == "github.com" and path.startswith("/me/app/releases/"):
            status, headers["Location"] = 302, "https://release-assets.githubusercontent.com/asset"
        elif host == "github.com" and path.startswith("/me/app.git/"):
            env = {**os.environ, "GIT_PROJECT_ROOT": "/origin/repos", "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path,
                "QUERY_STRING": query, "REQUEST_METHOD": self.command, "CONTENT_TYPE": self.headers.get("content-type", ""),
                "HTTP_CONTENT_ENCODING": self.headers.get("content-encoding", ""),
                "GIT_PROTOCOL": self.headers.get("git-protocol", ""), "REMOTE_USER": "me"}
            made = subprocess.run(["git", "http-backend"], input=body, env=env, stdout=subprocess.PIPE).stdout
            head, _, content = made.partition(b"\r\n\r\n")
            headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
            status = int(headers.pop("Status", "200").split()[0])
        self.send_response(status)
        for name, value in headers.items(): self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD": self.wfile.write(content)
    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer
server = ThreadingHTTPServer(("0.0.0.0", 443), Service)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); context.load_cert_chain("/origin/leaf.pem", "/origin/leaf.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
PYTHON
"#;

/// The hosts of all presets, a name for each wildcard, and hosts that take uploads and are in none.
fn hosts() -> Vec<String> {
    let entries = Preset::all().iter().flat_map(Preset::entries);
    let host = |entry: AllowSpec| entry.host().trim_end_matches(":443").replace('*', "x");
    let uploads = ["upload.pypi.org", "uploads.github.com"].map(str::to_owned);
    entries.map(host).chain(uploads).collect::<BTreeSet<_>>().into_iter().collect()
}

/// A clone, a release and a raw file with `@github` alone, though every host is there; no push.
#[test]
fn a_repository_is_cloned_and_not_pushed_to_with_the_preset_alone() {
    let world = World::new();
    let folder = tempfile::tempdir().unwrap();
    let hosts = hosts();
    let names: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let bottle = Sleeper::allowing(&world, folder.path(), &names, &["@github"], &[], SERVICES);
    let exec = |command: &str| bottle.exec(50, &[], command);
    wait_for("the services", || exec("curl -sS https://github.com/").contains("content of /").then_some(()));
    for (command, expected) in [
        ("cd /tmp && git clone -q https://github.com/me/app.git && cat app/file", "hello"),
        ("cd /tmp/app && git fetch -q --depth 1 origin HEAD && git log --format=%s -1 FETCH_HEAD", "the first"),
        ("curl -fsSL https://github.com/me/app/releases/download/v1/app.tar.gz", "content of /asset"),
        ("curl -fsS https://raw.githubusercontent.com/me/app/main/file", "content of /me/app/main/file"),
        ("curl -sS https://api.github.com/repos/me/app", "content of /repos/me/app"),
        (
            "cd /tmp/app && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m x && git push 2>&1",
            "refused by bottler: push_not_gated",
        ),
        ("curl -sS -d '{}' https://api.github.com/gists", "method_not_allowed"),
        ("curl -sS -d '{}' https://api.github.com/graphql", "method_not_allowed"),
        ("curl -sS -d '{}' https://github.com/me/app.git/info/lfs/objects/verify", "path_not_allowed"),
        ("curl -sS https://pypi.org/simple/ 2>&1", "policy allow"),
    ] {
        let said = exec(command);
        assert!(said.contains(expected), "{command}: {said}\n{}", bottle.origin.log());
    }
    // The refusal names the preset that has the host.
    let said = exec("curl -sS -x $HTTPS_PROXY http://crates.io/");
    assert!(said.contains(&format!("`bottler policy allow {} @crates`", bottle.agent)), "{said}");
    let allowed = world.run(&["policy", "allow", &bottle.agent, "@crates", "@pypi", "--for", "1h"]);
    assert!(allowed.stderr.contains("@crates (version 1), @pypi (version 1) for 1h"), "{}", allowed.stderr);
    assert!(exec("curl -fsS https://pypi.org/simple/six/").contains("content of"));
    assert!(exec("curl -sS -d x https://pypi.org/simple/six/").contains("method_not_allowed"));
    let audit = world.run(&["audit", "show", &bottle.agent]).stdout;
    assert!(audit.contains("@crates, version 1 @pypi, version 1"), "{audit}");
    for (words, expected) in [
        (&["allow", &bottle.agent, "@npm", "--once"][..], "more than one request"),
        (&["allow", &bottle.agent, "@npm", "--method", "GET"], "methods and paths of its own"),
        (&["allow", &bottle.agent, "@nmp"], "did you mean \"@npm\"?"),
        (&["deny", &bottle.agent, "@pypi"], "pypi.org files.pythonhosted.org"),
    ] {
        let done = world.run(&[&["policy"], words].concat());
        assert!(done.code() == 120 && done.stderr.contains(expected), "{words:?}: {}", done.stderr);
    }
    bottle.end();
    world.assert_clean();
}

/// An agent with every preset at once tries to write, at every host, by every method, for every path that an entry has.
#[test]
fn nothing_that_writes_gets_out_with_all_presets() {
    let world = World::new();
    let folder = tempfile::tempdir().unwrap();
    let hosts = hosts();
    let names: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let presets: Vec<&str> = Preset::all().iter().map(|preset| preset.name).collect();
    let bottle = Sleeper::allowing(&world, folder.path(), &names, &presets, &[], SERVICES);
    wait_for("the services", || {
        bottle.exec(20, &[], "curl -sS https://github.com/").contains("content of /").then_some(())
    });
    std::fs::write(folder.path().join("attempts"), attempts()).unwrap();
    docker(&["cp", &folder.path().join("attempts").display().to_string(), &format!("{}:/tmp/attempts", bottle.agent)]);
    bottle.exec(200, &[], "curl -sS --parallel --parallel-max 8 --config /tmp/attempts > /tmp/said 2>&1");
    // Reading works, so that silence says something.
    assert!(bottle.exec(20, &[], "curl -sS https://pypi.org/simple/six/").contains("content of /simple/six/"));
    let log = bottle.origin.log();
    let wrote = log.lines().filter(|line| !line.starts_with("GET ") && !line.starts_with("HEAD "));
    let reads = |line: &&str| {
        let path = line.split(' ').nth(2).unwrap_or_default();
        line.starts_with("POST ")
            && (path.ends_with("/git-upload-pack")
                || path.ends_with("/info/lfs/objects/batch")
                || path.contains("/paths-info/"))
    };
    let (read, wrote): (Vec<&str>, Vec<&str>) = wrote.partition(reads);
    assert!(wrote.is_empty(), "{wrote:#?}");
    assert!(read.len() >= 8, "attempts did not get as far as they may: {log}");
    assert!(!log.contains("receive-pack") && !log.contains("upload.pypi.org"), "{log}");
    let stats = world.run(&["stats", &bottle.agent, "--format", "prometheus"]).stdout;
    assert!(stats.contains("code=\"method_not_allowed\"") && stats.contains("code=\"push_not_gated\""), "{stats}");
    bottle.end();
    world.assert_clean();
}

/// The attempts, as a configuration of curl.
fn attempts() -> String {
    let mut text = String::new();
    let mut attempt = |method: &str, url: &str, more: &str| {
        text.push_str(&format!(
            "next\nurl = \"{url}\"\nrequest = \"{method}\"\ndata = \"stolen\"\nmax-time = 20\n{more}"
        ));
    };
    for host in hosts() {
        for method in ["POST", "PUT", "PATCH", "DELETE"] {
            attempt(method, &format!("https://{host}/"), "");
        }
        attempt("POST", &format!("https://{host}/me/app.git/git-receive-pack"), "");
        attempt("GET", &format!("https://{host}/me/app.git/info/refs?service=git-receive-pack"), "");
        attempt("GET", &format!("https://{host}/a/b?_method=PUT"), "");
        attempt("GET", &format!("https://{host}/a/b"), "header = \"X-HTTP-Method-Override: PUT\"\n");
    }
    for entry in Preset::all().iter().flat_map(Preset::entries) {
        let AllowSpec::Table(table) = entry else { continue };
        let host = table.host.trim_end_matches(":443").replace('*', "x");
        for path in &table.paths {
            let path = path.replace("**", "a/b").replace('*', "c");
            for method in ["POST", "PUT", "DELETE"] {
                attempt(method, &format!("https://{host}{path}"), "");
            }
        }
    }
    text
}
