//! Entries of the two lists: which hosts, and which requests to them, are allowed or denied.

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::{Rule, RuleError};
use crate::net::{Glob, Host, PathError};
use crate::scan::Action;

/// An entry of the allowlist: a host, or a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum AllowSpec {
    /// `host`, `*.host`, or either with a port; without a port, 443 and 80.
    Host(String),
    /// A host with conditions.
    Table(AllowTable),
}

/// An entry with conditions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AllowTable {
    /// `host`, `*.host`, or either with a port; without a port, 443 and 80.
    pub host: String,
    /// Allowed methods; all by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Allowed paths, with `*` and `**`; all by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// `intercept`, the default, or `tunnel`: then the content is not inspected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// What happens to a request that contains a secret: `block`, `warn`, or `off` for a host that is meant to receive
    /// secrets. By default, what `dlp` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scan: Option<Action>,
}

/// An entry of the denylist: a host, or a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum DenySpec {
    /// `host`, `*.host`, or either with a port; without a port, all ports.
    Host(String),
    /// A host with conditions: a request that meets all of them is denied.
    Table(DenyTable),
}

/// A denied host with conditions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DenyTable {
    /// `host`, `*.host`, or either with a port; without a port, all ports.
    pub host: String,
    /// Denied methods; all by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Denied paths, with `*` and `**`; all by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
}

/// A text or a table, told apart by what is there, so that a mistake in a table is told as what it is.
macro_rules! text_or_table {
    ($spec:ident, $table:ident) => {
        impl<'de> Deserialize<'de> for $spec {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl<'de> de::Visitor<'de> for Visitor {
                    type Value = $spec;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("a host, or a table with a host")
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$spec, E> {
                        Ok($spec::Host(text.to_owned()))
                    }

                    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<$spec, A::Error> {
                        $table::deserialize(MapAccessDeserializer::new(map)).map($spec::Table)
                    }
                }
                deserializer.deserialize_any(Visitor)
            }
        }
    };
}
text_or_table!(AllowSpec, AllowTable);
text_or_table!(DenySpec, DenyTable);

/// What egress does with TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tls {
    /// Intercept it: check and scan every request.
    Intercept,
    /// Forward it without inspection.
    Tunnel,
}

/// An entry of the allowlist, ready to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allow {
    rule: Rule,
    requests: RequestPatterns,
    tls: Option<Tls>,
    scan: Option<Action>,
}

/// An entry of the denylist, ready to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deny {
    rule: Rule,
    requests: RequestPatterns,
}

/// Which requests: all of them where nothing is said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct RequestPatterns {
    methods: Vec<String>,
    paths: Vec<Glob>,
}

/// Why an entry could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Its host.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// A method that is none.
    #[error("{0:?} is not a method, as in \"GET\"")]
    Method(String),
    /// A path that is no pattern.
    #[error("paths: {path:?}: {source}")]
    Path {
        /// As written.
        path: String,
        /// What is wrong with it.
        source: PathError,
    },
    /// What nobody looks into cannot be judged.
    #[error("{0}: methods and paths cannot be checked in a tunnel")]
    Tunnel(String),
}

/// How far an entry fits a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum MatchLevel {
    Not,
    Host,
    Port,
    Method,
    All,
}

impl AllowSpec {
    /// Reads an entry.
    ///
    /// # Errors
    /// A part is malformed, or parts do not go together.
    pub fn read(&self) -> Result<Allow, EntryError> {
        match self {
            Self::Host(host) => {
                Ok(Allow { rule: host.parse()?, requests: RequestPatterns::default(), tls: None, scan: None })
            }
            Self::Table(table) => {
                let requests = RequestPatterns::read(&table.methods, &table.paths)?;
                if table.tls == Some(Tls::Tunnel) && requests != RequestPatterns::default() {
                    return Err(EntryError::Tunnel(table.host.clone()));
                }
                Ok(Allow { rule: table.host.parse()?, requests, tls: table.tls, scan: table.scan })
            }
        }
    }

    /// As it is shown to people: its host.
    pub fn host(&self) -> &str {
        match self {
            Self::Host(host) => host,
            Self::Table(table) => &table.host,
        }
    }
}

