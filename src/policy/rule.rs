//! The host of an entry: `host`, `*.host`, or either with a port.

use std::fmt;
use std::str::FromStr;

use crate::net::{Host, HostError};

/// The ports of an allowed host without a port: https and http.
const DEFAULT_PORTS: [u16; 2] = [443, 80];

/// A host, or all of its subdomains, at certain ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    host: Host,
    subdomains: bool,
    ports: Ports,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Ports {
    Default,
    All,
    One(u16),
}

impl Ports {
    fn has(&self, port: u16) -> bool {
        match self {
            Self::Default => DEFAULT_PORTS.contains(&port),
            Self::All => true,
            Self::One(one) => *one == port,
        }
    }
}

/// Why a rule cannot be parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// A malformed host.
    #[error("{rule:?}: {source}")]
    Host {
        /// The rule as written.
        rule: String,
        /// What is wrong with it.
        source: HostError,
    },
    /// A wildcard anywhere but before a name of at least two labels.
    #[error("{0:?}: a star is only allowed in front of a name with two labels or more, as in \"*.example.com\"")]
    Star(String),
    /// A public suffix, under which anybody can register a name (publicsuffix.org, the ICANN and the private part).
    #[error("{0:?}: anybody can register a name under {1}")]
    PublicSuffix(String, String),
    /// A URL instead of a host.
    #[error("{0:?} is a URL; name its host alone")]
    Url(String),
    /// A preset where a host belongs.
    #[error(
        "{0:?} is a preset, which stands by itself in a list of what is allowed, as in allow: [{0:?}]; name a host here"
    )]
    Preset(String),
    /// A malformed port.
    #[error("{0:?}: the port is not a number from 1 to 65535")]
    Port(String),
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let rule = Self::parse(text, Ports::Default)?;
        if let Host::Name(name) = &rule.host
            && rule.subdomains
            && psl::suffix_str(name) == Some(name.as_str())
        {
            return Err(RuleError::PublicSuffix(text.to_owned(), name.clone()));
        }
        Ok(rule)
    }
}

impl Rule {
    /// Parses a denial, which covers all ports if it names none, and may name a public suffix.
    ///
    /// # Errors
    /// It is malformed.
    pub fn parse_deny(text: &str) -> Result<Self, RuleError> {
        Self::parse(text, Ports::All)
    }

    fn parse(text: &str, without: Ports) -> Result<Self, RuleError> {
        if super::is_preset(text) {
            return Err(RuleError::Preset(text.to_owned()));
        }
        if text.contains("://") {
            return Err(RuleError::Url(text.to_owned()));
        }
        let (rest, ports) = match text.rsplit_once(':') {
            Some((rest, port)) if !port.ends_with(']') => {
                let port =
                    port.parse().ok().filter(|&port| port > 0).ok_or_else(|| RuleError::Port(text.to_owned()))?;
                (rest, Ports::One(port))
            }
            _ => (text, without),
        };
        let (name, subdomains) = rest.strip_prefix("*.").map_or((rest, false), |name| (name, true));
        if name.contains('*') {
            return Err(RuleError::Star(text.to_owned()));
        }
        let host = Host::parse(name).map_err(|source| RuleError::Host { rule: text.to_owned(), source })?;
        let wide = !matches!(&host, Host::Name(name) if name.contains('.'));
        if subdomains && wide {
            return Err(RuleError::Star(text.to_owned()));
        }
        Ok(Self { host, subdomains, ports })
    }

    /// Whether the rule covers this port.
    pub fn has_port(&self, port: u16) -> bool {
        self.ports.has(port)
    }

