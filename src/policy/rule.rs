//! One line of an allowlist: `host`, `*.host`, or either with a port.

use std::fmt;
use std::str::FromStr;

use super::{Host, HostError};

/// Ports a rule without one allows: https and http.
const DEFAULT_PORTS: [u16; 2] = [443, 80];

/// A rule that allows a host, or all names under one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    host: Host,
    below: bool,
    port: Option<u16>,
}

/// Why a rule could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// The host part is no host.
    #[error("{rule:?}: {source}")]
    Host {
        /// The rule as written.
        rule: String,
        /// What is wrong with it.
        source: HostError,
    },
    /// A star anywhere but in front of a name of at least two labels.
    #[error("{0:?}: a star stands only in front of a name of two labels or more, as in \"*.example.com\"")]
    Star(String),
    /// Under it anybody may register a name (publicsuffix.org, the ICANN and the private part).
    #[error("{0:?}: anybody may have a name under {1}")]
    PublicSuffix(String, String),
    /// The part after the last colon is no port.
    #[error("{0:?}: the port is not a number from 1 to 65535")]
    Port(String),
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let (rest, port) = match text.rsplit_once(':') {
            Some((rest, port)) if !port.ends_with(']') => {
                let port =
                    port.parse().ok().filter(|&port| port > 0).ok_or_else(|| RuleError::Port(text.to_owned()))?;
                (rest, Some(port))
            }
            _ => (text, None),
        };
        let (name, below) = rest.strip_prefix("*.").map_or((rest, false), |name| (name, true));
        if name.contains('*') {
            return Err(RuleError::Star(text.to_owned()));
        }
        let host = Host::parse(name).map_err(|source| RuleError::Host { rule: text.to_owned(), source })?;
        let wide = !matches!(&host, Host::Name(name) if name.contains('.'));
        if below && wide {
            return Err(RuleError::Star(text.to_owned()));
        }
        if let Host::Name(name) = &host
            && below
            && psl::suffix_str(name) == Some(name.as_str())
        {
            return Err(RuleError::PublicSuffix(text.to_owned(), name.clone()));
        }
        Ok(Self { host, below, port })
    }
}

impl Rule {
    /// Whether the rule allows this destination. `*.example.com` does not allow `example.com` itself.
    pub fn allows(&self, host: &Host, port: u16) -> bool {
        let ports = self.port.map_or_else(|| DEFAULT_PORTS.contains(&port), |allowed| allowed == port);
        ports && self.allows_host(host)
    }

    /// Whether the rule allows this host on some port.
    pub fn allows_host(&self, host: &Host) -> bool {
        match (self.below, &self.host, host) {
            (true, Host::Name(suffix), Host::Name(name)) => {
                name.strip_suffix(suffix.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
            (true, ..) => false,
            (false, rule, host) => rule == host,
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = if self.below { "*." } else { "" };
        write!(f, "{star}{}", self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(rule: &str, host: &str, port: u16) -> bool {
        rule.parse::<Rule>().unwrap().allows(&Host::parse(host).unwrap(), port)
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
            // Anybody may have a name there.
            "*.co.uk",
            "*.github.io",
            "*.s3.amazonaws.com",
        ] {
            assert!(rule.parse::<Rule>().is_err(), "{rule:?}");
        }
    }
}
