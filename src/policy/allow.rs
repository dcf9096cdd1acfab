//! One entry of an allowlist: a host, and which requests to it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Glob, Host, PathError, Rule, RuleError};

/// An entry as it is written: a host, or a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum AllowSpec {
    /// `host`, `*.host`, or either with a port.
    Host(String),
    /// A host with conditions.
    Table(AllowTable),
}

/// An entry with conditions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AllowTable {
    /// `host`, `*.host`, or either with a port.
    pub host: String,
    /// Methods that may be used; all when absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Paths that may be asked for, with `*` and `**`; all when absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// `intercept`, which is so when absent, or `tunnel`: then nobody looks inside.
    #[serde(default)]
    pub tls: Tls,
    /// Whether requests are looked at for secrets, which is so when absent; `false` for a host that is to be given them.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub scan: bool,
}

fn yes() -> bool {
    true
}

/// What happens to TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tls {
    /// It is taken off, and every request is judged and scanned.
    #[default]
    Intercept,
    /// It goes through unread.
    Tunnel,
}

/// An entry, ready to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allow {
    rule: Rule,
    methods: Vec<String>,
    paths: Vec<Glob>,
    tls: Tls,
    scan: bool,
}

/// Why an entry could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AllowError {
    /// Its host.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// A method that is none.
    #[error("{0:?} is no method, as in \"GET\"")]
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
    #[error("{0}: methods and paths cannot be judged in a tunnel")]
    Tunnel(String),
}

/// How far an entry fits a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fit {
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
    pub fn read(&self) -> Result<Allow, AllowError> {
        let table = match self {
            Self::Host(host) => {
                return Ok(Allow {
                    rule: host.parse()?,
                    methods: Vec::new(),
                    paths: Vec::new(),
                    tls: Tls::Intercept,
                    scan: true,
                });
            }
            Self::Table(table) => table,
        };
        let token = |method: &&String| method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase());
        if let Some(method) = table.methods.iter().find(token) {
            return Err(AllowError::Method(method.clone()));
        }
        let glob = |path: &String| Glob::parse(path).map_err(|source| AllowError::Path { path: path.clone(), source });
        if table.tls == Tls::Tunnel && !(table.methods.is_empty() && table.paths.is_empty()) {
            return Err(AllowError::Tunnel(table.host.clone()));
        }
        Ok(Allow {
            rule: table.host.parse()?,
            methods: table.methods.clone(),
            paths: table.paths.iter().map(glob).collect::<Result<_, _>>()?,
            tls: table.tls,
            scan: table.scan,
        })
    }

    /// As it is shown to people: its host.
    pub fn host(&self) -> &str {
        match self {
            Self::Host(host) => host,
            Self::Table(table) => &table.host,
        }
    }
}

impl Allow {
    /// How far a request fits; a path that is not known yet fits.
    pub(super) fn fit(&self, host: &Host, port: u16, request: Option<(&str, &str)>) -> Fit {
        if !self.rule.allows_host(host) {
            return Fit::Not;
        }
        if !self.rule.allows(host, port) {
            return Fit::Host;
        }
        let Some((method, path)) = request else { return Fit::All };
        if !self.methods.is_empty() && !self.methods.iter().any(|allowed| allowed == method) {
            return Fit::Port;
        }
        if !self.paths.is_empty() && !self.paths.iter().any(|glob| glob.fits(path)) {
            return Fit::Method;
        }
        Fit::All
    }

    /// Whether requests are looked at.
    pub(super) fn scan(&self) -> bool {
        self.scan
    }

    /// What happens to TLS.
    pub(super) fn tls(&self) -> Tls {
        self.tls
    }
}
