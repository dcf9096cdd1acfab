//! A git gate between an agent's real git and a real upstream: OpenSSH's server, or `git http-backend`.

#![allow(dead_code, reason = "tests and the bench each use a part of it")]

use std::io::{BufRead, BufReader, Lines, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bottler::policy::GitTerms;
use bottler::scan::{Dlp, KnownSecret};
use bottler::sidecar::git_gate::{Approval, Ask, Config, Gate, Known, Programs, ROLE, Repository, Update};
use bottler::sidecar::role::{CommandOf, MessageOf};
use bottler::sidecar::{Action, Command as SidecarCommand, CommandOutcome, Event, Message, OutputLine};

pub use crate::git_gate_client::Done;
use crate::git_gate_client::{enter, git_command, git_in};
use crate::git_gate_upstream::{HttpUpstream, Relay, http_backend, start_sshd};
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

pub struct World {
    pub folder: tempfile::TempDir,
    pub gate: SocketAddr,
    /// The upstream, if it is over HTTP.
    pub http: HttpUpstream,
    /// What is between the gate and the upstream.
    pub between: Relay,
    config: String,
    running: Running,
    sshd: Option<Child>,
}

/// The gate's process.
struct Running {
    child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Drop for World {
    fn drop(&mut self) {
        for child in [Some(&mut self.running.child), self.sshd.as_mut()].into_iter().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Starts a gate; returns it with its address.
fn start(config: &str) -> (Running, SocketAddr) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_bottler"))
        .args([ROLE, "127.0.0.1:0"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    writeln!(input, "{config}").unwrap();
    let mut errors = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = errors.next().unwrap().unwrap();
    let gate = line.strip_prefix("listening on ").unwrap_or_else(|| panic!("{line}")).parse().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("ready"));
    (Running { child, input, lines }, gate)
}

impl World {
    /// An upstream with one commit, and a gate before it.
    pub fn new(wish: Wish) -> Self {
        // The socket of `ctl`, and sshd's folder of privilege separation.
        sh("ip link set lo up; mount -t tmpfs none /run; mkdir -p /run/bottler-ctl /run/sshd");
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("home")).unwrap();
        enter();
        git_in(folder.path(), folder.path(), &["init", "-q", "--bare", "-b", "main", "upstream.git"]).expect(true, &[]);
        let http = HttpUpstream::new(folder.path().to_owned());
        let (mut sshd, mut identity, mut known_host_key) = (None, None, None);
        let upstream = match wish.by {
            By::Http => http_backend(http.clone()),
            By::Ssh => {
                let port = start_sshd(folder.path(), &mut sshd);
                identity = Some(std::fs::read_to_string(at("user")).unwrap());
                known_host_key = wish.host_key.or_else(|| Some(std::fs::read_to_string(at("host.pub")).unwrap()));
                SocketAddr::from(([127, 0, 0, 1], port))
            }
        };
        let between = Relay::new(&[], move || upstream);
        let url = match wish.by {
            By::Http => format!("http://{}/upstream.git", between.address),
            By::Ssh => format!("ssh://root@{}{}", between.address, at("upstream.git").display()),
        };
        let secret = |&value: &&str| KnownSecret { value: value.to_owned(), hosts: Vec::new() };
        let known = Known { secrets: wish.secrets.iter().map(secret).collect(), placeholders: Vec::new() };
        let (terms, authorization) = (wish.terms, None);
        let repository =
            Repository { name: "app".to_owned(), url, identity, public: None, known_host_key, authorization, terms };
        let config = Config {
            bottle: "demo-1a2b3".to_owned(),
            asks: false,
            inside: None,
            outward: None,
            programs: Programs { git: "/usr/bin/git".into(), ssh: "/usr/bin/ssh".into() },
            state: at("state"),
            keys: None,
            dlp: Dlp::default(),
            known: wish.released.then_some(known),
            repositories: vec![repository],
        };
        let config = serde_json::to_string(&config).unwrap();
        let (running, gate) = start(&config);
        let world = Self { folder, gate, http, between, config, running, sshd };
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

    /// The gate's process id.
    pub fn pid(&self) -> u32 {
        self.running.child.id()
    }

    /// Starts another gate in the place of one that was killed.
    pub fn restart(&mut self) {
        self.running.child.wait().unwrap();
        // A new container has no socket of an earlier one.
        std::fs::remove_file("/run/bottler-ctl/socket").unwrap();
        (self.running, self.gate) = start(&self.config);
    }

    /// Waits until the upstream does nothing any more.
    pub fn settled(&self) {
        let idle = || self.between.open() == 0 && self.http.busy.load(Ordering::SeqCst) == 0;
        wait_for("the upstream", || idle().then_some(()));
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

    /// The URL of the upstream over ssh, and the setting of git that leads to it without the gate.
    pub fn direct(&self) -> (String, String) {
        let options = "-F /dev/null -o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no -o LogLevel=ERROR";
        let ssh = format!("core.sshCommand=ssh -i {} {options}", self.path("user").display());
        (format!("ssh://root@{}{}", self.between.address, self.path("upstream.git").display()), ssh)
    }

    /// Posts commands and a pack, as a client that is not git; returns the whole response as text.
    pub fn post(&self, commands: &[String], pack: &[u8]) -> String {
        self.post_timed(commands, pack).0
    }

    /// The same; also returns how long it took, and the longest time without a byte of the response after the request
    /// had been sent.
    pub fn post_timed(&self, commands: &[String], pack: &[u8]) -> (String, Duration, Duration) {
        let began = Instant::now();
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
        let (mut response, mut piece, mut silence) = (Vec::new(), vec![0; 64 << 10], Duration::ZERO);
        let mut last_piece = Instant::now();
        while let Ok(length @ 1..) = std::io::Read::read(&mut stream, &mut piece) {
            response.extend_from_slice(&piece[..length]);
            silence = silence.max(last_piece.elapsed());
            last_piece = Instant::now();
        }
        (String::from_utf8_lossy(&response).into_owned(), began.elapsed(), silence)
    }

    /// Approves what a refused push was offered as, in what the client was told.
    pub fn approve(&mut self, told: &str, once: bool) {
        let mut words = told.split("bottler git approve ").nth(1).expect("an offer").split_whitespace();
        assert_eq!(words.next(), Some("demo-1a2b3"));
        let approval = Approval { id: words.next().unwrap().trim_end_matches(':').to_owned(), once };
        self.command(Action::Update(Update::Approve(approval)));
    }

    /// All decisions so far.
    pub fn decisions(&mut self) -> Vec<Event> {
        self.command(Action::Flush)
    }

    /// Has a command carried out; returns the decisions that were told before that.
    fn command(&mut self, action: Action<Update, Ask>) -> Vec<Event> {
        let command: CommandOf<Gate> = SidecarCommand { n: 1, action };
        writeln!(self.running.input, "{}", serde_json::to_string(&command).unwrap()).unwrap();
        let mut events = Vec::new();
        loop {
            let line = self.running.lines.next().unwrap().unwrap();
            match serde_json::from_str::<OutputLine<MessageOf<Gate>>>(&line).unwrap().message {
                Message::Audit(event) => events.push(*event),
                Message::Acknowledged(acknowledged) => {
                    assert_eq!(acknowledged.outcome, CommandOutcome::Done);
                    return events;
                }
                _ => panic!("{line}"),
            }
        }
    }
}
