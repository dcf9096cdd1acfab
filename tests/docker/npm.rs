//! Real agents from npm, headless in a bottle, each with a secret in its request to the model: it shows the reason
//! for the refusal and does not retry. Their reactions to other responses are described in
//! `src/sidecar/egress/README.md`. Claude's test is in `claude.rs`.

use crate::support::npm::install;
use crate::support::origin::docker;
use crate::support::process::{World, wait_for};
use crate::support::sleeper::Sleeper;

/// The model's host, for agents that can be configured; and the host that pi uses by default.
const HOST: &str = "model.example.com";
const ANTHROPIC: &str = "api.anthropic.com";

/// Responds to everything with an empty answer, and logs requests that contain the secret.
const SERVER: &str = r#"exec python3 - <<'PYTHON'
import ssl
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Api(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *a): pass
    def answer(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        print(self.command, self.path, "with the secret" if b"ghp_" in body else "", flush=True)
        body = b'{"data": [], "models": []}'
        self.send_response(200); self.send_header("content-type", "application/json"); self.send_header("content-length", str(len(body))); self.end_headers(); self.wfile.write(body)
    do_GET = do_POST = do_PUT = do_HEAD = answer
server = ThreadingHTTPServer(("0.0.0.0", 443), Api)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); context.load_cert_chain("/origin/leaf.pem", "/origin/leaf.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
PYTHON
"#;

/// A package, and its command: `$B` is its folder `node_modules`, `$ASK` is the prompt.
struct Agent {
    package: &'static str,
    command: &'static str,
}

/// Agents that every run tests: one native program, and one for Node.
const FEW: [Agent; 2] = [
    Agent {
        package: "@openai/codex@0.171.0",
        command: "CODEX_API_KEY=placeholder $B/.bin/codex exec --skip-git-repo-check -c openai_base_url=$URL/v1 -c model=gpt-5 \
                  -c features.plugins=false -c features.apps=false -c analytics.enabled=false \
                  --dangerously-bypass-approvals-and-sandbox \"$ASK\"",
    },
    Agent {
        package: "@mariozechner/pi-coding-agent@0.73.1",
        command: "ANTHROPIC_API_KEY=placeholder $B/.bin/pi --provider anthropic --model claude-sonnet-4-5 -p \"$ASK\"",
    },
];

const MORE: [Agent; 4] = [
    Agent {
        package: "@google/gemini-cli@0.61.0",
        command: "mkdir -p ~/.gemini; echo '{\"security\": {\"auth\": {\"selectedType\": \"gemini-api-key\"}}}' > ~/.gemini/settings.json; \
                  GEMINI_API_KEY=placeholder GOOGLE_GEMINI_BASE_URL=$URL $B/.bin/gemini --skip-trust --yolo -p \"$ASK\"",
    },
    Agent {
        package: "opencode-ai@1.18.33",
        command: "ANTHROPIC_API_KEY=placeholder OPENCODE_DISABLE_MODELS_FETCH=1 ANTHROPIC_BASE_URL=$URL/v1 \
                  $B/opencode-linux-x64/bin/opencode run -m anthropic/claude-sonnet-4-5 \"$ASK\"",
    },
    Agent {
        package: "@github/copilot@1.0.102",
        command: "COPILOT_PROVIDER_BASE_URL=$URL/v1 COPILOT_PROVIDER_API_KEY=placeholder COPILOT_MODEL=gpt-5 \
                  COPILOT_AUTO_UPDATE=false $B/.bin/copilot --allow-all -p \"$ASK\"",
    },
    Agent {
        package: "@qwen-code/qwen-code@0.24.4",
        command: "OPENAI_API_KEY=placeholder OPENAI_MODEL=m OPENAI_BASE_URL=$URL/v1 $B/.bin/qwen --yolo -p \"$ASK\"",
    },
];

#[test]
fn real_agents_show_why_they_are_refused_and_stop() {
    show_and_stop(&FEW);
}

/// Each is a download of about 200 MB.
#[test]
#[ignore = "slow"]
fn further_real_agents_show_why_they_are_refused_and_stop() {
    show_and_stop(&MORE);
}

fn show_and_stop(agents: &[Agent]) {
    let installed: Vec<_> = agents.iter().map(|agent| (agent, install(agent.package))).collect();
    let world = World::new();
    let here = tempfile::tempdir().unwrap();
    let bottle = Sleeper::launch(&world, here.path(), &[HOST, ANTHROPIC], &[], SERVER);
    wait_for("the model", || {
        bottle.exec(20, &[], &format!("curl -sS https://{HOST}/")).contains("models").then_some(())
    });
    // Assembled at run time, so that scanners of repositories do not take it for a real token.
    let ask = format!("keep {}", ["ghp_", "wWPw5k4aXcaT4fNP0UcnZwJUVFk6LO0pINUx"].concat());
    let url = format!("https://{HOST}");
    for (number, (Agent { package, command }, folder)) in installed.iter().enumerate() {
        let place = format!("/tmp/npm-{number}");
        docker(&["cp", &folder.display().to_string(), &format!("{}:{place}", bottle.agent)]);
        let before = refused(&world, &bottle.agent);
        let modules = format!("{place}/node_modules");
        let variables = [("B", modules.as_str()), ("ASK", &ask), ("URL", &url)];
        let said = bottle.exec(90, &variables, &format!("cd ~ && {{ {command}; }} < /dev/null 2>&1; echo code=$?"));
        let asked = refused(&world, &bottle.agent) - before;
        assert!(said.contains("refused by bottler: secret_found"), "{package}: {said}");
        // Some send an extra request to name the conversation.
        assert!((1..=2).contains(&asked), "{package} has asked {asked} times: {said}");
        assert!(said.contains("code=1"), "{package}: {said}");
        for misled in ["Authentication failed", "Failed to authenticate", "credentials", "/login"] {
            assert!(!said.contains(misled), "{package}: {said}");
        }
    }
    let log = bottle.origin.log();
    assert!(!log.contains("with the secret"), "{log}");
    bottle.end();
    world.assert_clean();
}

/// How many requests were refused because of a secret.
fn refused(world: &World, agent: &str) -> u64 {
    let stats = world.run(&["stats", agent, "--format", "prometheus"]).stdout;
    let line = stats.lines().find(|line| line.contains("code=\"secret_found\""));
    line.and_then(|line| line.rsplit(' ').next()).map_or(0, |count| count.parse().unwrap())
}
