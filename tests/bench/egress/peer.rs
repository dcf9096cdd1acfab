//! The ways between: egress in its modes, Squid, mitmproxy.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bottler::credential::{Credential, Place, Slot};
use bottler::policy::{EgressSpec, EnforcedPolicy};
use bottler::scan::KnownSecret;
use bottler::sidecar::cred_proxy::{self, Put, Route};
use bottler::sidecar::egress::{Ask, CaKeyPair, Config, Pair, PipelockConfig, Update};
use bottler::sidecar::place::Uplink;
use bottler::sidecar::{Action, Command as SidecarCommand};

use super::HOST;
use super::load::Way;

/// How long one may take to listen.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the client has in the place of a key, and the key.
pub const HELD: &str = "sk-none-0123456789abcdefghij0123456789abcdefghij";
const VALUE: &str = "sk-live-4fJ9xqZt7LmPw2Rb4fJ9xqZt7LmPw2Rb4fJ9xqZt";

pub enum Peer {
    Direct,
    /// An entry of the allowlist, in YAML.
    Egress(&'static str),
    /// Egress that scans, and puts a credential in.
    Injection,
    /// A route of the cred-proxy, which goes out through such an egress.
    Route,
    Squid,
    Mitmproxy,
    /// Egress with the program that `BOTTLER_PIPELOCK` names behind it.
    Pipelock,
}

/// A proxy that listens; killed when it is dropped.
pub struct Running {
    pub way: Way,
    children: Vec<Child>,
}

impl Drop for Running {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Running {
    /// Processor time so far, in microseconds, of the process (proc(5), `stat`): helpers that it started are left out.
    pub fn processor(&self) -> f64 {
        let ticks = |child: &Child| -> Option<u64> {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).ok()?;
            let mut words = stat.rsplit(')').next()?.split_ascii_whitespace().skip(11);
            Some(words.next()?.parse::<u64>().ok()? + words.next()?.parse::<u64>().ok()?)
        };
        let ticks: u64 = self.children.iter().filter_map(ticks).sum();
        f64::from(u32::try_from(ticks).unwrap()) * 1e4
    }

    /// A field of status in proc(5), in MiB, of the process and of those that it started.
    pub fn memory(&self, field: &str) -> f64 {
        let all =
            std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let all: Vec<u32> = all.collect();
        let of = |pid: u32, field: &str| -> Option<u64> {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
            line.split_ascii_whitespace().next()?.parse().ok()
        };
        let mut family: Vec<u32> = self.children.iter().map(Child::id).collect();
        let mut next = 0;
        while next < family.len() {
            let parent = u64::from(family[next]);
            family.extend(all.iter().filter(|&&pid| of(pid, "PPid") == Some(parent)));
            next += 1;
        }
        let kilobytes: u64 = family.into_iter().filter_map(|pid| of(pid, field)).sum();
        f64::from(u32::try_from(kilobytes).unwrap()) / 1024.0
    }
}

impl Peer {
    pub fn all() -> Vec<(&'static str, Self)> {
        let pipelock = std::env::var_os("BOTTLER_PIPELOCK").map(|_| ("egress, scanned, then Pipelock", Self::Pipelock));
        let all = vec![
            ("direct", Self::Direct),
            ("egress, tunnel", Self::Egress("{host: origin.example.com, tls: tunnel}")),
            ("egress, TLS taken off", Self::Egress("{host: origin.example.com, scan: off}")),
            ("egress, TLS taken off and scanned", Self::Egress("origin.example.com")),
            ("egress, the same with a credential put in", Self::Injection),
            ("cred-proxy, then egress, the same", Self::Route),
            ("Squid, TLS taken off", Self::Squid),
            ("mitmproxy", Self::Mitmproxy),
        ];
        all.into_iter().chain(pipelock).collect()
    }

    /// Starts it; `None` where there is nothing between.
    pub fn start(&self, folder: &Path) -> Option<Running> {
        let (port, mut children) = match self {
            Self::Direct => return None,
            Self::Egress(entry) => (3127, vec![egress(entry, folder, false)]),
            Self::Injection | Self::Route => (3127, vec![egress("origin.example.com", folder, true)]),
            Self::Pipelock => (3127, vec![pipelock(folder)]),
            Self::Squid => (3128, vec![squid(folder)]),
            Self::Mitmproxy => (3129, vec![mitmproxy(folder)]),
        };
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(began.elapsed() < PATIENCE, "nothing listens on {address}");
            std::thread::sleep(Duration::from_millis(20));
        }
        let way = match self {
            Self::Injection => Way::Proxy { address, key: true },
            Self::Route => {
                children.push(cred_proxy(folder));
                Way::Route(folder.join("route/socket"))
            }
            _ => Way::Proxy { address, key: false },
        };
        Some(Running { way, children })
    }
}

/// A configuration that allows one entry, and trusts the destination.
fn config(entry: &str, folder: &Path) -> Config {
    let mut spec: EgressSpec = serde_yaml::from_str(&format!("allow: [{entry}]")).unwrap();
    spec.roots.push(std::fs::read_to_string(folder.join("root.pem")).unwrap());
    Config::new("bench", EnforcedPolicy::first(spec))
}