    /// Whether the rule covers this host, at some port. `*.example.com` does not cover `example.com`.
    pub fn has_host(&self, host: &Host) -> bool {
        match (self.subdomains, &self.host, host) {
            (true, Host::Name(suffix), Host::Name(name)) => {
                name.strip_suffix(suffix.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
            (true, ..) => false,
            (false, rule, host) => rule == host,
        }
    }
}

impl Rule {
    /// The host, or `*.` and the host, without a port.
    pub fn hosts(&self) -> String {
        format!("{}{}", if self.subdomains { "*." } else { "" }, self.host)
    }

    /// The host, if the rule covers only one.
    pub(super) fn single_host(&self) -> Option<&Host> {
        (!self.subdomains).then_some(&self.host)
    }

    /// Whether the rule covers the subdomains of this host, but not the host itself.
    pub(super) fn is_below(&self, host: &Host) -> bool {
        self.subdomains && self.host == *host
    }

    /// Whether both rules have the same hosts and, apart from the defaults, the same port.
    pub(super) fn is_as_wide_as(&self, other: &Self) -> bool {
        let unnamed = |ports: &Ports| !matches!(ports, Ports::One(_));
        let ports = self.ports == other.ports || unnamed(&self.ports) && unnamed(&other.ports);
        self.host == other.host && self.subdomains == other.subdomains && ports
    }

    /// Whether the rule covers every host of another one, at one of its ports at least.
    pub(super) fn meets(&self, other: &Self) -> bool {
        let any = Self { ports: Ports::All, ..self.clone() };
        let ports = match (&self.ports, &other.ports) {
            (Ports::One(port), other) => other.has(*port),
            (own, Ports::One(port)) => own.has(*port),
            _ => true,
        };
        ports && any.covers(other)
    }

    /// Whether the rule covers every host and port of another one.
    pub fn covers(&self, other: &Self) -> bool {
        let hosts = match (other.subdomains, &other.host) {
            (false, host) => self.has_host(host),
            (true, _) => self.subdomains && (self.host == other.host || self.has_host(&other.host)),
        };
        let ports = match &other.ports {
            Ports::One(port) => self.has_port(*port),
            Ports::Default => DEFAULT_PORTS.iter().all(|&port| self.has_port(port)),
            Ports::All => self.ports == Ports::All,
        };
        hosts && ports
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = if self.subdomains { "*." } else { "" };
        write!(f, "{star}{}", self.host)?;
        if let Ports::One(port) = self.ports { write!(f, ":{port}") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(rule: &str, host: &str, port: u16) -> bool {
        let rule: Rule = rule.parse().unwrap();
        rule.has_host(&Host::parse(host).unwrap()) && rule.has_port(port)
    }

    #[test]
    fn rules_allow_what_they_say() {
        for (rule, host, port, expected) in [
            ("example.com", "example.com", 443, true),
            ("example.com", "EXAMPLE.com.", 80, true),
            ("example.com", "example.com", 22, false),
            ("example.com", "a.example.com", 443, false),
            ("example.com", "notexample.com", 443, false),
            ("example.com", "example.com.evil.org", 443, false),
            ("*.example.com", "a.example.com", 443, true),
            ("*.example.com", "a.b.example.com", 443, true),
            ("*.example.com", "example.com", 443, false),
            ("*.example.com", "evilexample.com", 443, false),
            ("example.com:8443", "example.com", 8443, true),
            ("example.com:8443", "example.com", 443, false),
            ("8.8.8.8", "0x08080808", 443, true),
            ("[2606:4700::1]:443", "[2606:4700:0::1]", 443, true),
            ("[2606:4700::1]", "[2606:4700::2]", 443, false),
        ] {
            assert_eq!(allows(rule, host, port), expected, "{rule} {host}:{port}");
        }
    }

    #[test]
    fn what_is_kept_out_is_so_at_every_port() {
        let rule = Rule::parse_deny("*.github.io").unwrap();
        assert!(rule.has_port(22) && rule.has_host(&Host::parse("a.github.io").unwrap()));
        assert!(!Rule::parse_deny("example.com:80").unwrap().has_port(443));
        assert!(Rule::parse_deny("*.com").is_err());
    }

    #[test]
    fn bad_rules_are_refused() {
        for rule in [
            "",
            "*",
            "*.",
            "*.com",
            "*.1.2.3.4",
            "a.*.com",
            "*a.com",
            "**.a.com",
            "a.com:0",
            "a.com:x",
            "a b",
            "http://a.com",
            "@pypi",
            // Public suffixes.
            "*.co.uk",
            "*.github.io",
            "*.s3.amazonaws.com",
        ] {
            assert!(rule.parse::<Rule>().is_err(), "{rule:?}");
        }
    }
}
