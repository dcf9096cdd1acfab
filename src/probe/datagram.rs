//! Sends datagrams with every socket option that bypasses the routing table, to multicast groups and by broadcast.

use std::io::IoSlice;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, RawFd};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, SockaddrIn, getsockopt, sendmsg, socket, sockopt,
};

use super::direct::other_interfaces;
use super::targets::expected;
use super::{DirectTarget, InsideNetwork, ProbeResult, SENT};
use crate::layout::counterpart::{GROUP, UDP_PORT};

/// What a tight bottle sends.
const NOTHING: &str = "nothing left";
/// The time limit for a connection that bypasses the routing table, in milliseconds.
const CONNECT: u16 = 300;

/// The ways to send a datagram.
#[derive(Debug, Clone, Copy)]
enum SendMethod {
    Plain,
    DontRoute,
    BindToDevice,
    BindToDeviceDontRoute,
    UnicastIf,
    PktInfo,
    Multicast,
    Broadcast,
}

impl SendMethod {
    const ALL: [Self; 8] = [
        Self::Plain,
        Self::DontRoute,
        Self::BindToDevice,
        Self::BindToDeviceDontRoute,
        Self::UnicastIf,
        Self::PktInfo,
        Self::Multicast,
        Self::Broadcast,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Plain => "UDP",
            Self::DontRoute => "UDP, SO_DONTROUTE",
            Self::BindToDevice => "UDP, SO_BINDTODEVICE",
            Self::BindToDeviceDontRoute => "UDP, SO_BINDTODEVICE and SO_DONTROUTE",
            Self::UnicastIf => "UDP, IP_UNICAST_IF",
            Self::PktInfo => "UDP, IP_PKTINFO",
            Self::Multicast => "UDP, multicast",
            Self::Broadcast => "UDP, broadcast",
        }
    }
}

/// Every way, on every interface, to every target. Packets on loopback have not left.
pub(super) fn options(targets: &[DirectTarget], inside: Option<&InsideNetwork>) -> Vec<ProbeResult> {
    SendMethod::ALL.into_iter().map(|way| one(way, targets, inside)).collect()
}

/// Over IPv6, which needs no assigned address: to all nodes on every interface (RFC 4291, section 2.7.1).
pub(super) fn ipv6(inside: Option<&InsideNetwork>) -> Vec<ProbeResult> {
    const NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let receiver_port = inside.and_then(InsideNetwork::listening_port);
    let sends = |device: &str, port: u16| {
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?;
        let index = nix::net::if_::if_nametoindex(device)?;
        let text = format!("UDP-IPv6-{device}");
        socket.send_to(text.as_bytes(), SocketAddrV6::new(NODES, port, 0, index))
    };
    let leaves = |device: &String| {
        sends(device, UDP_PORT).is_ok() | receiver_port.is_some_and(|port| sends(device, port).is_ok())
    };
    let left: Vec<String> = other_interfaces().into_iter().filter(leaves).collect();
    vec![ProbeResult::new(
        "UDP, IPv6, all nodes",
        expected(inside, NOTHING),
        left.is_empty() || inside.is_some(),
        describe(&left),
    )]
}

/// What was sent, in words.
fn describe(sent: &[String]) -> String {
    if sent.is_empty() { NOTHING.to_owned() } else { format!("{SENT} to {}", sent.join(", ")) }
}

/// TCP connections that bypass the routing table.
pub(super) fn connections(targets: &[DirectTarget], inside: Option<&InsideNetwork>) -> Vec<ProbeResult> {
    let mut sent = Vec::new();
    let mut connected = Vec::new();
    for device in other_interfaces() {
        let tries: Vec<(Ipv4Addr, Option<bool>)> = std::thread::scope(|scope| {
            let device = device.as_str();
            let port = inside.and_then(InsideNetwork::listening_port).unwrap_or(UDP_PORT);
            let spawn = |address| (address, scope.spawn(move || reached(device, SocketAddrV4::new(address, port))));
            let running: Vec<_> = targets.iter().map(|target| spawn(target.address)).collect();
            running.into_iter().map(|(address, thread)| (address, thread.join().ok().flatten())).collect()
        });
        for (address, reached) in tries {
            let name = format!("{address} by {device}");
            match reached {
                Some(true) => connected.push(name),
                Some(false) => sent.push(name),
                None => {}
            }
        }
    }
    let ok = connected.is_empty() && (sent.is_empty() || inside.is_some());
    let happened = if connected.is_empty() { describe(&sent) } else { format!("reached {}", connected.join(", ")) };
    vec![ProbeResult::new("TCP, SO_BINDTODEVICE and SO_DONTROUTE", expected(inside, NOTHING), ok, happened)]
}

