//! Credentials in a bottle: the agent has placeholders, the declared host gets the values, and every place is searched where a value
//! must not be, while the bottle lives, after an egress that died, after the end, and after a holder that was killed.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::images::{DEBIAN, Debian};
use crate::support::origin::{Origin, certificates, docker};
use crate::support::process::{Done, PATIENCE, World, wait_for};

/// The declared host, and another one that is allowed.
const API: &str = "api.anthropic.com";
const OTHER: &str = "other.example.com";

/// Writes down which requests have which value, by its number, and answers with all that it was sent.
const SERVER: &str = r#"
import ssl
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
VALUES = open("/origin/values").read().split()
class Api(BaseHTTPRequestHandler):
    def log_message(self, *a): pass
    def do_GET(self):
        sent = self.requestline + "\n" + str(self.headers)
        held = [str(n) for n, value in enumerate(VALUES) if value in sent]
        print(self.headers["host"], self.path.split("?")[0], "has", ",".join(held) or "none", flush=True)
        body = sent.encode()
        self.send_response(200); self.send_header("content-length", str(len(body))); self.end_headers(); self.wfile.write(body)
server = ThreadingHTTPServer(("0.0.0.0", 443), Api)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); context.load_cert_chain("/origin/leaf.pem", "/origin/leaf.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"#;

/// The values: of a variable of this host, of a file, and of a command.
fn values() -> [String; 3] {
    [
        format!("sk-ant-api03-{}-{}AA", "fedcba9876543210".repeat(5), "zyxw-ZYXW_210"),
        "value-of-a-file-0123456789".to_owned(),
        "value-of-a-command-0123456789".to_owned(),
    ]
}

/// A manifest and what it names.
fn prepare(folder: &Path) -> PathBuf {
    let origin = folder.join("origin");
    std::fs::create_dir(&origin).unwrap();
    certificates(&origin, &[API, OTHER]);
    std::fs::write(origin.join("api.py"), SERVER).unwrap();
    std::fs::write(origin.join("values"), values().join("\n")).unwrap();
    std::fs::create_dir(folder.join("project")).unwrap();
    // Not beside what the bottle's directory is searched for.
    std::fs::write(folder.join("token"), format!("{}\n", values()[1])).unwrap();
    let program = folder.join("get-token");
    std::fs::write(&program, format!("#!/bin/sh\necho {}\n", values()[2])).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let manifest = format!(
        "bottles:
  dev:
    image: {DEBIAN}
    env: {{ANTHROPIC_API_KEY: \"${{MY_KEY}}\"}}
    credentials:
      - {{name: filed, source: 'file:token', env: FILED, hosts: [{{host: {API}, slot: 'query:key'}}]}}
      - name: ran
        source: {{command: [{}]}}
        file: {{path: ~/.tool/auth.json, content: '{{\"token\": \"{{placeholder}}\"}}'}}
        hosts: [{API}]
    workspace: {{mode: none}}
    egress: {{allow: [{OTHER}], roots: [origin/root.pem], ip_allow: [10.213.0.0/16, 172.29.0.0/16]}}
agents:
  dev: {{bottle: dev, template: claude, command: [sleep, '1000']}}
",
        program.display()
    );
    let path = folder.join("bottler.yaml");
    std::fs::write(&path, manifest).unwrap();
    path
}

fn launch(world: &World, folder: &Path, id: &str, more: &[&str]) -> (Done, Option<Origin>) {
    let done: Done = world.launching(folder, id, more).env("MY_KEY", &values()[0]).output().unwrap().into();
    let origin = (done.code() == 0).then(|| {
        // Its values are in a file: what is searched has the words of every command.
        Origin::start(id, &[API, OTHER], DEBIAN, &folder.join("origin"), &["python3", "/origin/api.py"])
    });
    (done, origin)
}

/// Every place of a world and its bottle's containers: none has a value.
fn assert_nowhere(world: &World, when: &str) {
    let mut places = Vec::new();
    for object in world.objects() {
        let of = |command: &str| Command::new("docker").args([command, &object]).output().unwrap().stdout;
        places.push((format!("docker inspect {object}"), of("inspect")));
        places.push((format!("docker logs {object}"), of("logs")));
        // The file system of every container, the agent's among them.
        places.push((format!("docker export {object}"), of("export")));
    }
    places.push(("ps".to_owned(), Command::new("ps").args(["-eo", "args"]).output().unwrap().stdout));
    let state = world.state.path().display().to_string();
    let find = ["-r", "-a", "--devices=skip", "-h", "", &state];
    places.push(("state".to_owned(), Command::new("grep").args(find).output().unwrap().stdout));
    for role in ["holder", "reaper"] {
        for pid in world.processes(role) {
            for file in ["environ", "cmdline"] {
                places.push((
                    format!("{file} of {role}"),
                    std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default(),
                ));
            }
        }
    }
    assert!(places.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() > 1000, "there was something to look at");
    for (place, bytes) in places {
        for (number, value) in values().iter().enumerate() {
            // Also the part behind what a placeholder has, too.
            for part in [value.as_str(), &value[value.len() - 20..]] {
                let found = memchr::memmem::find(&bytes, part.as_bytes()).is_some();
                assert!(!found, "value {number} in {place}, {when}");
            }
        }
    }
}

#[test]
fn promise_07_the_agent_has_placeholders_and_a_value_is_nowhere_but_at_its_host() {
    let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
    Debian::import();
    prepare(folder.path());
    let (launched, origin) = launch(&world, folder.path(), "held", &[]);
    assert_eq!(launched.code(), 0, "{}", launched.stderr);
    for words in [
        "credential  filed, from file:",
        "credential  ran, from command ",
        "the agent has a placeholder in /home/agent/.tool/auth.json",
        "credential  anthropic-api-key, from env:MY_KEY; the agent has a placeholder in ANTHROPIC_API_KEY",
        "goes only to api.anthropic.com, as header:x-api-key",
    ] {
        assert!(launched.stderr.contains(words), "{words}: {}", launched.stderr);
    }
    let origin = origin.unwrap();
    let inside = |script: &str| world.run(&["exec", "held", "--", "sh", "-c", script]).stdout;
    // It has a placeholder in each place, of the provider's form.
    let key = inside("printf %s \"$ANTHROPIC_API_KEY\"");
    assert!(key.starts_with("sk-ant-api03-") && key.len() == 108 && key != values()[0], "{key}");
    assert_eq!(inside("stat -c '%a %U' ~/.tool/auth.json").trim(), "600 agent");
    let file: serde_json::Value = serde_json::from_str(&inside("cat ~/.tool/auth.json")).unwrap();
    let token = file["token"].as_str().unwrap().to_owned();
    assert_eq!(token.len(), 40);
    let filed = inside("printf %s \"$FILED\"");
    // The template's file has the end of the placeholder.
    assert!(inside("cat ~/.claude.json").contains(&key[key.len() - 20..]));
    // The declared host gets the values, and cannot tell them to the agent.
    let call = |more: &str| inside(&format!("curl -sS -m 20 {more} 2>&1"));
    wait_for("the API", || call(&format!("https://{API}/up")).contains("GET /up").then_some(()));
    let echoed = [
        call(&format!("-H \"x-api-key: $ANTHROPIC_API_KEY\" https://{API}/header")),
        call(&format!("\"https://{API}/query?key=$FILED\"")),
        call(&format!("-H 'authorization: Bearer {token}' https://{API}/bearer")),
    ];
    for (echoed, placeholder) in echoed.iter().zip([&key, &filed, &token]) {
        // In a response of a fixed length it is as long as the value.
        assert!(echoed.contains(&placeholder[..20]), "{echoed}");
        assert!(values().iter().all(|value| !echoed.contains(value)), "{echoed}");
    }
    for words in ["/header has 0", "/query has 1", "/bearer has 2"] {
        assert!(origin.log().contains(words), "{words}: {}", origin.log());
    }
    let elsewhere = call(&format!("-H \"x-api-key: $ANTHROPIC_API_KEY\" https://{OTHER}/"));
    assert!(
        elsewhere.contains("refused by bottler") && !origin.log().contains("other.example.com / has 0"),
        "{elsewhere}"
    );
    // Nor is a value in the memory that the agent can read.
    let environ = inside("cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'");
    assert!(environ.contains(&key), "this test can fail: {environ}");
    assert!(values().iter().all(|value| !environ.contains(value)));
    let inspected = world.run(&["inspect", "held"]).json();
    assert_eq!(inspected["plan"]["credentials"][2]["name"], "anthropic-api-key");
    assert_nowhere(&world, "while it lives");

    // An egress that is started again knows them from its first moment on.
    docker(&["kill", "held-egress"]);
    wait_for("the news", || world.run(&["ps"]).stdout.contains("egress died").then_some(()));
    assert_eq!(world.run(&["sidecar", "restart", "held", "egress"]).code(), 0);
    wait_for("the agent to go on", || (!world.run(&["ps"]).stdout.contains("died")).then_some(()));
    call(&format!("-H \"x-api-key: $ANTHROPIC_API_KEY\" https://{API}/again"));
    assert!(origin.log().contains("/again has 0"), "{}", origin.log());
    assert_nowhere(&world, "after egress was started again");
    drop(origin);
    assert_eq!(world.run(&["stop", "held"]).code(), 0);
    assert_nowhere(&world, "after the end");
    world.assert_clean();
}

#[test]
fn promise_07_no_value_is_left_by_a_holder_that_is_killed() {
    let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
    Debian::import();
    prepare(folder.path());
    let (launched, origin) = launch(&world, folder.path(), "cut", &[]);
    assert_eq!(launched.code(), 0, "{}", launched.stderr);
    drop(origin);
    for pid in world.processes("holder") {
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    }
    world.wait_gone(PATIENCE);
    assert_nowhere(&world, "after the holder was killed");
}

#[test]
fn a_source_without_a_value_is_an_error_before_anything_is_made() {
    let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
    prepare(folder.path());
    std::fs::remove_file(folder.path().join("token")).unwrap();
    let (refused, _) = launch(&world, folder.path(), "none", &[]);
    assert_eq!(refused.code(), 120, "{}", refused.stderr);
    for words in ["credential filed from file:", "No such file", "chmod 600"] {
        assert!(refused.stderr.contains(words), "{words}: {}", refused.stderr);
    }
    assert_eq!((world.bottles(), world.objects()), (Vec::<String>::new(), Vec::<String>::new()));
}

/// A bottle inside has the placeholder of the one around it: by the manifest's agent, and by its template alone.
#[test]
fn a_bottle_inside_has_the_placeholder_of_the_one_around_it() {
    let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
    Debian::import();
    prepare(folder.path());
    let recipe = folder.path().join("two.lua");
    let tell = "{ '/bin/sh', '-c', 'printf %s \"$ANTHROPIC_API_KEY\"' }";
    std::fs::write(
        &recipe,
        format!(
            "local launch = require 'std.launch'
return recipe(function(plan)
  local tell = {tell}
  local image = plan.image.source
  local one = bottle('dev', {{ command = tell, image = image }})
  local two = bottle('claude', {{ command = tell, image = image }})
  local told = {{ ONE = one:output(), TWO = two:output() }}
  return launch(plan, {{ before = {{ provision = function(options) options.env = told end }} }})
end)
"
        ),
    )
    .unwrap();
    let (launched, _origin) = launch(&world, folder.path(), "around", &["--recipe", recipe.to_str().unwrap()]);
    assert_eq!(launched.code(), 0, "{}", launched.stderr);
    let script = "printf %s\\\\n \"$ANTHROPIC_API_KEY\" \"$ONE\" \"$TWO\"";
    let told = world.run(&["exec", "around", "--", "sh", "-c", script]).stdout;
    let told: Vec<&str> = told.lines().collect();
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[0].starts_with("sk-ant-api03-") && told[0] == told[1] && told[0] == told[2], "{told:?}");
    assert_nowhere(&world, "with bottles inside");
    assert_eq!(world.run(&["stop", "around"]).code(), 0);
    world.assert_clean();
}
