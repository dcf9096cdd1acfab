//! `receiver`: runs in the network of the engine's host during a probe, and reports whether packets of a bottle's
//! inside network arrive there. What a sender observes proves nothing; the receiver's silence does.
//!
//! Its sockets are bound to the bridge of that network (`SO_BINDTODEVICE`, socket(7)), so that nobody else can reach
//! them.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex};

use anyhow::{Context, ensure};
use nix::libc;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, SockaddrIn6, bind, listen, setsockopt, socket, sockopt,
};
use serde::{Deserialize, Serialize};

use super::message::Never;
use super::role::Role;
use crate::host;
use crate::layout::counterpart::GROUP;
use crate::sync::lock;

/// The role's name.
pub const ROLE: &str = "receiver";
/// The group of all hosts (RFC 1112).
const ALL_HOSTS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
/// Maximum number of receipts.
const MAX_RECEIPTS: usize = 64;
/// Strict reverse-path filtering (RFC 3704): a source address is accepted only from the device that leads to it.
const STRICT: u8 = 1;

/// The configuration, on standard input.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The bridge.
    pub device: String,
    /// Whether to enable the bridge's filter, which needs `CAP_NET_ADMIN`.
    pub set_filter: bool,
}

/// A question.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// What arrived since the last question.
    WhatCame,
}

/// The host's side of the bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// The active filter: 0 none, 1 strict, 2 loose. The greater of the settings for the bridge and for all devices
    /// (Linux, `networking/ip-sysctl`).
    pub filter: u8,
    /// The host's addresses on the bridge.
    pub addresses: Vec<String>,
    /// The port of the sockets, chosen by the kernel.
    pub port: u16,
}

impl Host {
    /// Whether the filter drops packets from a network on which the host has no address.
    pub fn filters(&self) -> bool {
        self.filter == STRICT
    }
}

/// What arrived at the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrivals {
    /// What a process on the host could have read.
    pub received: Vec<String>,
    /// Packets that the bridge passed to the host, read or not.
    pub came: u64,
    /// Packets that reverse-path filters dropped meanwhile, on any device.
    pub turned_away: u64,
}

/// The role.
pub struct HostReceiver(Mutex<Sockets>);

impl Role for HostReceiver {
    const NAME: &'static str = ROLE;
    const ENDS_WITH_INPUT: bool = true;
    type Config = Config;
    type Ready = Host;
    type Update = Never;
    type Ask = Ask;
    type Answer = Arrivals;
    type Notice = Never;

    async fn start(config: Config, _: Option<&str>) -> anyhow::Result<(Arc<Self>, Host)> {
        let (sockets, host) = Sockets::open(config)?;
        Ok((Arc::new(Self(Mutex::new(sockets))), host))
    }

    async fn update(&self, update: Never) -> Result<(), String> {
        match update {}
    }

    async fn answer(&self, _: Ask) -> Result<Arrivals, String> {
        lock(&self.0).arrivals().map_err(|error| format!("{error:#}"))
    }
}

struct Sockets {
    device: String,
    datagrams: Vec<UdpSocket>,
    connections: TcpListener,
    came: u64,
    turned_away: u64,
}

impl Sockets {
    fn open(config: Config) -> anyhow::Result<(Self, Host)> {
        let Config { device, set_filter } = config;
        let plain = device.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        ensure!(plain && device.len() < libc::IFNAMSIZ, "{device:?} is no device's name");
        let index = nix::net::if_::if_nametoindex(device.as_str()).with_context(|| format!("find {device}"))?;
        if set_filter {
            let file = filter_file(&device);
            std::fs::write(&file, STRICT.to_string()).with_context(|| format!("write {file}"))?;
        }
        let filter = filter(&device)?.max(filter("all")?);
        let connections = bound(&device, AddressFamily::Inet, SockType::Stream).and_then(listen_tcp)?;
        let port = connections.local_addr().context("find its port")?.port();
        let socket = bound(&device, AddressFamily::Inet, SockType::Datagram)?;
        let mut datagrams = vec![listen_udp(socket, port, index)?];
        // Without IPv6 in the kernel, nothing can arrive over it.
        if let Ok(socket) = bound(&device, AddressFamily::Inet6, SockType::Datagram) {
            datagrams.push(listen_udp6(socket, port)?);
        }
        let (came, turned_away) = (came(&device)?, turned_away()?);
        let host = Host { filter, addresses: addresses(&device), port };
        Ok((Self { device, datagrams, connections, came, turned_away }, host))
    }

    fn arrivals(&mut self) -> anyhow::Result<Arrivals> {
        let mut received = Vec::new();
        let mut buffer = [0_u8; 256];
        for socket in &self.datagrams {
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..length]);
                let text: String = text.chars().filter(char::is_ascii_graphic).collect();
                received.push(format!("UDP from {}: {text}", from.ip()));
            }
        }
        while let Ok((_, from)) = self.connections.accept() {
            received.push(format!("TCP from {}", from.ip()));
        }
        received.truncate(MAX_RECEIPTS);
        let came = came(&self.device)?.saturating_sub(self.came);
        Ok(Arrivals { received, came, turned_away: turned_away()?.saturating_sub(self.turned_away) })
    }
}