fn pipelock(folder: &Path) -> Child {
    let program = std::env::var_os("BOTTLER_PIPELOCK").unwrap().into();
    let pipelock = Some(PipelockConfig { program, held: Vec::new() });
    run(&Config { pipelock, ..config(HOST, folder) })
}

fn egress(entry: &str, folder: &Path, with_key: bool) -> Child {
    let mut config = config(entry, folder);
    if with_key {
        let place = Place { host: HOST.into(), slot: Slot::Bearer, methods: Vec::new(), paths: Vec::new() };
        let (name, placeholder, value) = ("key".into(), HELD.into(), VALUE.into());
        config.credentials = vec![Credential { name, placeholder, value, places: vec![place] }];
        let authority = CaKeyPair::new("bench").unwrap();
        std::fs::create_dir_all(folder.join("pair")).unwrap();
        let shown = serde_json::to_value(&authority).unwrap();
        std::fs::write(folder.join("egress.pem"), shown["certificate"].as_str().unwrap()).unwrap();
        config.authority = Some(authority);
        config.pairs = vec![Pair { name: "cred-proxy".into(), folder: folder.join("pair") }];
    }
    run(&config)
}

fn run(config: &Config) -> Child {
    // The one before was killed, and its container would have gone with its socket.
    let _ = std::fs::remove_file("/run/bottler-ctl/socket");
    let mut child = Command::new(env!("CARGO_BIN_EXE_bottler"))
        .args(["egress", "127.0.0.1:3127"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let secrets = (0..20)
        .map(|number| KnownSecret { value: format!("a-secret-of-this-bottle-number-{number}"), hosts: Vec::new() })
        .collect();
    let update = SidecarCommand::<_, Ask> { n: 1, action: Action::Update(Update::Secrets(secrets)) };
    let input = child.stdin.as_mut().unwrap();
    for line in [serde_json::to_vec(config).unwrap(), serde_json::to_vec(&update).unwrap()] {
        input.write_all(&[&line[..], b"\n"].concat()).unwrap();
    }
    child
}

/// It listens on sockets in two folders; returns when it does.
fn cred_proxy(folder: &Path) -> Child {
    for name in ["route", "listen"] {
        std::fs::create_dir_all(folder.join(name)).unwrap();
    }
    let route = Route {
        path: "route".into(),
        host: HOST.into(),
        port: 443,
        base: String::new(),
        put: Put::Header("authorization".into(), format!("Bearer {HELD}")),
        methods: Vec::new(),
        paths: Vec::new(),
    };
    let ca = std::fs::read_to_string(folder.join("egress.pem")).unwrap();
    let outward = Uplink { proxy: folder.join("pair/egress"), listen: folder.join("listen/sidecar"), ca };
    let config = cred_proxy::Config { port: 9099, inside: None, outward, routes: vec![route] };
    // Egress has the folder for the socket of `ctl`.
    let own = "mount -t tmpfs none /run/bottler-ctl && exec \"$@\"";
    let mut child = Command::new("unshare")
        .args(["--mount", "--", "sh", "-c", own, "sh", env!("CARGO_BIN_EXE_bottler"), "cred-proxy"])
        .arg(folder.join("route"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let line = serde_json::to_vec(&config).unwrap();
    child.stdin.as_mut().unwrap().write_all(&[&line[..], b"\n"].concat()).unwrap();
    let mut ready = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut ready).unwrap();
    assert!(ready.contains("ready"), "{ready}");
    child
}

fn squid(folder: &Path) -> Child {
    let path = folder.display();
    let config = format!(
        "http_port 127.0.0.1:3128 ssl-bump tls-cert={path}/root.pem tls-key={path}/root.key generate-host-certificates=on dynamic_cert_mem_cache_size=16MB
sslcrtd_program /usr/lib/squid/security_file_certgen -s {path}/ssl_db -M 16MB
acl first at_step SslBump1
ssl_bump peek first
ssl_bump bump all
tls_outgoing_options cafile={path}/root.pem
http_access allow all
cache deny all
access_log none
cache_log {path}/squid.log
pid_filename {path}/squid.pid
coredump_dir {path}
cache_effective_user proxy
shutdown_lifetime 0 seconds
dns_nameservers 127.0.0.1
"
    );
    std::fs::write(folder.join("squid.conf"), config).unwrap();
    let made = Command::new("/usr/lib/squid/security_file_certgen")
        .args(["-c", "-s"])
        .arg(folder.join("ssl_db"))
        .args(["-M", "16MB"])
        .output();
    assert!(made.expect("squid-openssl is installed: tests/bench/peers").status.success());
    // Squid does not run as root.
    assert!(Command::new("chown").args(["-R", "proxy"]).arg(folder).status().unwrap().success());
    Command::new("squid").arg("-N").arg("-f").arg(folder.join("squid.conf")).stderr(Stdio::null()).spawn().unwrap()
}

fn mitmproxy(folder: &Path) -> Child {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/bin/mitmdump");
    Command::new(own)
        .args(["--quiet", "--listen-host", "127.0.0.1", "--listen-port", "3129", "--set", "stream_large_bodies=1m"])
        .args(["--set", &format!("confdir={}", folder.join("mitm").display())])
        .args(["--set", &format!("ssl_verify_upstream_trusted_ca={}", folder.join("root.pem").display())])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("mitmproxy is installed: tests/bench/peers")
}
