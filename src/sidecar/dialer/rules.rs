//! Which addresses may be dialled. Nothing that the client says counts but the address itself.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use super::resolver::Resolver;
use crate::net::Host;
use crate::policy::{EnforcedPolicy, Policy, check_addresses, check_proxy};

/// The rules of one policy.
pub(super) struct Rules {
    pub(super) generation: u64,
    policy: Policy,
    /// The upstream proxy, which may be at a private address.
    proxy: Option<(Host, u16)>,
}

impl Rules {
    /// The rules of a policy.
    pub(super) fn new(enforced: &EnforcedPolicy) -> anyhow::Result<Self> {
        let EnforcedPolicy { generation, spec, .. } = enforced;
        let proxy = spec.proxy()?.map(|(_, host, port)| (host, port));
        Ok(Self { generation: *generation, policy: spec.policy(BTreeMap::new())?, proxy })
    }

    /// Refuses an address that may not be dialled. `address` is canonical: see [`canonical`].
    pub(super) async fn check(&self, address: SocketAddr, resolver: &Resolver) -> Result<(), String> {
        let ip = address.ip();
        if is_of_host(ip) {
            return Err(format!("{ip} is an address of this host"));
        }
        let literal = match ip {
            IpAddr::V4(address) => Host::V4(address),
            IpAddr::V6(address) => Host::V6(address),
        };
        let Err(reason) = check_addresses(&self.policy, &literal, &[ip]) else { return Ok(()) };
        if let Some((host, port)) = &self.proxy
            && address.port() == *port
            && check_proxy(host, &[ip]).is_ok()
            && resolver.resolve(host).await.is_ok_and(|addresses| addresses.contains(&ip))
        {
            return Ok(());
        }
        Err(reason.to_string())
    }
}

/// An address without spellings that lead elsewhere than they say: an IPv4 address inside an IPv6 one is the former, and there
/// are no scopes.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Whether connecting to an address leads to this host, by the kernel's own routes: the source of such a connection is its
/// destination (`ip route get`). An unspecified address leads to this host, too. No packet is sent.
fn is_of_host(address: IpAddr) -> bool {
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let source = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((address, 9))?;
        socket.local_addr()
    });
    // Where there is no route, connecting fails, too.
    address.is_unspecified() || source.is_ok_and(|source| source.ip() == address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::EgressSpec;

    async fn refusal(spec: EgressSpec, address: &str) -> Option<String> {
        let rules = Rules::new(&EnforcedPolicy::first(spec)).unwrap();
        rules.check(canonical(address.parse().unwrap()), &Resolver::none()).await.err()
    }

    #[tokio::test]
    async fn nothing_of_the_host_is_dialled_whatever_the_policy_says() {
        let all = || EgressSpec {
            ip_allow: vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()],
            ..EgressSpec::default()
        };
        for address in [
            "127.0.0.1:80",
            "127.9.9.9:80",
            "0.0.0.0:80",
            "169.254.169.254:80",
            "[::1]:80",
            "[::]:80",
            "[::ffff:127.0.0.1]:80",
            "[64:ff9b::7f00:1]:80",
        ] {
            assert!(refusal(all(), address).await.is_some(), "{address}");
        }
    }

    #[tokio::test]
    async fn private_addresses_are_dialled_where_the_policy_says_so() {
        let one = || EgressSpec { ip_allow: vec!["10.1.0.0/16".parse().unwrap()], ..EgressSpec::default() };
        assert_eq!(refusal(one(), "10.1.2.3:443").await, None);
        assert_eq!(refusal(one(), "[::ffff:10.1.2.3]:443").await, None);
        assert!(refusal(one(), "10.2.2.3:443").await.unwrap().contains("private"));
        assert_eq!(refusal(EgressSpec::default(), "1.1.1.1:443").await, None);
    }
}