fn filter_file(device: &str) -> String {
    format!("/proc/sys/net/ipv4/conf/{device}/rp_filter")
}

fn filter(device: &str) -> anyhow::Result<u8> {
    let file = filter_file(device);
    let text = std::fs::read_to_string(&file).with_context(|| format!("read {file}"))?;
    text.trim().parse().with_context(|| format!("read {file}"))
}

/// A socket that is bound to one device.
fn bound(device: &str, family: AddressFamily, kind: SockType) -> anyhow::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, kind, flags, None).context("make a socket")?;
    setsockopt(&socket, sockopt::BindToDevice, &device.into()).with_context(|| format!("bind to {device}"))?;
    Ok(socket)
}

fn listen_udp(socket: OwnedFd, port: u16, device: u32) -> anyhow::Result<UdpSocket> {
    bind(socket.as_raw_fd(), &SockaddrIn::new(0, 0, 0, 0, port)).context("receive")?;
    let socket = UdpSocket::from(socket);
    for group in [GROUP, ALL_HOSTS] {
        // The kernel has joined the second group already, on every device.
        join(&socket, group, device).or_else(|error| if group == ALL_HOSTS { Ok(()) } else { Err(error) })?;
    }
    Ok(socket)
}

/// Every node is in the all-nodes group, on every device.
fn listen_udp6(socket: OwnedFd, port: u16) -> anyhow::Result<UdpSocket> {
    setsockopt(&socket, sockopt::Ipv6V6Only, &true).context("receive over IPv6 alone")?;
    let anybody = SockaddrIn6::from(std::net::SocketAddrV6::new(std::net::Ipv6Addr::UNSPECIFIED, port, 0, 0));
    bind(socket.as_raw_fd(), &anybody).context("receive over IPv6")?;
    Ok(UdpSocket::from(socket))
}

fn listen_tcp(socket: OwnedFd) -> anyhow::Result<TcpListener> {
    bind(socket.as_raw_fd(), &SockaddrIn::new(0, 0, 0, 0, 0)).context("listen")?;
    listen(&socket, Backlog::new(16)?).context("listen")?;
    Ok(TcpListener::from(socket))
}

/// `IP_ADD_MEMBERSHIP` by the device's index, for devices without an address (ip(7)).
#[expect(unsafe_code, reason = "no safe wrapper joins a group by a device's index")]
fn join(socket: &UdpSocket, group: Ipv4Addr, device: u32) -> anyhow::Result<()> {
    let request = libc::ip_mreqn {
        imr_multiaddr: libc::in_addr { s_addr: u32::from(group).to_be() },
        imr_address: libc::in_addr { s_addr: 0 },
        imr_ifindex: device.cast_signed(),
    };
    let length = libc::socklen_t::try_from(size_of_val(&request)).unwrap_or_default();
    // SAFETY: the pointer and length describe `request`, which lives through the call; the kernel only reads it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_ADD_MEMBERSHIP,
            std::ptr::from_ref(&request).cast(),
            length,
        )
    };
    nix::errno::Errno::result(result).map(drop).with_context(|| format!("join {group}"))
}

fn addresses(device: &str) -> Vec<String> {
    let Ok(all) = host::addresses() else { return vec!["(cannot be read)".to_owned()] };
    let of_device = all.into_iter().filter(|(interface, address)| interface == device && address.is_ipv4());
    of_device.map(|(_, address)| address.to_string()).collect()
}

/// Packets that the bridge passed to the host (`proc_pid_net(5)`, `dev`).
fn came(device: &str) -> anyhow::Result<u64> {
    let table = std::fs::read_to_string("/proc/net/dev").context("read /proc/net/dev")?;
    let row = table.lines().find_map(|line| line.trim().strip_prefix(device)?.strip_prefix(':'));
    let packets = row.and_then(|row| row.split_whitespace().nth(1)?.parse().ok());
    packets.with_context(|| format!("find {device} in /proc/net/dev"))
}

/// Packets that reverse-path filters dropped (`proc_pid_net(5)`, `netstat`).
fn turned_away() -> anyhow::Result<u64> {
    let table = std::fs::read_to_string("/proc/net/netstat").context("read /proc/net/netstat")?;
    counter(&table, "IPReversePathFilter").context("find IPReversePathFilter in /proc/net/netstat")
}

/// A counter in a table whose rows come in pairs: names, then values.
fn counter(table: &str, name: &str) -> Option<u64> {
    let lines: Vec<&str> = table.lines().collect();
    lines.chunks_exact(2).find_map(|pair| {
        let place = pair[0].split_whitespace().position(|word| word == name)?;
        pair[1].split_whitespace().nth(place)?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_read_by_its_name() {
        let table = "TcpExt: SyncookiesSent IPReversePathFilter\nTcpExt: 3 44\nIpExt: InNoRoutes\nIpExt: 5\n";
        assert_eq!(counter(table, "IPReversePathFilter"), Some(44));
        assert_eq!(counter(table, "InNoRoutes"), Some(5));
        assert_eq!(counter(table, "Missing"), None);
    }

    #[test]
    fn only_the_strict_filter_counts() {
        let host = |filter| Host { filter, addresses: Vec::new(), port: 1 };
        assert!(host(1).filters());
        assert!(!host(0).filters() && !host(2).filters());
    }
}
