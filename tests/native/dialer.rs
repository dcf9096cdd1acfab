//! The way out on this engine: egress in a network that leads nowhere, and the dialer that connects for it. The host is a network
//! namespace of the test's own; the world is another one, behind a link.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::socket::{AddressFamily, SockaddrIn, connect};

use crate::namespace::{in_namespace, resolver, sh};
use crate::world::{Who, World};

/// The host's address on the link to the world, and the world's. Both are public.
const HOST: &str = "93.184.215.1";
const WORLD: &str = "93.184.215.14";

/// The world: a namespace with a web server, ended when this is dropped.
struct Beyond(Child);

impl Beyond {
    fn new(folder: &Path) -> Self {
        let resolv = folder.join("resolv.conf");
        std::fs::write(&resolv, "nameserver 127.0.0.1\n").unwrap();
        std::fs::write(folder.join("page"), "from the world\n").unwrap();
        // The cgroup trees are mounted where the namespace's own /sys is not.
        sh(&format!("ip link set lo up; mount --bind {} /etc/resolv.conf", resolv.display()));
        let script = format!(
            "read -r go; ip link set lo up; ip link set world up; ip addr add {WORLD}/24 dev world; echo ready;
             cd {}; exec python3 -m http.server 80 --bind {WORLD}",
            folder.display()
        );
        let mut command = Command::new("unshare");
        command.args(["--net", "--kill-child", "sh", "-ec", &script]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let pid = child.id();
        crate::world::wait_for("a namespace of its own", || {
            let of = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
            (of(&pid.to_string()) != of("self")).then_some(()).ok_or_else(String::new)
        });
        sh(&format!(
            "ip link add host type veth peer name world netns {pid}; ip link set host up; ip addr add {HOST}/24 dev host"
        ));
        child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let world = SocketAddr::new(WORLD.parse().unwrap(), 80);
        crate::world::wait_for("the web server", || TcpStream::connect(world).map_err(|error| error.to_string()));
        Self(child)
    }
}

impl Drop for Beyond {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The real curl with all that it loads, in a folder.
fn curl(folder: &Path) {
    sh(&format!(
        "mkdir -p {0}/lib; cp $(command -v curl) {0}/curl; ldd {0}/curl | grep -o '/[^ ]*' | xargs -I@ cp -L @ {0}/lib/;
         cp -L /lib*/ld-linux-*.so.* {0}/ld.so 2> /dev/null; chmod -R a+rX {0}",
        folder.display()
    ));
}

#[test]
fn promise_04_what_is_allowed_is_reached_through_the_dialer_and_nothing_else() {
    if !in_namespace("dialer::promise_04_what_is_allowed_is_reached_through_the_dialer_and_nothing_else") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let _beyond = Beyond::new(folder.path());
    let names = [
        ("allowed.example.com", vec![WORLD]),
        ("host.example.com", vec![HOST]),
        ("loopback.example.com", vec!["127.0.0.1"]),
        ("both.example.com", vec![WORLD, "127.0.0.1"]),
    ];
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(resolver(names.into(), |_| {}));
    let own = TcpListener::bind("0.0.0.0:80").unwrap();
    own.set_nonblocking(true).unwrap();
    for who in Who::BOUNDED {
        let world = World::new(who);
        let programs = tempfile::tempdir().unwrap();
        sh(&format!("chmod 755 {}", programs.path().display()));
        curl(programs.path());
        let workspace = programs.path().to_str().unwrap();
        let hosts = ["allowed", "host", "loopback", "both"].map(|name| format!("{name}.example.com:80"));
        let mut flags = vec!["--workspace", workspace, "--keep", "never", "--no-project"];
        flags.extend(hosts.iter().flat_map(|host| ["--allow", host]));
        let bottle = world.idle_with(&flags);
        let get = |url: &str| {
            let words =
                ["exec", &bottle, "--", "/workspace/ld.so", "--library-path", "/workspace/lib", "/workspace/curl"];
            world.run(&[&words[..], &["-sS", "--max-time", "20", url]].concat())
        };
        let page = get("http://allowed.example.com/page");
        assert_eq!(page.stdout, "from the world\n", "{who:?} {}", page.stderr);
        for (url, words) in [
            ("http://other.example.com/page", "not on this bottle's allowlist"),
            ("http://host.example.com/page", "an address of this host"),
            ("http://loopback.example.com/page", "a loopback address"),
            ("http://both.example.com/page", "a loopback address"),
        ] {
            let refused = get(url);
            assert!(refused.stdout.contains(words), "{who:?} {url}: {} {}", refused.stdout, refused.stderr);
        }
        assert!(own.accept().is_err(), "{who:?}: a connection reached the host");
        assert_eq!(world.run(&["stop", &bottle]).code, 0, "{who:?}");
        world.wait_clean();
    }
}

/// The dialer's response to what a broken egress sends, and what follows it.
fn ask(dialer: &Path, request: &str, then: &str) -> String {
    let mut stream = UnixStream::connect(dialer).unwrap();
    // Whoever was let in where nobody answers must not keep the test.
    stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    let _ = stream.write_all(format!("{request}\n").as_bytes());
    let mut line = String::new();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let _ = reader.read_line(&mut line);
    let _ = stream.write_all(then.as_bytes());
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let _ = reader.read_to_string(&mut line);
    line
}

/// Runs in the network namespace of a process.
fn in_network_of<T: Send>(pid: i32, run: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            let file = std::fs::File::open(format!("/proc/{pid}/ns/net")).unwrap();
            nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            run()
        });
        inside.join().unwrap()
    })
}

