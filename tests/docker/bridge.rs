//! `isolation: bridge` on the real engine: proved by what the engine's host reports, or refused; and every guarantee
//! of the default launch.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use crate::support::images::{BUSYBOX, Busybox, bottlers_own};
use crate::support::process::{World, bottler, finish, recipe, wait_for};
use bottler::sidecar::receiver::{Arrivals, Config, HostReceiver as Role};
use bottler::sidecar::role::MessageOf;
use bottler::sidecar::{CommandOutcome, Message, OutputLine};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const BRIDGE: [&str; 3] = ["--isolation", "bridge", "--set-rp-filter"];

fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().unwrap();
    assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn promise_01_a_bottle_on_a_network_is_tight_by_the_word_of_the_host() {
    let world = World::new();
    let done = world.run(&[&["run", "probe", "--format", "json"], &BRIDGE[..]].concat());
    assert_eq!(done.code(), 0, "{}{}", done.stdout, done.stderr);
    let data = done.json();
    let lines = data["lines"].as_array().unwrap();
    assert!(lines.iter().all(|line| line["ok"] == true), "{lines:?}");
    for (attempt, happened) in [
        ("network interfaces", "eth0"),
        ("UDP, SO_BINDTODEVICE and SO_DONTROUTE", "sent to"),
        ("UDP, multicast", "sent to"),
        ("TCP, SO_BINDTODEVICE and SO_DONTROUTE", "sent to"),
        ("host's rp_filter on br-", "strict"),
        ("host's addresses on br-", "none"),
        ("received on the host", "nothing"),
        ("turned away by the host", " came, "),
    ] {
        let is = |line: &&serde_json::Value| line["attempt"].as_str().unwrap().starts_with(attempt);
        let line = lines.iter().find(is).unwrap_or_else(|| panic!("{attempt}: {lines:?}"));
        assert!(line["happened"].as_str().unwrap().contains(happened), "{line}");
    }
    // The internal network is created first and removed last, and the receiver on the host is gone.
    let undone: Vec<&str> = data["undo"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert!(undone.last().unwrap().ends_with("-inside") && !undone.iter().any(|name| name.ends_with("-receiver")));
}

#[test]
fn promise_01_without_the_hosts_filter_a_bottle_on_a_network_is_refused() {
    let file = |device: &str| format!("/proc/sys/net/ipv4/conf/{device}/rp_filter");
    for device in ["all", "default"] {
        assert_eq!(
            std::fs::read_to_string(file(device)).unwrap().trim(),
            "0",
            "this test needs a host without filters"
        );
    }
    let world = World::new();
    let done = world.run(&["run", "probe", "--isolation", "bridge"]);
    assert_eq!(done.code(), 124, "{}", done.stderr);
    for words in ["rp_filter on br-", " is off", "hint: `bridge: {set_rp_filter: true}`", "removed: "] {
        assert!(done.stderr.contains(words), "{words}: {}", done.stderr);
    }
    assert!(!done.stderr.contains("agent released"));
}

/// A network like a bottle's, without a bottle; removed when dropped.
struct Network {
    name: String,
    device: String,
}

impl Network {
    fn new() -> Self {
        let name = format!("bottler-test-{}", std::process::id());
        let device = format!("br-t{}", std::process::id());
        let (inhibit, named) =
            ("com.docker.network.bridge.inhibit_ipv4=true", format!("com.docker.network.bridge.name={device}"));
        docker(&[
            "network",
            "create",
            "--internal",
            "--subnet",
            "10.213.254.240/28",
            "-o",
            inhibit,
            "-o",
            &named,
            &name,
        ]);
        Self { name, device }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["network", "rm", &self.name]).output();
    }
}

/// The receiver, as a process of this host.
struct Receiver {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Receiver {
    /// Starts it; also returns its port.
    fn start(device: &str, set_filter: bool) -> (Self, u16) {
        let mut child =
            Command::new(bottler()).arg("receiver").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut receiver = Self { child, lines };
        let config = serde_json::to_string(&Config { device: device.to_owned(), set_filter }).unwrap();
        let Message::Ready(host) = receiver.ask(&config) else { panic!("it does not listen") };
        assert_eq!(host.filters(), set_filter);
        assert_eq!(host.addresses, Vec::<String>::new());
        (receiver, host.port)
    }

