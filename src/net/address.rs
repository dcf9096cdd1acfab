//! Address classes: only public addresses are dialled on behalf of an agent.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use ipnet::{Ipv4Net, Ipv6Net};
use serde::Serialize;

/// The class of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Globally reachable.
    Public,
    /// This host.
    Loopback,
    /// Private networks (RFC 1918, RFC 4193, and the deprecated site-local).
    Private,
    /// Link-local (RFC 3927, RFC 4291), except metadata services.
    LinkLocal,
    /// A cloud's metadata service.
    Metadata,
    /// Carrier-grade NAT (RFC 6598); Tailscale lives here too.
    Shared,
    /// A group of hosts, or all of them.
    Multicast,
    /// An IPv6 address that embeds an IPv4 address and leads to an unknown place.
    Translated,
    /// Reserved: documentation, benchmarks, future use.
    Reserved,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Public => "a public address",
            Self::Loopback => "a loopback address",
            Self::Private => "a private address",
            Self::LinkLocal => "a link-local address",
            Self::Metadata => "a cloud's metadata service",
            Self::Shared => "an address of carrier-grade NAT",
            Self::Multicast => "a multicast address",
            Self::Translated => "an address that stands for another one",
            Self::Reserved => "a reserved address",
        })
    }
}

/// IANA's special-purpose registry for IPv4, and the metadata addresses that the large clouds document.
const V4: &[(&str, Class)] = &[
    ("169.254.169.254/32", Class::Metadata),
    ("169.254.170.2/32", Class::Metadata),
    ("168.63.129.16/32", Class::Metadata),
    ("100.100.100.200/32", Class::Metadata),
    ("0.0.0.0/8", Class::Reserved),
    ("10.0.0.0/8", Class::Private),
    ("100.64.0.0/10", Class::Shared),
    ("127.0.0.0/8", Class::Loopback),
    ("169.254.0.0/16", Class::LinkLocal),
    ("172.16.0.0/12", Class::Private),
    ("192.0.0.0/24", Class::Reserved),
    ("192.0.2.0/24", Class::Reserved),
    ("192.31.196.0/24", Class::Reserved),
    ("192.52.193.0/24", Class::Reserved),
    ("192.88.99.0/24", Class::Translated),
    ("192.168.0.0/16", Class::Private),
    ("192.175.48.0/24", Class::Reserved),
    ("198.18.0.0/15", Class::Reserved),
    ("198.51.100.0/24", Class::Reserved),
    ("203.0.113.0/24", Class::Reserved),
    ("224.0.0.0/4", Class::Multicast),
    ("240.0.0.0/4", Class::Reserved),
];

/// IANA's special-purpose registry for IPv6. The last row reserves everything outside global unicast (`2000::/3`).
const V6: &[(&str, Class)] = &[
    ("fd00:ec2::254/128", Class::Metadata),
    ("fd20:ce::254/128", Class::Metadata),
    ("::1/128", Class::Loopback),
    ("64:ff9b::/96", Class::Translated),
    ("64:ff9b:1::/48", Class::Translated),
    ("2001::/32", Class::Translated),
    ("2001::/23", Class::Reserved),
    ("2001:db8::/32", Class::Reserved),
    ("2002::/16", Class::Translated),
    ("2620:4f:8000::/48", Class::Reserved),
    ("3fff::/20", Class::Reserved),
    ("fc00::/7", Class::Private),
    ("fe80::/10", Class::LinkLocal),
    ("fec0::/10", Class::Private),
    ("ff00::/8", Class::Multicast),
    ("2000::/3", Class::Public),
    ("::/0", Class::Reserved),
];

static V4_TABLE: LazyLock<Vec<(Ipv4Net, Class)>> = LazyLock::new(|| {
    V4.iter().map(|&(range, class)| (range.parse().expect("the table holds ranges"), class)).collect()
});
static V6_TABLE: LazyLock<Vec<(Ipv6Net, Class)>> = LazyLock::new(|| {
    V6.iter().map(|&(range, class)| (range.parse().expect("the table holds ranges"), class)).collect()
});

/// Classifies an address. Rows are tried in order; an IPv4-mapped IPv6 address counts as the IPv4 address.
pub fn classify(address: IpAddr) -> Class {
    match address {
        IpAddr::V4(address) => v4(address),
        IpAddr::V6(address) => address.to_ipv4_mapped().map_or_else(|| v6(address), v4),
    }
}

fn v4(address: Ipv4Addr) -> Class {
    V4_TABLE.iter().find(|(range, _)| range.contains(&address)).map_or(Class::Public, |&(_, class)| class)
}

fn v6(address: Ipv6Addr) -> Class {
    V6_TABLE.iter().find(|(range, _)| range.contains(&address)).map_or(Class::Reserved, |&(_, class)| class)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_classified() {
        for (address, class) in [
            ("1.1.1.1", Class::Public),
            ("127.0.0.1", Class::Loopback),
            ("127.255.255.254", Class::Loopback),
            ("10.1.2.3", Class::Private),
            ("172.17.0.1", Class::Private),
            ("172.32.0.1", Class::Public),
            ("192.168.65.2", Class::Private),
            ("169.254.1.1", Class::LinkLocal),
            ("169.254.169.254", Class::Metadata),
            ("100.100.100.200", Class::Metadata),
            ("100.64.0.1", Class::Shared),
            ("0.0.0.0", Class::Reserved),
            ("224.0.0.1", Class::Multicast),
            ("255.255.255.255", Class::Reserved),
            ("::1", Class::Loopback),
            ("::", Class::Reserved),
            ("::127.0.0.1", Class::Reserved),
            ("::ffff:10.0.0.1", Class::Private),
            ("::ffff:1.1.1.1", Class::Public),
            ("64:ff9b::7f00:1", Class::Translated),
            ("2002:7f00:1::", Class::Translated),
            ("2001:0:1::", Class::Translated),
            ("fd00:ec2::254", Class::Metadata),
            ("fd12::1", Class::Private),
            ("fe80::1", Class::LinkLocal),
            ("ff02::1", Class::Multicast),
            ("2001:db8::1", Class::Reserved),
            ("2606:4700:4700::1111", Class::Public),
            ("4000::1", Class::Reserved),
        ] {
            assert_eq!(classify(address.parse().unwrap()), class, "{address}");
        }
    }
}
