//! Services of this machine's loopback interface: declared ones are reached under their names, and nothing else is.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::process::{PATIENCE, World, recipe, wait_for};

const HELLO: &str = "a model of this machine";

/// Serves HTTP until the test ends, or until it is told to stop: then nothing listens.
struct Service {
    address: SocketAddr,
    served: Option<std::thread::JoinHandle<()>>,
}

impl Service {
    fn start(address: &str) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let served = std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut head = [0; 4096];
                let length = stream.read(&mut head).unwrap_or_default();
                if head[..length].starts_with(b"STOP") {
                    return;
                }
                let response =
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{HELLO}", HELLO.len());
                let _ = stream.write_all(response.as_bytes());
            }
        });
        Self { address, served: Some(served) }
    }

    /// Sends an event, and no end.
    fn endless() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut open = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n");
                open.push(stream);
            }
        });
        Self { address, served: None }
    }

    fn stop(&mut self) {
        if let Some(served) = self.served.take() {
            std::net::TcpStream::connect(self.address).unwrap().write_all(b"STOP").unwrap();
            served.join().unwrap();
        }
    }
}

struct Agent<'a> {
    world: &'a World,
    id: &'a str,
}

impl Agent<'_> {
    fn inside(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.world.pid(self.id)))
    }

    fn connect(&self, socket: &str) -> UnixStream {
        let stream = UnixStream::connect(self.inside(&format!("/run/bottler-services/egress/{socket}"))).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends bytes to a socket of egress, as the agent does, and returns the whole response.
    fn raw(&self, socket: &str, bytes: &str) -> String {
        let mut stream = self.connect(socket);
        let mut response = Vec::new();
        // Egress may end the connection first.
        let _ = stream.write_all(bytes.as_bytes()).and_then(|()| stream.read_to_end(&mut response).map(drop));
        String::from_utf8_lossy(&response).into_owned()
    }

    /// A request through the proxy.
    fn post(&self, destination: &str, body: &str) -> String {
        let length = body.len();
        self.raw("socket", &format!(
            "POST http://{destination}/api HTTP/1.1\r\nHost: {destination}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
    }

    /// A request past the proxy, to the name itself.
    fn direct(&self) -> String {
        self.raw("tcp-0", "GET / HTTP/1.1\r\nHost: model\r\nConnection: close\r\n\r\n")
    }
}

impl Agent<'_> {
    /// What curl says of a body that it sends past the proxy.
    fn curl(&self, url: &str, body: &[u8], headers: &[&str]) -> String {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(body).unwrap();
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--max-time", "60", url, "--data-binary"]);
        curl.arg(format!("@{}", file.path().display())).args(headers.iter().flat_map(|header| ["-H", header]));
        curl.arg("--unix-socket").arg(self.inside("/run/bottler-services/egress/tcp-0"));
        let output = curl.output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

/// What a client that knows no proxy sends is read as the proxy reads it.
fn assert_direct_bodies_are_read(agent: &Agent<'_>, named: &str) {
    for (name, body, headers) in [
        ("gzip", gzip(token().as_bytes()), &[][..]),
        ("content encoding", gzip(token().as_bytes()), &["Content-Encoding: gzip"][..]),
        ("chunks", token().into_bytes(), &["Transfer-Encoding: chunked"][..]),
        ("both", gzip(token().as_bytes()), &["Content-Encoding: gzip", "Transfer-Encoding: chunked"][..]),
    ] {
        let said = agent.curl(&format!("http://{named}/"), &body, headers);
        assert!(said.contains("secret_found") && !said.contains(HELLO), "{name}: {said}");
        let said = agent.curl(&format!("http://{named}/"), &gzip(b"hello"), &["Content-Encoding: gzip"]);
        assert!(said.contains(HELLO), "{name}: {said}");
    }
    let halves = token();
    let (one, two) = halves.split_at(20);
    let chunks = format!("{:x}\r\n{one}\r\n{:x}\r\n{two}\r\n0\r\n\r\n", one.len(), two.len());
    let head = "POST / HTTP/1.1\r\nHost: model\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    let said = agent.raw("tcp-0", &format!("{head}{chunks}"));
    assert!(said.contains("secret_found") && !said.contains(HELLO), "{said}");
}

/// The processes in containers that lead holders to egress.
fn channels() -> Vec<Pid> {
    let all = std::fs::read_dir("/proc").unwrap();
    let all = all.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let command = |pid: &i32| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    all.filter(|pid| command(pid).ends_with(b"/bottler\0host-services\0")).map(Pid::from_raw).collect()
}

fn token() -> String {
    // Assembled here, so that repository scanners do not report it.
    ["ghp_", "wWPw5k4aXcaT4fNP0UcnZwJUVFk6LO0pINUx"].concat()
}

#[test]
fn promise_05_a_declared_service_of_this_machine_is_reached_by_its_name_and_nothing_else_is() {
    let world = World::new();
    let mut model = Service::start("127.0.0.1:0");
    let other = Service::start("127.0.0.1:0");
    let endless = Service::endless();
    let addresses = Command::new("hostname").arg("-I").output().unwrap().stdout;
    let addresses = String::from_utf8(addresses).unwrap();
    let own = addresses.split_whitespace().find(|address| address.contains('.'));
    let open = own.map(|own| Service::start(&format!("{own}:0")));
    let (port, closed) = (model.address.port(), other.address.port());
    let allowed = open.as_ref().map_or("example.com".to_owned(), |open| format!("'{}'", open.address));
    let manifest = world.state.path().join("services.yaml");
    let text = format!(
        "bottles:\n  b:\n    bounds: {}\n    host_services: [{{name: model, port: {port}}}, {{name: endless, port: {}}}]\n\
         \x20   egress: {{allow: [{allowed}], ip_allow: [0.0.0.0/0]}}\n\
         agents: {{a: {{bottle: b, template: probe}}}}\n",
        World::bounds(),
        endless.address.port()
    );
    std::fs::write(&manifest, text).unwrap();
    let manifest = manifest.to_string_lossy().into_owned();
    let dry = world.run(&["run", "a", "--manifest", &manifest, "--dry-run"]);
    let shown = format!("{}{}", dry.stdout, dry.stderr);
    assert!(shown.contains(&format!("model:{port}")) && shown.contains("on its loopback interface"), "{shown}");

    let idle = recipe("idle.lua");
    let run = ["run", "a", "--manifest", &manifest, "--recipe", &idle, "--name", "services", "--yes", "-d"];
    let done = world.run(&run);
    assert_eq!(done.code(), 0, "{}", done.stderr);
    let agent = Agent { world: &world, id: "services" };
    let named = format!("model:{port}");
    // By the proxy, and by a client that knows none.
    for response in [agent.post(&named, "hello"), agent.direct()] {
        assert!(response.contains(HELLO), "{response}");
    }
    assert_direct_bodies_are_read(&agent, &named);
    // Where a client knows the proxy, it is to be asked.
    let environment = std::fs::read(format!("/proc/{}/environ", world.pid("services"))).unwrap();
    let environment = String::from_utf8_lossy(&environment).into_owned();
    assert!(environment.contains("NO_PROXY=") && !environment.contains("model"), "{environment}");
    let hosts = std::fs::read_to_string(agent.inside("/etc/hosts")).unwrap();
    assert!(hosts.lines().any(|line| line.starts_with("127.0.2.1") && line.contains("model")), "{hosts}");
    // Another port of this name, this machine by its other names and addresses, and a secret.
    for (destination, body, code) in [
        (format!("model:{closed}"), "", "port_not_allowed"),
        (format!("127.0.0.1:{port}"), "", "address_not_public"),
        (format!("localhost:{port}"), "", "address_not_public"),
        (named.clone(), token().as_str(), "secret_found"),
    ] {
        let response = agent.post(&destination, body);
        assert!(response.contains(code) && !response.contains(HELLO), "{destination}: {response}");
    }
    if let Some(open) = &open {
        let response = agent.post(&open.address.to_string(), "");
        assert!(response.contains("an address of this host") && response.contains("host_services"), "{response}");
    }
    // The channel is an exec: where it breaks, there is another one.
    let channels = channels();
    assert!(!channels.is_empty());
    for process in channels {
        kill(process, Signal::SIGKILL).unwrap();
    }
    wait_for("another channel", || agent.post(&named, "hello").contains(HELLO).then_some(()));
    // After a restart of egress, too.
    world.kill("services-egress");
    wait_for("the restart", || (world.run(&["sidecar", "restart", "services", "egress"]).code() == 0).then_some(()));
    wait_for("egress", || agent.post(&named, "hello").contains(HELLO).then_some(()));
    // A service that has ended.
    model.stop();
    // The first request may go on a connection whose end egress has not seen yet.
    wait_for("the refusal", || agent.post(&named, "hello").contains("nothing listens on port").then_some(()));
    model = Service::start(&model.address.to_string());
    assert!(agent.direct().contains(HELLO));
    // A denial holds for it, too, in both ways; and what denies a part, where nothing shows which part is asked for.
    let operator = |words: &[&str]| {
        let done = world.run(&[&["policy"], words].concat());
        assert_eq!(done.code(), 0, "{words:?}: {}", done.stderr);
    };
    operator(&["deny", "services", "model", "--path", "/pull"]);
    assert!(agent.post(&named, "hello").contains(HELLO) && !agent.direct().contains(HELLO));
    operator(&["deny", "services", "model", "--path", "/pull", "--undo"]);
    assert!(agent.direct().contains(HELLO));
    // A response in progress ends with the denial.
    let mut stream = agent.connect("socket");
    let at = format!("endless:{}", endless.address.port());
    stream.write_all(format!("GET http://{at}/ HTTP/1.1\r\nHost: {at}\r\n\r\n").as_bytes()).unwrap();
    let (mut arrived, mut piece) = (String::new(), [0; 4096]);
    while !arrived.contains("data: 1") {
        let length = stream.read(&mut piece).unwrap();
        assert!(length > 0, "{arrived}");
        arrived.push_str(&String::from_utf8_lossy(&piece[..length]));
    }
    operator(&["deny", "services", "model", "endless"]);
    assert!(matches!(stream.read(&mut piece), Ok(0) | Err(_)), "it ends");
    let response = agent.post(&named, "hello");
    assert!(response.contains("\"code\":\"denied\"") && response.contains("--undo"), "{response}");
    assert!(!response.contains(HELLO) && !agent.direct().contains(HELLO));
    operator(&["deny", "services", "model", "--undo"]);
    assert!(agent.post(&named, "hello").contains(HELLO));
    drop((model, other, open, endless));
    assert_eq!(world.run(&["stop", "services"]).code(), 0);
    world.assert_clean();
}

#[test]
fn a_service_that_cannot_be_declared_is_an_error_with_its_line() {
    let world = World::new();
    for (entry, words) in [
        ("{name: egress, port: 80}", "is taken"),
        ("{name: pypi.org, port: 443}", "is no name"),
        ("{name: a, port: 22}", "SSH and git are not forwarded"),
        ("{name: a, port: 80}, {name: a, port: 81}", "is there twice"),
        ("{name: a}", "missing field"),
    ] {
        let manifest = world.state.path().join("bad.yaml");
        let text =
            format!("bottles:\n  b:\n    host_services: [{entry}]\nagents: {{a: {{bottle: b, template: probe}}}}\n");
        std::fs::write(&manifest, text).unwrap();
        let done = world.run(&["run", "a", "--manifest", &manifest.to_string_lossy(), "--dry-run"]);
        assert!(done.code() != 0 && done.stderr.contains(words), "{entry}: {}", done.stderr);
        assert!(done.stderr.contains("bad.yaml"), "{entry}: {}", done.stderr);
    }
    let done = world.run(&["run", "probe", "--host-service", "model", "--dry-run"]);
    assert!(done.code() != 0 && done.stderr.contains("is not NAME:PORT"), "{}", done.stderr);
}
