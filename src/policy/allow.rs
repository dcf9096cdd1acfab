//! Entries of the two lists: which hosts, and which requests to them, are allowed or denied.

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::preset_name::check;
use super::{PresetTag, Rule, RuleError};
use crate::net::{Glob, Host, PathError};
use crate::scan::Action;

/// An entry of the allowlist: a host, or a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum AllowSpec {
    /// `host`, `*.host`, or either with a port; without a port, 443 and 80. Or, where a list is
    /// written, a preset, as in `@pypi`.
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
    /// What happens to a request that contains a secret: `block`, `mask`, `warn`, or `off` for a host that is meant to receive
    /// secrets. By default, what `dlp` says. With `mask`, rules that `dlp.actions` names keep their action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scan: Option<Action>,
    /// The preset that the entry is of. Nobody writes this: it is what a preset is expanded to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub preset: Option<PresetTag>,
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

/// Deserializes a string or a table, by what is there, so that a mistake in a table is reported as such. A text is checked
/// at once where a mistake would otherwise have no line.
macro_rules! text_or_table {
    ($spec:ident, $table:ident, $check:expr) => {
        impl<'de> Deserialize<'de> for $spec {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl<'de> de::Visitor<'de> for Visitor {
                    type Value = $spec;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("a host, or a table with a host")
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$spec, E> {
                        $check(text).map_err(E::custom)?;
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
text_or_table!(AllowSpec, AllowTable, check);
text_or_table!(DenySpec, DenyTable, check_host);

/// Refuses a preset, which lists what is allowed.
fn check_host(text: &str) -> Result<(), RuleError> {
    if super::is_preset(text) { Err(RuleError::Preset(text.to_owned())) } else { Ok(()) }
}

/// What egress does with TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tls {
    /// Intercept it: check and scan every request.
    Intercept,
    /// Forward it without inspection.
    Tunnel,
}

/// A parsed entry of the allowlist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allow {
    rule: Rule,
    requests: RequestPatterns,
    tls: Option<Tls>,
    scan: Option<Action>,
}

/// A parsed entry of the denylist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deny {
    rule: Rule,
    requests: RequestPatterns,
}

/// The requests that an entry applies to; all if empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct RequestPatterns {
    methods: Vec<String>,
    paths: Vec<Glob>,
}

/// Why an entry cannot be parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The host.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// A malformed method.
    #[error("{0:?} is not a method, as in \"GET\"")]
    Method(String),
    /// A malformed path pattern.
    #[error("paths: {path:?}: {source}")]
    Path {
        /// As written.
        path: String,
        /// What is wrong with it.
        source: PathError,
    },
    /// Requests in a tunnel cannot be checked.
    #[error("{0}: methods and paths cannot be checked in a tunnel")]
    Tunnel(String),
    /// Nor masked.
    #[error("{0}: nothing can be masked in a tunnel")]
    MaskedTunnel(String),
}

/// How far an entry matches a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum MatchLevel {
    Not,
    Host,
    Port,
    Method,
    All,
}

impl AllowSpec {
    /// Parses an entry.
    ///
    /// # Errors
    /// A part is malformed, or parts contradict each other.
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
                if table.tls == Some(Tls::Tunnel) && table.scan == Some(Action::Mask) {
                    return Err(EntryError::MaskedTunnel(table.host.clone()));
                }
                Ok(Allow { rule: table.host.parse()?, requests, tls: table.tls, scan: table.scan })
            }
        }
    }

    /// The host, as it is shown to people.
    pub fn host(&self) -> &str {
        match self {
            Self::Host(host) => host,
            Self::Table(table) => &table.host,
        }
    }

    /// Whether TLS to its hosts is forwarded without inspection.
    pub fn is_tunnel(&self) -> bool {
        matches!(self, Self::Table(table) if table.tls == Some(Tls::Tunnel))
    }

    /// Whether the content of some requests to its hosts is for no scanner.
    pub fn is_unread(&self) -> bool {
        self.is_tunnel() || matches!(self, Self::Table(table) if table.scan == Some(Action::Off))
    }

    /// The preset that the entry is of, if it is of one.
    pub fn preset(&self) -> Option<&PresetTag> {
        match self {
            Self::Host(_) => None,
            Self::Table(table) => table.preset.as_ref(),
        }
    }
}

