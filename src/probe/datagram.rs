//! Datagrams with every socket option that picks a way past the routing table, to groups and to everybody.

use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn, sendmsg};

use super::direct::other_interfaces;
use super::{Line, Target};
use crate::sidecar::upstream::{GROUP, UDP_PORT};

/// The ways of sending.
#[derive(Debug, Clone, Copy)]
enum Way {
    Plain,
    DontRoute,
    BindToDevice,
    BindToDeviceDontRoute,
    UnicastIf,
    PktInfo,
    Multicast,
    Broadcast,
}

impl Way {
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

/// Every way on every interface to every target. What stays on loopback has left nothing.
pub(super) fn options(targets: &[Target]) -> Vec<Line> {
    Way::ALL.into_iter().map(|way| one(way, targets)).collect()
}

fn one(way: Way, targets: &[Target]) -> Line {
    let devices = other_interfaces();
    let mut sent = Vec::new();
    let addresses: Vec<Ipv4Addr> = match way {
        Way::Multicast => vec![GROUP, Ipv4Addr::new(224, 0, 0, 1)],
        Way::Broadcast => vec![Ipv4Addr::BROADCAST],
        _ => targets.iter().map(|target| target.address).collect(),
    };
    for address in addresses {
        for device in devices.iter().map(String::as_str).chain(["lo"]) {
            // On loopback a packet can be sent anywhere and goes nowhere.
            if send(way, device, address).is_ok() && device != "lo" {
                sent.push(format!("{address} by {device}"));
            }
        }
    }
    let happened = if sent.is_empty() { "nothing left".to_owned() } else { format!("sent to {}", sent.join(", ")) };
    Line::new(way.name(), "nothing left", sent.is_empty(), happened)
}

fn send(way: Way, device: &str, address: Ipv4Addr) -> Result<(), Errno> {
    let io = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or_default());
    let socket = UdpSocket::bind("0.0.0.0:0").map_err(io)?;
    let fd = socket.as_raw_fd();
    let index = nix::net::if_::if_nametoindex(device)?;
    let target = SocketAddrV4::new(address, UDP_PORT);
    let text = format!("{}-{device}", way.name().replace([' ', ','], "-"));
    let on: libc::c_int = 1;
    match way {
        Way::Plain => {
            // Without an option the routing table decides; loopback says nothing here.
            if device == "lo" {
                return Err(Errno::ENETUNREACH);
            }
        }
        Way::DontRoute => set(fd, libc::SOL_SOCKET, libc::SO_DONTROUTE, &on)?,
        Way::BindToDevice => bind_to(fd, device)?,
        Way::BindToDeviceDontRoute => {
            bind_to(fd, device)?;
            set(fd, libc::SOL_SOCKET, libc::SO_DONTROUTE, &on)?;
        }
        // The option takes the index in network order (ip(7)).
        Way::UnicastIf => set(fd, libc::IPPROTO_IP, libc::IP_UNICAST_IF, &index.to_be())?,
        Way::PktInfo => return send_with_pktinfo(fd, index, target, text.as_bytes()),
        Way::Multicast => {
            let request = libc::ip_mreqn {
                imr_multiaddr: libc::in_addr { s_addr: 0 },
                imr_address: libc::in_addr { s_addr: 0 },
                imr_ifindex: index.cast_signed(),
            };
            set(fd, libc::IPPROTO_IP, libc::IP_MULTICAST_IF, &request)?;
        }
        Way::Broadcast => {
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

/// `setsockopt(2)` for the options that no crate wraps.
#[expect(unsafe_code, reason = "no safe wrapper takes these options")]
fn set<T>(fd: RawFd, level: libc::c_int, name: libc::c_int, value: &T) -> Result<(), Errno> {
    let length = libc::socklen_t::try_from(size_of::<T>()).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the pointer and length describe `value`, which lives through the call; the kernel only reads it.
    Errno::result(unsafe { libc::setsockopt(fd, level, name, std::ptr::from_ref(value).cast(), length) }).map(drop)
}