impl DenySpec {
    /// Reads an entry. Unlike one that allows, it may name all names under which anybody may have one.
    ///
    /// # Errors
    /// A part is malformed.
    pub fn read(&self) -> Result<Deny, EntryError> {
        match self {
            Self::Host(host) => Ok(Deny { rule: Rule::parse_deny(host)?, requests: RequestPatterns::default() }),
            Self::Table(table) => {
                let requests = RequestPatterns::read(&table.methods, &table.paths)?;
                Ok(Deny { rule: Rule::parse_deny(&table.host)?, requests })
            }
        }
    }
}

impl DenySpec {
    /// As it is shown to people: its host.
    pub fn host(&self) -> &str {
        match self {
            Self::Host(host) => host,
            Self::Table(table) => &table.host,
        }
    }
}

impl RequestPatterns {
    fn read(methods: &[String], paths: &[String]) -> Result<Self, EntryError> {
        let token = |method: &&String| method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase());
        if let Some(method) = methods.iter().find(token) {
            return Err(EntryError::Method(method.clone()));
        }
        let glob = |path: &String| Glob::parse(path).map_err(|source| EntryError::Path { path: path.clone(), source });
        Ok(Self { methods: methods.to_vec(), paths: paths.iter().map(glob).collect::<Result<_, _>>()? })
    }

    fn method(&self, method: &str) -> bool {
        self.methods.is_empty() || self.methods.iter().any(|named| named == method)
    }
}

impl Allow {
    /// How far a request fits; a path that is not known yet fits.
    pub(super) fn match_level(&self, host: &Host, port: u16, request: Option<(&str, &str)>) -> MatchLevel {
        if !self.rule.has_host(host) {
            return MatchLevel::Not;
        }
        if !self.rule.has_port(port) {
            return MatchLevel::Host;
        }
        let Some((method, path)) = request else { return MatchLevel::All };
        if !self.requests.method(method) {
            return MatchLevel::Port;
        }
        if !self.requests.paths.is_empty() && !self.requests.paths.iter().any(|glob| glob.matches(path)) {
            return MatchLevel::Method;
        }
        MatchLevel::All
    }

    /// What happens where a request holds a secret, if the entry says so.
    pub(super) fn scan(&self) -> Option<Action> {
        self.scan
    }

    /// Its host, where it is one alone.
    pub(super) fn single_host(&self) -> Option<&Host> {
        self.rule.single_host()
    }

    /// What happens to TLS, if the entry says so.
    pub(super) fn tls(&self) -> Option<Tls> {
        self.tls
    }
}

impl Deny {
    /// Whether it denies a request; of one whose path is not known yet, only where it denies all of them. A path that
    /// servers may read in another way is denied in each.
    pub(super) fn matches(&self, host: &Host, port: u16, request: Option<(&str, &str)>) -> bool {
        if !(self.rule.has_host(host) && self.rule.has_port(port)) {
            return false;
        }
        let Some((method, path)) = request else { return self.requests == RequestPatterns::default() };
        self.requests.method(method)
            && (self.requests.paths.is_empty() || self.requests.paths.iter().any(|glob| glob.may_match(path)))
    }

    /// Whether it would judge a request by its path.
    pub(super) fn checks_paths(&self, host: &Host, port: u16, request: Option<(&str, &str)>) -> bool {
        let Some((method, _)) = request else { return false };
        self.covers_host(host, port) && self.requests.method(method) && !self.requests.paths.is_empty()
    }

    /// Whether it denies exactly what an entry allows; without a port, one denies every port and the other allows the usual ones.
    pub(super) fn matches_exactly(&self, allow: &Allow) -> bool {
        self.requests == allow.requests && self.rule.covers(&allow.rule) && self.rule.is_as_wide_as(&allow.rule)
    }

    /// Whether it denies everything that an entry allows.
    pub(super) fn covers(&self, allow: &Allow) -> bool {
        self.requests == RequestPatterns::default() && self.rule.covers(&allow.rule)
    }

    /// Whether it wants to look at requests of a host, so that no tunnel may lead there.
    pub(super) fn covers_host(&self, host: &Host, port: u16) -> bool {
        self.rule.has_host(host) && self.rule.has_port(port)
    }

    /// As it is shown to people: its host.
    pub(super) fn rule(&self) -> &Rule {
        &self.rule
    }
}
