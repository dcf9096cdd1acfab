//! The `egress` section as users write it: files are named by path, a proxy's credentials by a variable.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{expand, text};
use crate::policy::{AllowSpec, Connect, DenySpec, EgressEngine, EgressSpec, Mode, UpstreamProxy, allow_list};
use crate::scan::{Action, Direction, Dlp, Rules};

/// What may leave. Paths are relative to the file that they are in; `~` is the home.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EgressSection {
    /// Whether requests that are not allowed are refused; `enforce` by default.
    pub mode: Option<Mode>,
    /// The allowlist: what the agent may reach, in addition to its template's hosts. A preset, as in `@pypi`, stands for the
    /// entries that a kind of clients needs to read.
    #[serde(default, deserialize_with = "allow_list")]
    pub allow: Vec<AllowSpec>,
    /// The denylist: what the agent may not reach, even if it is allowed.
    #[serde(default)]
    pub deny: Vec<DenySpec>,
    /// Destinations of plain TCP, as `host:port`.
    #[serde(default)]
    pub tcp: Vec<String>,
    /// Private address ranges that allowed hosts may have, as CIDR.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub ip_allow: Vec<IpNet>,
    /// PEM files with CA certificates for destinations, in addition to the public CAs.
    #[serde(default)]
    pub roots: Vec<PathBuf>,
    /// What happens to requests that contain secrets.
    #[serde(default)]
    pub dlp: DlpSection,
    /// A proxy for all destinations.
    #[serde(default)]
    pub upstream_proxy: Option<ProxySection>,
    /// `pipelock`: what passes bottler's own gate is inspected by Pipelock, too.
    #[serde(default)]
    pub engine: EgressEngine,
    /// The image of Pipelock, by its digest: `NAME@sha256:…`, or `sha256:…` for an image of this engine.
    pub image: Option<String>,
}

/// What happens to requests that contain secrets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DlpSection {
    /// The action for rules that `actions` does not name; `block` by default.
    pub action: Option<Action>,
    /// Actions for single rules, by id; `known-secret` is the rule for the bottle's own secrets.
    #[serde(default)]
    pub actions: BTreeMap<String, Action>,
    /// Files with further rules, in the format of gitleaks.
    #[serde(default)]
    pub rules: Vec<PathBuf>,
    /// Fingerprints of findings that may pass. A refusal prints them.
    #[serde(default)]
    pub allow: Vec<String>,
    /// The action for responses that contain a secret; `off` by default.
    pub responses: Option<Action>,
}

/// A proxy: its URL, or a table.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ProxySection {
    /// `http://host:port` or `https://host:port`.
    Url(String),
    /// A table with conditions.
    Table(ProxyTable),
}

/// A proxy with conditions.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProxyTable {
    /// `http://host:port` or `https://host:port`.
    pub url: String,
    /// Hosts that are reached without the proxy.
    #[serde(default)]
    pub no_proxy: Vec<String>,
    /// How destinations are named to the proxy; `name` by default.
    #[serde(default)]
    pub connect: Connect,
    /// A PEM file with CA certificates for the proxy and the certificates that it presents for destinations.
    pub ca: Option<PathBuf>,
    /// The variable of this host that contains `name:password`.
    pub credentials: Option<String>,
}

/// A section with the content of the files and variables that it names.
#[derive(Debug, Clone, Default)]
pub struct Egress {
    /// The policy.
    pub spec: EgressSpec,
    /// The credentials for the proxy.
    pub proxy_credentials: Option<String>,
}

impl EgressSection {
    /// Reads a file that contains only this section, and the files that it names.
    ///
    /// # Errors
    /// A file cannot be read or parsed, or a variable is not set.
    pub fn read(path: &Path) -> Result<Egress, String> {
        let content = text("egress", path)?;
        let section: Self = if content.trim().is_empty() {
            Self::default()
        } else {
            serde_yaml::from_str(&content).map_err(|error| format!("read egress {}: {error}", path.display()))?
        };
        let folder = path.parent().unwrap_or_else(|| Path::new(""));
        section.resolve(folder).map_err(|why| format!("read egress {}: {why}", path.display()))
    }