/// Whether the target responded, also with a refusal; `None` if nothing could be sent.
fn reached(device: &str, target: SocketAddrV4) -> Option<bool> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None).ok()?;
    bind_to(socket.as_raw_fd(), device).ok()?;
    let on: libc::c_int = 1;
    set(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_DONTROUTE, &on).ok()?;
    match nix::sys::socket::connect(socket.as_raw_fd(), &SockaddrIn::from(target)) {
        Ok(()) => return Some(true),
        Err(Errno::EINPROGRESS) => {}
        Err(_) => return None,
    }
    let mut polled = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
    let answered = poll(&mut polled, PollTimeout::from(CONNECT)).is_ok_and(|count| count > 0);
    let error = getsockopt(&socket, sockopt::SocketError).unwrap_or(libc::EIO);
    Some(answered && matches!(error, 0 | libc::ECONNREFUSED))
}

fn one(way: SendMethod, targets: &[DirectTarget], inside: Option<&InsideNetwork>) -> ProbeResult {
    let devices = other_interfaces();
    let mut sent = Vec::new();
    let addresses: Vec<Ipv4Addr> = match way {
        SendMethod::Multicast => vec![GROUP, Ipv4Addr::new(224, 0, 0, 1)],
        SendMethod::Broadcast => vec![Ipv4Addr::BROADCAST],
        _ => targets.iter().map(|target| target.address).collect(),
    };
    let receiver_port = inside.and_then(InsideNetwork::listening_port);
    for address in addresses {
        for device in devices.iter().map(String::as_str).chain(["lo"]) {
            let to = |port| send(way, device, SocketAddrV4::new(address, port)).is_ok();
            let left = to(UDP_PORT) | receiver_port.is_some_and(to);
            // Loopback accepts packets for any address and drops them.
            if left && device != "lo" {
                sent.push(format!("{address} by {device}"));
            }
        }
    }
    // On a network packets are sent; the host says whether they arrive.
    ProbeResult::new(way.name(), expected(inside, NOTHING), sent.is_empty() || inside.is_some(), describe(&sent))
}

fn send(way: SendMethod, device: &str, target: SocketAddrV4) -> Result<(), Errno> {
    let io = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or_default());
    let socket = UdpSocket::bind("0.0.0.0:0").map_err(io)?;
    let fd = socket.as_raw_fd();
    let index = nix::net::if_::if_nametoindex(device)?;
    let text = format!("{}-{device}", way.name().replace([' ', ','], "-"));
    let on: libc::c_int = 1;
    match way {
        SendMethod::Plain => {
            // Without an option the routing table decides; loopback proves nothing here.
            if device == "lo" {
                return Err(Errno::ENETUNREACH);
            }
        }
        SendMethod::DontRoute => set(fd, libc::SOL_SOCKET, libc::SO_DONTROUTE, &on)?,
        SendMethod::BindToDevice => bind_to(fd, device)?,
        SendMethod::BindToDeviceDontRoute => {
            bind_to(fd, device)?;
            set(fd, libc::SOL_SOCKET, libc::SO_DONTROUTE, &on)?;
        }
        // The option takes the index in network order (ip(7)).
        SendMethod::UnicastIf => set(fd, libc::IPPROTO_IP, libc::IP_UNICAST_IF, &index.to_be())?,
        SendMethod::PktInfo => return send_with_pktinfo(fd, index, target, text.as_bytes()),
        SendMethod::Multicast => {
            let request = libc::ip_mreqn {
                imr_multiaddr: libc::in_addr { s_addr: 0 },
                imr_address: libc::in_addr { s_addr: 0 },
                imr_ifindex: index.cast_signed(),
            };
            set(fd, libc::IPPROTO_IP, libc::IP_MULTICAST_IF, &request)?;
        }
        SendMethod::Broadcast => {
            set(fd, libc::SOL_SOCKET, libc::SO_BROADCAST, &on)?;
            bind_to(fd, device)?;
        }
    }
    socket.send_to(text.as_bytes(), target).map(drop).map_err(io)
}

fn send_with_pktinfo(fd: RawFd, index: u32, target: SocketAddrV4, text: &[u8]) -> Result<(), Errno> {
    let info = libc::in_pktinfo {
        ipi_ifindex: index.cast_signed(),
        ipi_spec_dst: libc::in_addr { s_addr: 0 },
        ipi_addr: libc::in_addr { s_addr: 0 },
    };
    let control = [ControlMessage::Ipv4PacketInfo(&info)];
    sendmsg(fd, &[IoSlice::new(text)], &control, MsgFlags::empty(), Some(&SockaddrIn::from(target))).map(drop)
}

fn bind_to(fd: RawFd, device: &str) -> Result<(), Errno> {
    let mut name = [0_u8; libc::IFNAMSIZ];
    let length = device.len().min(libc::IFNAMSIZ - 1);
    name[..length].copy_from_slice(&device.as_bytes()[..length]);
    set(fd, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, &name)
}

/// `setsockopt(2)` for options without a wrapper.
#[expect(unsafe_code, reason = "no safe wrapper takes these options")]
fn set<T>(fd: RawFd, level: libc::c_int, name: libc::c_int, value: &T) -> Result<(), Errno> {
    let length = libc::socklen_t::try_from(size_of::<T>()).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the pointer and length describe `value`, which lives through the call; the kernel only reads it.
    Errno::result(unsafe { libc::setsockopt(fd, level, name, std::ptr::from_ref(value).cast(), length) }).map(drop)
}