#[test]
fn promise_05_a_broken_egress_reaches_nothing_of_the_host() {
    if !in_namespace("dialer::promise_05_a_broken_egress_reaches_nothing_of_the_host") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let _beyond = Beyond::new(folder.path());
    let own = TcpListener::bind("0.0.0.0:8000").unwrap();
    own.set_nonblocking(true).unwrap();
    let own6 = TcpListener::bind("[::1]:8001").ok();
    let name = std::os::unix::net::SocketAddr::from_abstract_name("bottler-test-of-the-host").unwrap();
    let _abstract_socket = std::os::unix::net::UnixListener::bind_addr(&name).unwrap();
    for who in Who::BOUNDED {
        let world = World::new(who);
        // Even where the policy is as wide as it can be.
        let bottle = world.idle_with(&["--allow", WORLD, "--allow-ip", "10.0.0.0/8"]);
        let dialer = world.volume(&format!("{bottle}-egress-dialer-socket")).join("socket");
        let egress = world.first_process(&format!("{bottle}-egress"));
        in_network_of(egress, || {
            for address in [
                "127.0.0.1:8000",
                "127.7.7.7:8000",
                "0.0.0.0:8000",
                &format!("{HOST}:8000"),
                "[::1]:8001",
                "[::]:8001",
                "[::ffff:127.0.0.1]:8000",
                &format!("[::ffff:{HOST}]:8000"),
                "[64:ff9b::7f00:1]:8000",
                "169.254.169.254:80",
                "192.168.0.1:80",
                "255.255.255.255:80",
                "224.0.0.1:80",
            ] {
                let response = ask(&dialer, &format!("{{\"connect\":\"{address}\"}}"), "GET / HTTP/1.0\r\n\r\n");
                assert!(response.starts_with("{\"failed\":"), "{who:?} {address}: {response}");
            }
            for request in ["", "{", "[]", "{\"connect\":\"x\"}", "{\"bind\":\"127.0.0.1:80\"}", &"x".repeat(5000)] {
                assert_eq!(ask(&dialer, request, ""), "", "{who:?} {request}");
            }
            // Without the dialer.
            let direct = nix::sys::socket::socket(
                AddressFamily::Inet,
                nix::sys::socket::SockType::Stream,
                nix::sys::socket::SockFlag::empty(),
                None,
            );
            assert!(connect(direct.unwrap().as_raw_fd(), &SockaddrIn::new(93, 184, 215, 14, 80)).is_err(), "{who:?}");
            assert!(UnixStream::connect_addr(&name).is_err(), "{who:?}: an abstract socket of the host");
            // It goes on to serve, and the world is all that it serves.
            let page = ask(&dialer, &format!("{{\"connect\":\"{WORLD}:80\"}}"), "GET /page HTTP/1.0\r\n\r\n");
            assert!(page.contains("from the world"), "{who:?}: {page}");
        });
        assert!(own.accept().is_err(), "{who:?}: a connection reached the host");
        if let Some(own6) = &own6 {
            own6.set_nonblocking(true).unwrap();
            assert!(own6.accept().is_err(), "{who:?}: a connection reached the host");
        }
        let process = world.first_process(&format!("{bottle}-egress-dialer"));
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        for line in ["CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
            assert!(status.contains(line), "{who:?} {line}: {status}");
        }
        assert_eq!(world.run(&["stop", &bottle]).code, 0, "{who:?}");
        world.wait_clean();
    }
}