    /// Reads the files and variables that the section names.
    ///
    /// # Errors
    /// A file cannot be read or understood, or a variable is not set.
    pub fn resolve(self, folder: &Path) -> Result<Egress, String> {
        let read = |what: &str, path: &PathBuf| text(what, &expand(folder, path));
        let mut roots: Vec<String> = self.roots.iter().map(|path| read("roots", path)).collect::<Result<_, _>>()?;
        let rules = self.dlp.rules.iter().map(|path| {
            let content = read("dlp.rules", path)?;
            let read = Rules::with(std::slice::from_ref(&content), Direction::Request);
            read.map_err(|error| format!("dlp.rules: {}: {error}", path.display()))?;
            Ok(content)
        });
        let rules = rules.collect::<Result<_, String>>()?;
        let defaults = Dlp::default();
        let dlp = Dlp {
            action: self.dlp.action.unwrap_or(defaults.action),
            actions: self.dlp.actions,
            rules,
            allow: self.dlp.allow,
            responses: self.dlp.responses.unwrap_or(defaults.responses),
        };
        let mut proxy_credentials = None;
        let upstream_proxy = match self.upstream_proxy {
            None => None,
            Some(ProxySection::Url(url)) => Some(UpstreamProxy { url, no_proxy: Vec::new(), connect: Connect::Name }),
            Some(ProxySection::Table(table)) => {
                roots.extend(
                    table.ca.iter().map(|path| read("upstream_proxy.ca", path)).collect::<Result<Vec<_>, _>>()?,
                );
                if let Some(variable) = table.credentials {
                    let value = std::env::var(&variable);
                    let value = value.map_err(|_| format!("upstream_proxy.credentials: {variable} is not set"))?;
                    proxy_credentials = Some(value);
                }
                Some(UpstreamProxy { url: table.url, no_proxy: table.no_proxy, connect: table.connect })
            }
        };
        let spec = EgressSpec {
            mode: self.mode.unwrap_or_default(),
            allow: self.allow,
            deny: self.deny,
            tcp: self.tcp,
            host_services: Vec::new(),
            ip_allow: self.ip_allow,
            roots,
            dlp,
            upstream_proxy,
            git: Vec::new(),
            engine: self.engine,
            image: self.image,
        };
        spec.check().map_err(|error| error.to_string())?;
        Ok(Egress { spec, proxy_credentials })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_read_with_what_it_names_and_mistakes_have_their_place() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &str| std::fs::write(folder.path().join(name), content).unwrap();
        write("rules.toml", "[[rules]]\nid = 'mine'\nregex = 'mine_[a-z]{8}'\nkeywords = ['mine_']\n");
        write("bad.toml", "[[rules]]\nid = 'mine'\nregex = '('\n");
        write("ca.pem", "-----BEGIN CERTIFICATE-----\n");
        let of = |content: &str| {
            write("egress.yaml", content);
            EgressSection::read(&folder.path().join("egress.yaml"))
        };
        let good = "mode: audit
allow: [example.com, {host: api.example.com, methods: [GET]}]
deny: [evil.example.com]
roots: [ca.pem]
dlp: {rules: [rules.toml], actions: {mine: warn}}
upstream_proxy: {url: 'http://proxy.corp:3128', no_proxy: ['*.corp.example'], ca: ca.pem}
";
        let read = of(good).unwrap().spec;
        assert_eq!((read.roots.len(), read.dlp.rules.len(), read.mode), (2, 1, Mode::Audit));
        assert_eq!(
            of("upstream_proxy: http://proxy.corp:3128").unwrap().spec.upstream_proxy.unwrap().url,
            "http://proxy.corp:3128"
        );
        assert_eq!(of("").unwrap().spec, EgressSpec::default());
        for (content, expected) in [
            ("allow: [example.com]\nalow: [x]\n", "unknown field `alow`"),
            ("allow: ['*']", "allow: "),
            ("dlp: {rules: [bad.toml]}", "rule \"mine\""),
            ("dlp: {rules: [none.toml]}", "none.toml"),
            (
                "upstream_proxy: {url: 'http://p:1', credentials: BOTTLER_TEST_NOT_SET}",
                "BOTTLER_TEST_NOT_SET is not set",
            ),
            ("upstream_proxy: {url: 'http://me:secret@p:1'}", "credentials"),
        ] {
            let error = of(content).err().unwrap();
            assert!(error.contains(expected) && error.contains("egress.yaml"), "{content}: {error}");
            assert!(!error.contains("secret@"), "{error}");
        }
        assert!(of("allow: [example.com]\nalow: [x]\n").err().unwrap().contains("line 2"));
    }
}
