//! Attempts that bypass egress: interfaces, routes, TCP, name resolution.

use crate::host;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use super::targets::expected;
use super::wait::readable;
use super::{DirectTarget, InsideNetwork, ProbeResult, SENT};

/// How long a connection may hang before it counts as a leak.
const PATIENCE: Duration = Duration::from_millis(800);

/// The interfaces other than loopback.
pub(super) fn other_interfaces() -> Vec<String> {
    let Ok(all) = nix::net::if_::if_nameindex() else { return vec!["(unknown)".into()] };
    all.iter().map(|i| i.name().to_string_lossy().into_owned()).filter(|name| name != "lo").collect()
}

pub(super) fn interfaces(inside: Option<&InsideNetwork>) -> Vec<ProbeResult> {
    let others = other_interfaces();
    // Tunnels without an address, which some kernels create in every namespace, are down and carry nothing.
    let used: Vec<_> = others.into_iter().filter(|name| is_up(name)).collect();
    let happened = if used.is_empty() { "only loopback".to_owned() } else { used.join(", ") };
    let (expected, most) = if inside.is_some() { ("loopback and one more", 1) } else { ("only loopback", 0) };
    vec![ProbeResult::new("network interfaces", expected, used.len() <= most, happened)]
}

fn is_up(name: &str) -> bool {
    let flags = std::fs::read_to_string(format!("/sys/class/net/{name}/flags")).unwrap_or_default();
    let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16);
    // An unreadable interface counts as up.
    flags.map_or(true, |flags| flags & 1 == 1)
}

/// Whether the kernel has a route to an address. Connecting a datagram socket looks up the route and sends nothing.
pub(super) fn has_route(address: IpAddr) -> bool {
    let leads = |any: IpAddr, to: SocketAddr| UdpSocket::bind((any, 0)).is_ok_and(|socket| socket.connect(to).is_ok());
    match address {
        IpAddr::V4(_) => leads(Ipv4Addr::UNSPECIFIED.into(), (address, 9).into()),
        // Such an address needs an interface (RFC 4007).
        IpAddr::V6(local) if local.is_unicast_link_local() || local.is_multicast() => {
            let mut indices =
                other_interfaces().into_iter().filter_map(|name| nix::net::if_::if_nametoindex(&*name).ok());
            indices.any(|index| {
                leads(Ipv6Addr::UNSPECIFIED.into(), std::net::SocketAddrV6::new(local, 9, 0, index).into())
            })
        }
        IpAddr::V6(_) => leads(Ipv6Addr::UNSPECIFIED.into(), (address, 9).into()),
    }
}

/// Whether every route, except those to this namespace's own networks, has an unowned gateway, as older engines set it.
fn leads_nowhere(inside: Option<&InsideNetwork>) -> bool {
    // An unreadable table counts as leading somewhere.
    let by = |inside: &InsideNetwork| {
        host::routes()
            .is_ok_and(|routes| routes.iter().all(|route| route.by.is_unspecified() || route.by == inside.nobody))
    };
    inside.is_some_and(by)
}

/// Destinations outside this machine: only the route is looked up, so that the probe sends nothing there.
pub(super) fn routes(inside: Option<&InsideNetwork>) -> Vec<ProbeResult> {
    let nowhere = leads_nowhere(inside);
    let places = [
        ("Internet, IPv4", "192.0.2.1"),
        ("Internet, IPv6", "2001:db8::1"),
        ("link-local", "169.254.1.1"),
        ("metadata service", "169.254.169.254"),
        ("link-local, IPv6", "fe80::1"),
        ("all nodes, IPv6 multicast", "ff02::1"),
        ("unique local, IPv6", "fd00::1"),
        ("Tailscale and carrier NAT", "100.64.0.1"),
    ];
    places
        .into_iter()
        .map(|(name, address)| {
            let address: IpAddr = address.parse().expect("the table holds addresses");
            // The routing table is IPv4's.
            let (there, nowhere) = (has_route(address), nowhere && address.is_ipv4());
            let happened = match (there, nowhere) {
                (false, _) => "no route",
                (true, true) => "by an address that nobody has",
                (true, false) => "there is a route",
            };
            let expected = if inside.is_some() { "none that leads on" } else { "no route" };
            ProbeResult::new(format!("route to {name}"), expected, !there || nowhere, happened)
        })
        .collect()
}

