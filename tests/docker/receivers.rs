//! Receivers decide whether anything from a bottle arrives: on the engine's host, and in another bottle. Each must
//! first receive traffic from an ordinary container.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::images::bottlers_own;
use crate::support::process::{World, finish, recipe, targets, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A listener, on this host or in a container's network.
struct Listener {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Listener {
    fn start(container: Option<&str>) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/listen.py");
        let mut command = match container {
            None => Command::new("python3"),
            Some(container) => {
                let mut command = Command::new("nsenter");
                command.args([
                    "--target",
                    &docker(&["inspect", "--format", "{{.State.Pid}}", container]),
                    "--net",
                    "python3",
                ]);
                command
            }
        };
        let mut child = command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        Self { child, lines }
    }

    /// Everything that was received.
    fn heard(mut self) -> Vec<String> {
        drop(self.child.stdin.take());
        let mut heard: Vec<String> = self.lines.map_while(Result::ok).collect();
        assert!(self.child.wait().unwrap().success());
        assert_eq!(heard.pop().as_deref(), Some("end"));
        heard
    }
}

fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().unwrap();
    assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// The variable with addresses for the built-in probe.
fn variable(addresses: &[String]) -> String {
    format!("{}={}", bottler::probe::VARIABLE, targets(addresses))
}

/// This host's addresses that a container can reach.
fn host_addresses() -> Vec<String> {
    let all = nix::ifaddrs::getifaddrs().unwrap();
    let addresses = all.filter_map(|it| Some(it.address?.as_sockaddr_in()?.ip()));
    addresses.filter(|address| !address.is_loopback()).map(|address| address.to_string()).collect()
}

/// A network with IPv6.
struct Network {
    name: String,
}

impl Network {
    fn create() -> Self {
        let name = format!("open-{}", std::process::id());
        docker(&["network", "create", "--ipv6", "--subnet", "fd00:b077:1e::/64", &name]);
        Self { name }
    }

    /// The host's addresses on it.
    fn gateway(&self) -> String {
        let all = docker(&["network", "inspect", &self.name, "--format", "{{range .IPAM.Config}}{{.Gateway}} {{end}}"]);
        all.split_whitespace().find(|gateway| gateway.contains('.')).unwrap().to_owned()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        docker(&["network", "rm", &self.name]);
    }
}

#[test]
fn promise_01_nothing_of_a_bottle_arrives_at_the_engines_host() {
    let world = World::new();
    assert_eq!(world.run(&["run", "probe"]).code(), 0);
    let variable = variable(&host_addresses());

    // An open container can send everything, and it is received: IPv6, a DNS server, the capabilities that containers
    // have by default, and no filter.
    let open = Network::create();
    let listener = Listener::start(None);
    let image = bottlers_own();
    let run = ["run", "--rm", "--network", &open.name, "--dns", &open.gateway(), "--cap-drop", "ALL"];
    let may = ["--cap-add", "NET_RAW", "--security-opt", "seccomp=unconfined", "-e", &variable];
    let command = ["--user", "0:0", "--entrypoint", "/bottler", &image, "probe"];
    let said = Command::new("docker").args(run).args(may).args(command).output().unwrap();
    assert!(!said.stdout.is_empty(), "{}", String::from_utf8_lossy(&said.stderr));
    let heard = listener.heard();
    drop(open);
    for what in [
        "UDP",
        "SO_BINDTODEVICE-eth0",
        "SO_BINDTODEVICE-and-SO_DONTROUTE-eth0",
        "IP_UNICAST_IF-eth0",
        "IP_PKTINFO-eth0",
        "SO_DONTROUTE-eth0",
        "multicast-eth0",
        "broadcast-eth0",
        "UDP-IPv6-eth0",
        "tcp from",
        "name from",
    ] {
        assert!(heard.iter().any(|line| line.contains(what)), "{what} is not heard of an open container: {heard:?}");
    }
    let lines: Vec<bottler::probe::ProbeResult> = serde_json::from_slice(&said.stdout).unwrap();
    for attempt in ["raw socket, IPv4", "raw socket, IPv6", "packet socket", "vsock socket", "user namespace"] {
        let line = lines.iter().find(|line| line.attempt == attempt).unwrap();
        assert!(!line.ok && line.happened == "allowed", "{line:?}");
    }
    for place in ["Internet, IPv6", "link-local, IPv6", "unique local, IPv6", "all nodes, IPv6 multicast"] {
        let line = lines.iter().find(|line| line.attempt == format!("route to {place}")).unwrap();
        assert!(!line.ok, "{line:?}");
    }

    for arguments in [&[][..], &["--isolation", "bridge", "--set-rp-filter"]] {
        let listener = Listener::start(None);
        let done = world.run(&[&["run", "probe"], arguments].concat());
        assert_eq!(done.code(), 0, "{}", done.stderr);
        assert_eq!(listener.heard(), Vec::<String>::new(), "{arguments:?}");
    }
}

/// A bottle with an idle agent.
struct Bottle {
    child: Child,
    agent: String,
}

impl Bottle {
    fn start(world: &World, arguments: &[&str]) -> Self {
        let idle = recipe("idle.lua");
        let child = world.start(&[&["run", "probe", "--recipe", &idle], arguments].concat());
        let agent = wait_for("the idle agent", || world.agent_running("bottler idle"));
        Self { child, agent }
    }

    fn egress(&self) -> String {
        format!("{}-egress", self.agent)
    }

    /// All addresses of its containers, and of its networks' gateways.
    fn addresses(&self) -> Vec<String> {
        let each = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.Gateway}} {{end}}";
        let all =
            [&self.agent, &self.egress()].map(|container| docker(&["inspect", "--format", each, container])).join(" ");
        all.split_whitespace().map(str::to_owned).collect()
    }

    fn end(self) {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGINT).unwrap();
        assert_eq!(finish(self.child).code(), 126);
    }
}

