//! Routes and addresses of this process' network namespace.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// A route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Its network device.
    pub device: String,
    /// The destination.
    pub to: IpNet,
    /// The gateway; unspecified if the destination is reached directly.
    pub by: IpAddr,
}

impl Route {
    /// Whether it is a default route.
    pub fn is_default(&self) -> bool {
        self.to.prefix_len() == 0
    }
}

/// The routes of IPv4; none if the kernel has no such table.
///
/// # Errors
/// The table cannot be read, or a line of it cannot be parsed.
pub fn routes() -> io::Result<Vec<Route>> {
    read("/proc/net/route", 1, v4)
}

/// The routes of IPv4 that can be read. Lines that cannot be parsed are skipped; an unreadable table has no routes.
pub fn readable_routes() -> Vec<Route> {
    let table = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    parsed(&table, 1, v4)
}

/// The routes of IPv6; none if the kernel has no such table.
///
/// # Errors
/// The table cannot be read, or a line of it cannot be parsed.
pub fn routes_v6() -> io::Result<Vec<Route>> {
    read("/proc/net/ipv6_route", 0, v6)
}

/// The addresses of this namespace, each with its interface.
///
/// # Errors
/// The kernel does not return them.
pub fn addresses() -> io::Result<Vec<(String, IpAddr)>> {
    let address = |interface: nix::ifaddrs::InterfaceAddress| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|it| IpAddr::V4(it.ip()));
        let address = v4.or_else(|| address.as_sockaddr_in6().map(|it| IpAddr::V6(it.ip())))?;
        Some((interface.interface_name, address))
    };
    Ok(nix::ifaddrs::getifaddrs()?.filter_map(address).collect())
}

/// The addresses of this namespace alone.
///
/// # Errors
/// The kernel does not return them.
pub fn own_addresses() -> io::Result<Vec<IpAddr>> {
    Ok(addresses()?.into_iter().map(|(_, address)| address).collect())
}

fn read(file: &str, header: usize, parse: fn(&str) -> Option<Route>) -> io::Result<Vec<Route>> {
    match std::fs::read_to_string(file) {
        Ok(table) => {
            table_of(&table, header, parse).map_err(|line| io::Error::other(format!("read {file}: no route: {line:?}")))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(io::Error::new(error.kind(), format!("read {file}: {error}"))),
    }
}

/// Parses the routes of a table; the error is the first line that is not a route.
fn table_of(table: &str, header: usize, parse: fn(&str) -> Option<Route>) -> Result<Vec<Route>, String> {
    table.lines().skip(header).map(|line| parse(line).ok_or_else(|| line.to_owned())).collect()
}

/// The routes of a table, without lines that cannot be parsed.
fn parsed(table: &str, header: usize, parse: fn(&str) -> Option<Route>) -> Vec<Route> {
    table.lines().skip(header).filter_map(parse).collect()
}

/// Parses a line of `/proc/net/route` (`proc_pid_net(5)`): hexadecimal, in this machine's byte order.
fn v4(line: &str) -> Option<Route> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let address = |at: usize| {
        let bits = u32::from_str_radix(fields.get(at)?, 16).ok()?;
        Some(Ipv4Addr::from(bits.to_ne_bytes()))
    };
    // Count the bits: gVisor writes a /20 as 000FFFFF, which is not a valid netmask.
    let mask = u32::from_str_radix(fields.get(7)?, 16).ok()?;
    let to = Ipv4Net::new(address(1)?, u8::try_from(mask.count_ones()).ok()?).ok()?;
    Some(Route { device: fields[0].to_owned(), to: to.into(), by: address(2)?.into() })
}

/// Parses a line of `/proc/net/ipv6_route` (Linux, `net/ipv6/route.c`): destination, source, next hop, metrics,
/// flags, device.
fn v6(line: &str) -> Option<Route> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let address = |at: usize| Some(Ipv6Addr::from(u128::from_str_radix(fields.get(at)?, 16).ok()?));
    let to = Ipv6Net::new(address(0)?, u8::from_str_radix(fields.get(1)?, 16).ok()?).ok()?;
    Some(Route { device: (*fields.get(9)?).to_owned(), to: to.into(), by: address(4)?.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_read_or_refused() {
        let header = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n";
        let table = format!(
            "{header}eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
             docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
             eth0\t003011AC\t00000000\t0001\t0\t0\t0\t000FFFFF\t0\t0\t0\n"
        );
        let routes = table_of(&table, 1, v4).unwrap();
        assert!(routes[0].is_default() && !routes[1].is_default());
        assert_eq!((&*routes[0].device, routes[0].by), ("eth0", "10.0.0.1".parse().unwrap()));
        assert_eq!((routes[1].to, routes[1].by), ("172.17.0.0/16".parse().unwrap(), Ipv4Addr::UNSPECIFIED.into()));
        assert_eq!(routes[2].to, "172.17.48.0/20".parse().unwrap(), "as gVisor writes it");
        assert_eq!(table_of(&format!("{header}eth0\tx\n"), 1, v4), Err("eth0\tx".to_owned()));
        let broken = table.replace("docker0\t000011AC", "docker0\tx");
        assert!(table_of(&broken, 1, v4).is_err());
        assert_eq!(parsed(&broken, 1, v4), [routes[0].clone(), routes[2].clone()]);

        let line = "fe800000000000000000000000000000 40 00000000000000000000000000000000 00 \
                    00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0\n\
                    00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
                    fe800000000000000000000000000001 00000400 00000001 00000000 00000003     eth0\n";
        let routes = table_of(line, 0, v6).unwrap();
        assert_eq!((routes[0].to, &*routes[0].device), ("fe80::/64".parse().unwrap(), "eth0"));
        assert!(routes[1].is_default() && routes[1].by == "fe80::1".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn this_machine_is_read() {
        assert!(routes().is_ok() && routes_v6().is_ok());
        assert!(addresses().unwrap().iter().any(|(_, address)| address.is_loopback()));
    }
}
