//! A git gate between an agent's real git and a real upstream: OpenSSH's server, or `git http-backend`.

use std::io::{BufRead, BufReader, Lines, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};

use bottler::policy::GitTerms;
use bottler::scan::{Dlp, KnownSecret};
use bottler::sidecar::git_gate::{Config, Gate, Known, Programs, ROLE, Repository};
use bottler::sidecar::role::{CommandOf, MessageOf};
use bottler::sidecar::{Action, Command as SidecarCommand, Event, Message, OutputLine};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

use crate::lab::sh;
use crate::support::process::wait_for;

/// How the gate reaches the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    Ssh,
    Http,
}

/// What a test may want otherwise.
pub struct Wish {
    pub by: By,
    pub terms: GitTerms,
    pub secrets: Vec<&'static str>,
    /// Another key than that of the upstream's host.
    pub host_key: Option<String>,
    /// Whether the gate knows the bottle's secrets.
    pub released: bool,
}

impl Default for Wish {
    fn default() -> Self {
        Self { by: By::Http, terms: GitTerms::default(), secrets: vec![SECRET], host_key: None, released: true }
    }
}

/// One of the bottle's own secrets.
pub const SECRET: &str = "correct-horse-battery-staple";

/// A token of a provider's format, which nobody issued. Assembled here, so that repository scanners do not report it.
pub fn token() -> String {
    ["ghp_", "wWPw5k4aXcaT4fNP0UcnZwJUVFk6LO0pINUx"].concat()
}

/// What a command did.
#[derive(Debug)]
pub struct Done {
    pub ok: bool,
    /// Both outputs.
    pub text: String,
}

impl Done {
    #[track_caller]
    pub fn expect(self, ok: bool, words: &[&str]) -> Self {
        assert_eq!(self.ok, ok, "{}", self.text);
        for word in words {
            assert!(self.text.contains(word), "no {word:?} in: {}", self.text);
        }
        self
    }
}

pub struct World {
    pub folder: tempfile::TempDir,
    pub gate: SocketAddr,
    pub requests: Arc<Mutex<Vec<String>>>,
    child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    sshd: Option<Child>,
}