#[test]
fn promise_01_two_bottles_do_not_reach_each_other() {
    let (one, other) = (World::new(), World::new());
    let bridge = &["--isolation", "bridge", "--set-rp-filter"][..];
    let theirs = Bottle::start(&one, bridge);
    let variable = variable(&theirs.addresses());
    assert!(theirs.addresses().len() >= 3, "{:?}", theirs.addresses());
    let attempt = |container: &str| {
        let output =
            Command::new("docker").args(["exec", "-e", &variable, container, "/bottler", "probe"]).output().unwrap();
        assert!(!output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    };

    // Traffic from the same bottle is received, so the listeners are in the right place.
    let listener = Listener::start(Some(&theirs.egress()));
    attempt(&theirs.agent);
    let heard = listener.heard();
    assert!(
        heard.iter().any(|line| line.starts_with("udp")) && heard.iter().any(|line| line.starts_with("tcp")),
        "{heard:?}"
    );

    for arguments in [&[][..], bridge] {
        let ours = Bottle::start(&other, arguments);
        let listeners = [&theirs.agent, &theirs.egress()].map(|container| Listener::start(Some(container)));
        attempt(&ours.agent);
        for listener in listeners {
            assert_eq!(listener.heard(), Vec::<String>::new(), "{arguments:?}");
        }
        ours.end();
    }
    theirs.end();
    one.assert_clean();
    other.assert_clean();
}

/// Listening TCP and bound UDP sockets in the network namespace of a process: `ADDRESS:PORT`, both in hexadecimal,
/// and the socket's inode (`proc_pid_net(5)`, `tcp`).
fn listening(pid: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for table in ["tcp", "tcp6", "udp", "udp6"] {
        let text = std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap();
        let rows = text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
        // TCP sockets that listen, and UDP sockets without a peer.
        let open = rows.filter(|row| row[3] == "0A" || table.starts_with("udp") && row[3] == "07");
        found.extend(open.map(|row| (row[1].to_owned(), row[9].to_owned())));
    }
    found
}

/// Those that belong to a process.
fn own_listeners(pid: &str) -> Vec<String> {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let leads =
        files.filter_map(|file| Some(std::fs::read_link(file.ok()?.path()).ok()?.to_string_lossy().into_owned()));
    let leads: Vec<String> = leads.collect();
    let own = listening(pid).into_iter().filter(|(_, inode)| leads.contains(&format!("socket:[{inode}]")));
    own.map(|(at, _)| at).collect()
}

#[test]
fn promise_03_nothing_of_bottler_listens_on_the_host_and_no_container_has_a_path_of_it() {
    let world = World::new();
    let control = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    assert!(!own_listeners("self").is_empty(), "a listener is seen");
    drop(control);
    for arguments in [&[][..], &["--isolation", "bridge", "--set-rp-filter"]] {
        let bottle = Bottle::start(&world, arguments);
        let processes: Vec<i32> = ["holder", "reaper"].into_iter().flat_map(|role| world.processes(role)).collect();
        assert!(processes.len() >= 2, "{processes:?}");
        for pid in processes.into_iter().chain([bottle.child.id().cast_signed()]) {
            assert_eq!(own_listeners(&pid.to_string()), Vec::<String>::new(), "{arguments:?}");
        }
        for container in [&bottle.agent, &bottle.egress()] {
            let seen: serde_json::Value = serde_json::from_str(&docker(&["inspect", container])).unwrap();
            let (host, mounts) = (&seen[0]["HostConfig"], seen[0]["Mounts"].as_array().unwrap());
            assert!(mounts.iter().all(|mount| mount["Type"] == "volume"), "{mounts:?}");
            assert!(host["Binds"].as_array().is_none_or(Vec::is_empty) && host["PublishAllPorts"] == false, "{host}");
            assert!(host["PortBindings"].as_object().is_none_or(serde_json::Map::is_empty), "{host}");
            assert_ne!(host["NetworkMode"], "host");
        }
        // In a sealed bottle, egress has a unix socket; on a network, its internal address. The engine's own resolver
        // is at 127.0.0.11.
        let inside = bottle.addresses().into_iter().filter_map(|address| address.parse().ok());
        let inside: Vec<String> =
            inside.map(|it: std::net::Ipv4Addr| format!("{:08X}:", u32::from(it).swap_bytes())).collect();
        let at = listening(&docker(&["inspect", "--format", "{{.State.Pid}}", &bottle.egress()]));
        let own: Vec<&String> = at.iter().map(|(at, _)| at).filter(|at| !at.starts_with("0B00007F:")).collect();
        // The agent's port, and the port for repeated proofs.
        assert_eq!(own.len(), 2 * arguments.len().min(1), "{own:?}");
        assert!(
            own.iter().all(|at| (at.ends_with(":22B8") || at.ends_with(":22B7"))
                && inside.iter().any(|inside| at.starts_with(inside))),
            "{own:?}"
        );
        bottle.end();
    }
    world.assert_clean();
}