/// TCP to addresses that accept connections from others.
pub(super) fn tcp(targets: &[DirectTarget], inside: Option<&InsideNetwork>) -> Vec<ProbeResult> {
    std::thread::scope(|scope| {
        let tries: Vec<_> = targets.iter().map(|target| scope.spawn(move || tcp_one(target, inside))).collect();
        tries.into_iter().filter_map(|thread| thread.join().ok()).collect()
    })
}

fn tcp_one(target: &DirectTarget, inside: Option<&InsideNetwork>) -> ProbeResult {
    let address = SocketAddr::from((target.address, target.port));
    let (ok, happened) = match TcpStream::connect_timeout(&address, PATIENCE) {
        Ok(_) => (false, "connected".to_owned()),
        Err(error) => match error.kind() {
            ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable | ErrorKind::PermissionDenied => {
                (true, "no route".to_owned())
            }
            ErrorKind::ConnectionRefused => (false, "reached: refused by the other side".to_owned()),
            // On a network, something was sent; the host says whether it arrived.
            ErrorKind::TimedOut => (inside.is_some(), format!("{SENT}, no answer")),
            _ => (false, error.to_string()),
        },
    };
    ProbeResult::new(format!("TCP to {} {address}", target.name), expected(inside, "no route"), ok, happened)
}

/// A query for a name (RFC 1035), to every possible server.
pub(super) fn names(inside: Option<&InsideNetwork>) -> Vec<ProbeResult> {
    let mut servers = vec!["127.0.0.1".to_owned(), "127.0.0.11".to_owned(), "127.0.0.53".to_owned()];
    servers.extend(inside.map(|inside| inside.egress.to_string()));
    let listed = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let named = listed.lines().filter_map(|line| line.strip_prefix("nameserver ")).map(str::trim);
    let egress = inside.map(|inside| inside.egress.to_string());
    let foreign = |server: &&str| !server.starts_with("127.") && Some(*server) != egress.as_deref();
    let others: Vec<&str> = named.filter(foreign).collect();
    servers.extend(others.iter().map(ToString::to_string));
    let open: Vec<&str> = others.iter().copied().filter(|server| server.parse().is_ok_and(has_route)).collect();
    let happened = if open.is_empty() { "none reachable".to_owned() } else { open.join(", ") };
    let mut lines: Vec<ProbeResult> = servers.iter().map(|server| dns_one(server)).collect();
    lines.push(ProbeResult::new("name servers in /etc/resolv.conf", "none reachable", open.is_empty(), happened));
    lines
}

fn dns_one(server: &str) -> ProbeResult {
    let code = query(server).ok().flatten();
    let happened = match code {
        None => "no answer".to_owned(),
        Some(0) => "answered".to_owned(),
        Some(code) => format!("refused, code {code}"),
    };
    ProbeResult::new(format!("unknown name asked of {server}"), "no answer", code != Some(0), happened)
}

/// Sends a query; returns the response code: 0 if the server resolves the name.
fn query(server: &str) -> std::io::Result<Option<u8>> {
    // Header: id 7777, recursion desired, one question; then the name `bottler.invalid`, type A, class IN.
    let mut question = vec![0x77, 0x77, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in ["bottler", "invalid"] {
        question.push(u8::try_from(label.len()).unwrap_or_default());
        question.extend(label.as_bytes());
    }
    question.extend([0, 0, 1, 0, 1]);
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect((server, 53))?;
    socket.send(&question)?;
    let mut answer = [0_u8; 512];
    readable(&socket, Duration::from_millis(300))?;
    let length = socket.recv(&mut answer)?;
    Ok((length > 3).then_some(answer[3] & 0x0f))
}