impl Drop for World {
    fn drop(&mut self) {
        for child in [Some(&mut self.child), self.sshd.as_mut()].into_iter().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl World {
    /// An upstream with one commit, and a gate before it.
    pub fn new(wish: Wish) -> Self {
        // The socket of `ctl`, and sshd's folder of privilege separation.
        sh("ip link set lo up; mount -t tmpfs none /run; mkdir -p /run/bottler-ctl /run/sshd");
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("home")).unwrap();
        git_in(folder.path(), folder.path(), &["init", "-q", "--bare", "-b", "main", "upstream.git"]).expect(true, &[]);
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let (mut sshd, mut identity, mut known_host_key) = (None, None, None);
        let url = match wish.by {
            By::Http => format!("http://{}/upstream.git", http_backend(folder.path().to_owned(), requests.clone())),
            By::Ssh => {
                let port = start_sshd(folder.path(), &mut sshd);
                identity = Some(std::fs::read_to_string(at("user")).unwrap());
                known_host_key = wish.host_key.or_else(|| Some(std::fs::read_to_string(at("host.pub")).unwrap()));
                format!("ssh://root@127.0.0.1:{port}{}", at("upstream.git").display())
            }
        };
        let secret = |&value: &&str| KnownSecret { value: value.to_owned(), hosts: Vec::new() };
        let known = Known { secrets: wish.secrets.iter().map(secret).collect(), placeholders: Vec::new() };
        let (terms, authorization) = (wish.terms, None);
        let repository = Repository { name: "app".to_owned(), url, identity, known_host_key, authorization, terms };
        let config = Config {
            bottle: "demo-1a2b3".to_owned(),
            inside: None,
            outward: None,
            programs: Programs { git: "/usr/bin/git".into(), ssh: "/usr/bin/ssh".into() },
            state: at("state"),
            keys: None,
            dlp: Dlp::default(),
            known: wish.released.then_some(known),
            repositories: vec![repository],
        };
        let mut child = Command::new(env!("CARGO_BIN_EXE_bottler"))
            .args([ROLE, "127.0.0.1:0"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        writeln!(input, "{}", serde_json::to_string(&config).unwrap()).unwrap();
        let mut errors = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = errors.next().unwrap().unwrap();
        let gate = line.strip_prefix("listening on ").unwrap_or_else(|| panic!("{line}")).parse().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.next().unwrap().unwrap().contains("ready"));
        let world = Self { folder, gate, requests, child, input, lines, sshd };
        world.seed();
        world
    }

    /// The first commit: a file, and an old fixture that holds a token.
    fn seed(&self) {
        let seed = self.path("seed");
        self.git(self.folder.path(), &["init", "-q", "-b", "main", "seed"]).expect(true, &[]);
        self.write("seed/README", "hello\n");
        self.write("seed/fixtures/old.txt", format!("first\ntoken = {}\nlast\n", token()));
        self.commit("seed", "begin");
        let upstream = self.path("upstream.git").display().to_string();
        self.git(&seed, &["push", "-q", &upstream, "main"]).expect(true, &[]);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Commits everything in a work tree; returns the commit.
    pub fn commit(&self, tree: &str, message: &str) -> String {
        let tree = self.path(tree);
        self.git(&tree, &["add", "-A", "-f"]).expect(true, &[]);
        self.git(&tree, &["commit", "-q", "--allow-empty", "-m", message]).expect(true, &[]);
        self.id(&tree, "HEAD")
    }

    pub fn id(&self, repository: &Path, name: &str) -> String {
        self.git(repository, &["rev-parse", name]).expect(true, &[]).text.trim().to_owned()
    }

    /// The value of a branch of the upstream; empty if there is none.
    pub fn upstream(&self, branch: &str) -> String {
        let name = format!("refs/heads/{branch}");
        let upstream = self.path("upstream.git");
        self.git(&upstream, &["for-each-ref", "--format=%(objectname)", &name]).text.trim().to_owned()
    }

    pub fn url(&self) -> String {
        format!("http://{}/app.git", self.gate)
    }

    /// A clone of the agent's, through the gate.
    pub fn clone_to(&self, name: &str) -> PathBuf {
        self.git(self.folder.path(), &["clone", "-q", &self.url(), name]).expect(true, &[]);
        self.path(name)
    }

    pub fn git(&self, folder: &Path, arguments: &[&str]) -> Done {
        git_in(self.folder.path(), folder, arguments)
    }

    /// git with something on its standard input; returns its output, without what surrounds it.
    pub fn git_with(&self, folder: &Path, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let mut child = git_command(self.folder.path(), folder, arguments).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input).unwrap();
        drop(stdin);
        let done = child.wait_with_output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        done.stdout
    }

    /// Posts commands and a pack, as a client that is not git; returns the whole response as text.
    pub fn post(&self, commands: &[String], pack: &[u8]) -> String {
        let mut body = Vec::new();
        for (number, command) in commands.iter().enumerate() {
            let text = if number == 0 { format!("{command}\0report-status side-band-64k") } else { command.clone() };
            body.extend(format!("{:04x}{text}", text.len() + 4).into_bytes());
        }
        body.extend_from_slice(b"0000");
        body.extend_from_slice(pack);
        let mut stream = TcpStream::connect(self.gate).unwrap();
        let head = format!(
            "POST /app.git/git-receive-pack HTTP/1.1\r\nHost: gate\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        let _ = stream.write_all(&body);
        let mut response = Vec::new();
        std::io::Read::read_to_end(&mut stream, &mut response).unwrap();
        String::from_utf8_lossy(&response).into_owned()
    }

    /// All decisions so far.
    pub fn decisions(&mut self) -> Vec<Event> {
        let command: CommandOf<Gate> = SidecarCommand { n: 1, action: Action::Flush };
        writeln!(self.input, "{}", serde_json::to_string(&command).unwrap()).unwrap();
        let mut events = Vec::new();
        loop {
            let line = self.lines.next().unwrap().unwrap();
            match serde_json::from_str::<OutputLine<MessageOf<Gate>>>(&line).unwrap().message {
                Message::Audit(event) => events.push(*event),
                Message::Acknowledged(_) => return events,
                _ => panic!("{line}"),
            }
        }
    }
}

fn git_command(home: &Path, folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("/usr/bin/git");
    command.env_clear().env("PATH", std::env::var("PATH").unwrap()).env("HOME", home.join("home"));
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_TERMINAL_PROMPT", "0");
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "Agent").env(format!("GIT_{who}_EMAIL"), "agent@example.com");
    }
    command.args(["-c", "safe.directory=*", "-c", "protocol.file.allow=always"]).args(arguments).current_dir(folder);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn git_in(home: &Path, folder: &Path, arguments: &[&str]) -> Done {
    let done = git_command(home, folder, arguments).output().unwrap();
    let text = [done.stdout, done.stderr].concat();
    Done { ok: done.status.success(), text: String::from_utf8_lossy(&text).into_owned() }
}

fn start_sshd(folder: &Path, sshd: &mut Option<Child>) -> u16 {
    let file = |name: &str| folder.join(name).display().to_string();
    for name in ["host", "user"] {
        let mut keygen = Command::new("ssh-keygen");
        assert!(keygen.args(["-q", "-t", "ed25519", "-N", "", "-f", &file(name)]).status().unwrap().success());
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = format!(
        "ListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\n\
         PermitRootLogin yes\nUsePAM no\nPasswordAuthentication no\nAcceptEnv GIT_PROTOCOL\nMaxStartups 100\n",
        file("host"),
        file("user.pub")
    );
    std::fs::write(file("sshd_config"), config).unwrap();
    let mut command = Command::new("/usr/sbin/sshd");
    command.args(["-D", "-e", "-f", &file("sshd_config")]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    *sshd = Some(command.spawn().expect("openssh-server is installed"));
    wait_for("sshd", || TcpStream::connect(("127.0.0.1", port)).ok());
    port
}

/// Serves repositories by `git http-backend`, and records the requests.
fn http_backend(root: PathBuf, requests: Arc<Mutex<Vec<String>>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let (root, requests) = (root.clone(), requests.clone());
                let service = service_fn(move |request| cgi(root.clone(), requests.clone(), request));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
    });
    address
}

async fn cgi(
    root: PathBuf,
    requests: Arc<Mutex<Vec<String>>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let (head, body) = request.into_parts();
    let header =
        |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    let first = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
    requests.lock().unwrap().push(format!("{} {} {first}", head.method, head.uri));
    let mut command = tokio::process::Command::new("/usr/bin/git");
    command.args(["-c", "safe.directory=*", "http-backend"]).env_clear().env("PATH", std::env::var("PATH").unwrap());
    command.env("GIT_PROJECT_ROOT", root).env("GIT_HTTP_EXPORT_ALL", "1").env("REMOTE_USER", "test");
    command.env("PATH_INFO", head.uri.path()).env("QUERY_STRING", head.uri.query().unwrap_or_default());
    command.env("REQUEST_METHOD", head.method.as_str()).env("CONTENT_TYPE", header("content-type"));
    command.env("GIT_PROTOCOL", header("git-protocol")).env("CONTENT_LENGTH", body.len().to_string());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take().unwrap();
    tokio::spawn(async move { tokio::io::AsyncWriteExt::write_all(&mut stdin, &body).await });
    let output = child.wait_with_output().await?.stdout;
    let end = output.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or_default();
    let mut response = Response::builder();
    for line in String::from_utf8_lossy(&output[..end]).lines() {
        let (name, value) = line.split_once(": ").unwrap_or_default();
        response = match name {
            "Status" => response.status(value.split(' ').next().unwrap_or_default().parse::<u16>().unwrap_or(500)),
            name => response.header(name, value),
        };
    }
    response
        .body(Full::new(Bytes::copy_from_slice(output.get(end + 4..).unwrap_or_default())))
        .map_err(std::io::Error::other)
}