impl DenySpec {
    /// Parses an entry. Unlike an entry that allows, it may name a public suffix.
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
    /// The host, as it is shown to people.
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

    /// Whether every request of other patterns is certainly one of these.
    fn cover(&self, other: &Self) -> bool {
        let methods = self.methods.is_empty()
            || !other.methods.is_empty() && other.methods.iter().all(|method| self.methods.contains(method));
        let path = |wanted: &Glob| {
            self.paths.iter().any(|own| own == wanted || !wanted.is_pattern() && own.matches(wanted.as_str()))
        };
        methods && (self.paths.is_empty() || !other.paths.is_empty() && other.paths.iter().all(path))
    }
}

impl Allow {
    /// Whether the entry has this host, at some port.
    pub(super) fn has_host(&self, host: &Host) -> bool {
        self.rule.has_host(host)
    }

    /// The rule, if it has all subdomains of this host, and not the host itself.
    pub(super) fn only_below(&self, host: &Host) -> Option<&Rule> {
        self.rule.is_below(host).then_some(&self.rule)
    }

    /// Whether some request to each host of a rule, at one of its ports, is allowed.
    pub(super) fn meets(&self, rule: &Rule) -> bool {
        self.rule.meets(rule)
    }

    /// Whether some request of another entry's hosts is allowed.
    pub(super) fn meets_entry(&self, other: &Self) -> bool {
        self.rule.meets(&other.rule)
    }

    /// Whether every request of another entry is certainly allowed by this one.
    pub(super) fn covers(&self, other: &Self) -> bool {
        self.rule.covers(&other.rule) && self.requests.cover(&other.requests)
    }

    /// How far a request matches; a path that is not known yet matches.
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

    /// The action for a secret in a request, if the entry sets it.
    pub(super) fn scan(&self) -> Option<Action> {
        self.scan
    }

    /// Whether the entry applies to all requests of its hosts.
    pub(super) fn is_whole(&self) -> bool {
        self.requests == RequestPatterns::default()
    }

    /// The host, if the entry matches only one.
    pub(super) fn single_host(&self) -> Option<&Host> {
        self.rule.single_host()
    }

    /// The handling of TLS, if the entry sets it.
    pub(super) fn tls(&self) -> Option<Tls> {
        self.tls
    }
}

impl Deny {
    /// Whether the entry denies a request. If the path is not known yet, only if the entry denies every request. A path
    /// that servers read in several ways is denied if any reading matches.
    pub(super) fn matches(&self, host: &Host, port: u16, request: Option<(&str, &str)>) -> bool {
        if !(self.rule.has_host(host) && self.rule.has_port(port)) {
            return false;
        }
        let Some((method, path)) = request else { return self.requests == RequestPatterns::default() };
        self.requests.method(method)
            && (self.requests.paths.is_empty() || self.requests.paths.iter().any(|glob| glob.may_match(path)))
    }

    /// Whether the entry checks the path of this request.
    pub(super) fn checks_paths(&self, host: &Host, port: u16, request: Option<(&str, &str)>) -> bool {
        let Some((method, _)) = request else { return false };
        self.covers_host(host, port) && self.requests.method(method) && !self.requests.paths.is_empty()
    }

    /// Whether the entry denies exactly what another one allows. Without a port, a denial covers all ports and a
    /// permission the default ones.
    pub(super) fn matches_exactly(&self, allow: &Allow) -> bool {
        self.requests == allow.requests && self.rule.covers(&allow.rule) && self.rule.is_as_wide_as(&allow.rule)
    }

    /// Whether the entry denies everything that another one allows.
    pub(super) fn covers(&self, allow: &Allow) -> bool {
        self.requests == RequestPatterns::default() && self.rule.covers(&allow.rule)
    }

    /// Whether the entry applies to requests of a host, so that no tunnel may lead there.
    pub(super) fn covers_host(&self, host: &Host, port: u16) -> bool {
        self.rule.has_host(host) && self.rule.has_port(port)
    }

    /// The host rule.
    pub(super) fn rule(&self) -> &Rule {
        &self.rule
    }
}
