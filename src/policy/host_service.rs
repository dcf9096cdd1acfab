//! Services of the user's own machine that the agent may reach, each under a name of its own.
//!
//! Attacks that this stops: a name that hides a host on the internet, this machine's other names, or one of the bottle's
//! sidecars; a port that needs a gate.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CANARY, FORBIDDEN};

/// Names that the default launch gives to the bottle's sidecars, and names of a machine itself.
const TAKEN: [&str; 7] = ["egress", "cred-proxy", "git-gate", "supervise", "localhost", "metadata", "agent"];
/// The longest name (RFC 1035, section 2.3.4), in bytes.
const MAX_NAME: usize = 63;

/// A service on the loopback interface of the machine that bottler runs on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a service with its name and port, as `{name: ollama, port: 11434}`")]
pub struct HostService {
    /// The name that the agent finds it under: letters, digits and hyphens, without a dot.
    pub name: String,
    /// Its port, on this machine's loopback interface and under that name.
    pub port: u16,
}

impl HostService {
    /// Reads `NAME:PORT`.
    ///
    /// # Errors
    /// It is another text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts = text.split_once(':').and_then(|(name, port)| Some((name, port.parse().ok()?)));
        let (name, port) = parts.ok_or_else(|| format!("{text:?} is not NAME:PORT"))?;
        Ok(Self { name: name.to_owned(), port })
    }

    /// `NAME:PORT`.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.name, self.port)
    }

    /// Checks the services of one bottle.
    ///
    /// # Errors
    /// One is malformed, or a name is there twice.
    pub fn check_all(services: &[Self]) -> Result<(), String> {
        let mut names = BTreeSet::new();
        services.iter().try_for_each(|service| {
            service.check()?;
            if names.insert(&service.name) { Ok(()) } else { Err(format!("{:?} is there twice", service.name)) }
        })
    }

    fn check(&self) -> Result<(), String> {
        let name = self.name.as_str();
        let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let is_name = name.bytes().all(is_letter) && name.len() <= MAX_NAME && !name.ends_with('-');
        if !is_name || !name.starts_with(|first: char| first.is_ascii_lowercase()) {
            return Err(format!("{name:?} is no name: lower-case letters, digits and hyphens, a letter first"));
        }
        if TAKEN.contains(&name) || name == CANARY || FORBIDDEN.contains(&name) {
            return Err(format!("{name:?} is taken: choose another name"));
        }
        if self.port == 0 {
            return Err(format!("{name}: the port is a number from 1 to 65535"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ports_are_checked() {
        let service = |text: &str| HostService::parse(text).map(|service| vec![service]);
        assert_eq!(HostService::check_all(&service("ollama:11434").unwrap()), Ok(()));
        assert_eq!(service("my-db2:5432").unwrap()[0].authority(), "my-db2:5432");
        for bad in ["ollama", "ollama:", "ollama:x", "ollama:65536", ":80", "a:b:80"] {
            assert!(service(bad).and_then(|services| HostService::check_all(&services)).is_err(), "{bad}");
        }
        for bad in
            ["Ollama:1", "pypi.org:443", "1a:1", "a-:1", "egress:80", "localhost:80", "canary.bottler.invalid:1", "a:0"]
        {
            assert!(HostService::check_all(&service(bad).unwrap()).is_err(), "{bad}");
        }
        let twice = ["a:1", "a:2"].map(|text| HostService::parse(text).unwrap());
        assert!(HostService::check_all(&twice).unwrap_err().contains("twice"));
    }
}