    fn ask(&mut self, line: &str) -> MessageOf<Role> {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
        serde_json::from_str::<OutputLine<_>>(&self.lines.next().unwrap().unwrap()).unwrap().message
    }

    fn heard(mut self) -> Arrivals {
        let answer = self.ask(r#"{"n":1,"action":{"ask":"what_came"}}"#);
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
        match answer {
            Message::Acknowledged(acknowledged) => match acknowledged.outcome {
                CommandOutcome::Answer(heard) => heard,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn promise_01_the_receiver_hears_what_the_filter_does_not_turn_away() {
    let world = World::new();
    // The engine has its image from now on.
    assert_eq!(world.run(&["run", "probe"]).code(), 0);
    let image = bottlers_own();
    let network = Network::new();
    let host = docker(&["network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Subnet}}"]);
    let host: ipnet::Ipv4Net = host.parse().unwrap();
    let host = host.hosts().next().unwrap();
    let targets = |port: u16| {
        serde_json::json!({
            "proxy": "127.0.0.2:8888",
            "direct": [{ "name": "the host", "address": host, "port": 22 }],
            "counterpart": null,
            "resources": { "cpus": 1.0, "memory": 1, "pids": 1 },
            "inside": { "nobody": "10.213.254.241", "egress": "10.213.254.242", "port": port },
        })
    };
    let attempts = |port: u16| {
        let variable = format!("{}={}", bottler::probe::VARIABLE, targets(port));
        let arguments = ["run", "--rm", "--network", &network.name, "--cap-drop", "ALL", "-e", &variable];
        // It exits like a probe that fails because egress is missing.
        let output = Command::new("docker")
            .args(arguments)
            .args(["--entrypoint", "/bottler", &image, "probe"])
            .output()
            .unwrap();
        assert!(!output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    };

    let (receiver, port) = Receiver::start(&network.device, false);
    attempts(port);
    let heard = receiver.heard();
    // The other ways need a gateway, which does not exist here.
    for way in ["SO_BINDTODEVICE-and-SO_DONTROUTE-eth0", "multicast-eth0", "broadcast-eth0", "TCP from"] {
        assert!(heard.received.iter().any(|line| line.contains(way)), "{way}: {:?}", heard.received);
    }

    let (receiver, port) = Receiver::start(&network.device, true);
    attempts(port);
    let heard = receiver.heard();
    assert_eq!(heard.received, Vec::<String>::new());
    assert!(heard.came > 0 && heard.turned_away > 0, "{heard:?}");
}

/// The default launch, by the numbers of its description: everything that can be observed of a running bottle.
#[test]
fn the_default_launch_in_a_bottle_on_a_network() {
    let world = World::new();
    let _image = Busybox::import();
    let run = ["run", "shell", "--image", BUSYBOX, "--no-workspace", "--prompt", "a prompt"];
    let command = ["--", "/bin/sh", "-c", "sleep 1000"];
    let child = world.start(&[&run[..], &BRIDGE[..], &command[..]].concat());
    let agent = wait_for("the agent's command", || world.agent_running("sleep 1000"));
    let inspect = |thing: &str, format: &str| docker(&["inspect", "--format", format, thing]);
    let inside = |command: &[&str]| docker(&[&["exec", &agent][..], command].concat());
    let egress = format!("{agent}-egress");

    // 2: the internal network and the outside one; egress and the agent have their addresses in its range.
    let range = docker(&[
        "network",
        "inspect",
        &format!("{agent}-inside"),
        "--format",
        "{{.Internal}} {{(index .IPAM.Config 0).Subnet}}",
    ]);
    let range: ipnet::Ipv4Net = range.strip_prefix("true ").unwrap().parse().unwrap();
    let networks = "{{range $name, $it := .NetworkSettings.Networks}}{{$name}} {{$it.IPAddress}};{{end}}";
    let place = |number: u32| std::net::Ipv4Addr::from(u32::from(range.network()) + number);
    assert_eq!(inspect(&agent, networks), format!("{agent}-inside {};", place(3)), "8: on the internal network only");
    assert!(inspect(&egress, networks).contains(&format!("{agent}-inside {};{agent}-outside ", place(2))));
    // 4 and 5: no file contains the key; the configuration is sent, not mounted.
    assert_eq!(inspect(&egress, "{{.Mounts}} {{.HostConfig.Binds}}"), "[] []");
    let certificate = inside(&["/bin/cat", "/run/bottler/ca.pem"]);
    assert!(certificate.contains("BEGIN CERTIFICATE"));
    // 6: nothing beyond the plan.
    let mut names = world.objects();
    names.sort();
    assert_eq!(names, ["", "-egress", "-inside", "-outside"].map(|end| format!("{agent}{end}")));
    // 7: names work on the agent's first request.
    let ask = ["exec", &agent, "/bin/wget", "-q", "-O", "-", "http://canary.bottler.invalid/"];
    assert!(docker(&ask).contains("canary"));
    assert_eq!(inspect(&agent, "{{.HostConfig.Dns}}"), format!("[{}]", place(2)));
    // Other containers on that network are not served.
    let proxy = format!("http_proxy=http://{}:8888", place(2));
    let network = format!("{agent}-inside");
    let stranger = ["run", "--rm", "--network", &network, "-e", &proxy, "--entrypoint", "/bin/wget", BUSYBOX];
    let ask_as = ["-q", "-T", "5", "-O", "-", "http://canary.bottler.invalid/"];
    let asked = Command::new("docker").args(stranger).args(ask_as).output().unwrap();
    assert!(!asked.status.success() && !String::from_utf8_lossy(&asked.stdout).contains("canary"));
    // 8: the same for every later exec.
    let environment = inside(&["/bin/env"]);
    let proxies = ["HTTPS_PROXY", "HTTP_PROXY"].map(|name| format!("{name}=http://127.0.0.2:8888"));
    for words in [
        proxies[0].as_str(),
        &proxies[1],
        "NO_PROXY=localhost,127.0.0.1,::1,127.0.0.0/8,egress",
        "NODE_EXTRA_CA_CERTS=/run/bottler/ca.pem",
        "SSL_CERT_FILE=/run/bottler/ca-bundle.pem",
        "REQUESTS_CA_BUNDLE=/run/bottler/ca-bundle.pem",
    ] {
        assert!(environment.lines().any(|line| line == words), "{words}: {environment}");
    }
    // 9: the engine removes it when it ends.
    assert_eq!(inspect(&agent, "{{.HostConfig.AutoRemove}} {{.HostConfig.RestartPolicy.Name}}"), "true no");
    // 11: it was provisioned.
    assert_eq!(inside(&["/bin/cat", "/home/agent/.bottler/prompt.md"]), "a prompt");
    // Promise 2: without its sidecar the agent has no way out and is paused.
    docker(&["kill", &egress]);
    wait_for("the agent's pause", || (inspect(&agent, "{{.State.Paused}}") == "true").then_some(()));
    assert_eq!(inspect(&egress, "{{.State.Status}} {{.RestartCount}}"), "exited 0");

    // 13: in reverse order.
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    let done = finish(child);
    assert_eq!(done.code(), 126, "{}", done.stderr);
    let removed = ["", "-egress", "-outside", "-inside"].map(|end| format!("{agent}{end}")).join(", ");
    assert!(done.stderr.contains(&format!("removed: {removed}")), "{}", done.stderr);
    world.assert_clean();
}

#[test]
fn promise_01_on_an_ordinary_bridge_the_probe_is_red_and_the_agent_never_starts() {
    let world = World::new();
    let done = world.run(&["run", "probe", "--recipe", &recipe("bridge.lua"), "--format", "json"]);
    assert_eq!(done.code(), 124, "{}{}", done.stdout, done.stderr);
    let data = done.json();
    let red: Vec<&str> = data["lines"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|line| line["ok"] == false)
        .map(|line| line["attempt"].as_str().unwrap())
        .collect();
    // The positive control: from an ordinary container these targets can be reached.
    for attempt in [
        "network interfaces",
        "TCP to gateway",
        "TCP to egress",
        "SO_BINDTODEVICE",
        "IP_UNICAST_IF",
        "multicast",
        "route to Internet",
    ] {
        assert!(red.iter().any(|line| line.contains(attempt)), "{attempt} is not red: {red:?}");
    }
    assert_eq!(data["exit_code"], serde_json::Value::Null);
    assert_eq!(data["times"]["released"], serde_json::Value::Null);
    assert!(done.stderr.contains("not tight"), "{}", done.stderr);
}
