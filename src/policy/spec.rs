//! The policy as the user specifies it, in the plan and in a reload.

use std::collections::BTreeMap;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::allow::MatchLevel;
use super::authorize::check_host;
use super::named_rules;
use super::{
    Allow, AllowSpec, AllowTable, Deny, DenySpec, EntryError, Form, GitAccess, GitEntry, GitError, GitRepository,
    HostService, Intent, Mode, Policy, PresetTag, Reason, Rule, RuleError, Sibling, TcpTarget,
};
use crate::net::{Host, HostError};
use crate::scan::{Action, Dlp};

/// Ports of services that need a gate: SSH (RFC 4253), git (git-daemon(1)).
const GATED: [u16; 2] = [22, 9418];
/// Maximum number of TCP destinations of one bottle.
const MAX_TCP: usize = 32;

/// What may leave.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EgressSpec {
    /// Whether what is not allowed is refused.
    #[serde(default)]
    pub mode: Mode,
    /// What the agent may reach.
    #[serde(default)]
    pub allow: Vec<AllowSpec>,
    /// What it may not reach, whatever is allowed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<DenySpec>,
    /// Destinations of plain TCP, as `host:port`: the agent finds them under their own names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tcp: Vec<String>,
    /// Services of the user's machine, each under a name of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_services: Vec<HostService>,
    /// Private address ranges that the user means to reach, as CIDR.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub ip_allow: Vec<IpNet>,
    /// Authorities that destinations may be certified by, beyond the public ones, in PEM.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roots: Vec<String>,
    /// What is looked for in requests, and what happens then.
    #[serde(default)]
    pub dlp: Dlp,
    /// The proxy that destinations are reached through, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_proxy: Option<UpstreamProxy>,
    /// Repositories behind the git gate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub git: Vec<GitRepository>,
    /// What inspects requests beside bottler's own gate.
    #[serde(default, skip_serializing_if = "EgressEngine::is_own")]
    pub engine: EgressEngine,
    /// The image of that engine, by its digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

/// What inspects requests in egress. The engine is fixed at the launch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EgressEngine {
    /// Bottler's own gate and scanner.
    #[default]
    Bottler,
    /// The same, and behind it Pipelock, which intercepts and inspects what has passed.
    Pipelock,
}

impl EgressEngine {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
    fn is_own(&self) -> bool {
        *self == Self::Bottler
    }
}

/// A proxy that destinations are reached through. Its credentials are no part of this: they are a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamProxy {
    /// `http://host:port` or `https://host:port`.
    pub url: String,
    /// Hosts that are reached without it: `host`, `*.host`, or either with a port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub no_proxy: Vec<String>,
    /// How destinations are named to it.
    #[serde(default)]
    pub connect: Connect,
}

/// How requests to a host get out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// They do not.
    Not,
    /// In a tunnel, unread.
    Tunnel,
    /// Inspected.
    Inspected,
}

/// How destinations are named to a proxy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Connect {
    /// By name, which the proxy resolves. A name that resolves here is checked here as well.
    #[default]
    Name,
    /// By the address that was resolved and checked here.
    Address,
}

/// Why a policy cannot be parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// An entry of the allowlist.
    #[error("allow: {0}")]
    Allow(EntryError),
    /// An entry of the allowlist for a host that is never reached.
    #[error("allow: {0:?} has no effect: {1}; {hint}", hint = .1.hint())]
    Unreachable(String, Reason),
    /// An entry of the denylist.
    #[error("deny: {0}")]
    Deny(EntryError),
    /// A destination of plain TCP.
    #[error("tcp: {entry:?}: {why}")]
    Tcp {
        /// As written.
        entry: String,
        /// What is wrong with it.
        why: String,
    },
    /// A rule of the scanner that is named.
    #[error("dlp: {0}")]
    Dlp(String),
    /// A service of the user's machine.
    #[error("host_services: {0}")]
    HostService(String),
    /// The proxy's address.
    #[error("upstream_proxy: {0:?} is not http://host:port or https://host:port")]
    Proxy(String),
    /// A URL with credentials.
    #[error("upstream_proxy: the URL holds credentials, which every script could read")]
    ProxyCredentials,
    /// A host in `no_proxy`.
    #[error("upstream_proxy: no_proxy: {0}")]
    NoProxy(RuleError),
    /// Responses are not masked.
    #[error("dlp: responses: `mask` is for requests; use block, warn or off")]
    MaskedResponses,
    /// A repository behind the git gate.
    #[error("{0}")]
    Git(#[from] GitError),
    /// The engine, its image, or what it cannot do.
    #[error("{0}")]
    Engine(String),
}

impl EgressSpec {
    /// Parses the lists. `sidecars` are the bottle's own, by name.
    ///
    /// # Errors
    /// An entry is malformed.
    pub fn policy(&self, sidecars: BTreeMap<String, Sibling>) -> Result<Policy, SpecError> {
        let allow: Result<Vec<Allow>, _> = self.allow.iter().map(AllowSpec::read).collect();
        let deny: Result<Vec<Deny>, _> = self.deny.iter().map(DenySpec::read).collect();
        let services = self.host_services.iter().map(|service| (service.name.clone(), service.clone().into()));
        let sidecars = services.chain(sidecars).collect();
        Ok(Policy {
            mode: self.mode,
            allow: allow.map_err(SpecError::Allow)?,
            once: Vec::new(),
            deny: deny.map_err(SpecError::Deny)?,
            tcp: self.tcp_targets()?,
            ip_allow: self.ip_allow.clone(),
            own_host: Vec::new(),
            sidecars,
            git: GitAccess::HandOver(self.git_entries()?),
        })
    }

    /// Adds the hosts of an agent's template, before those of the user. A template masks what would be refused: where the user
    /// lets all findings pass, they pass towards its hosts as well.
    pub fn add_template(&mut self, hosts: &[AllowSpec]) {
        let softened = |entry: &AllowSpec| match entry {
            AllowSpec::Table(table) if table.scan == Some(Action::Mask) && self.dlp.action < Action::Mask => {
                AllowSpec::Table(AllowTable { scan: None, ..table.clone() })
            }
            entry => entry.clone(),
        };
        let hosts: Vec<AllowSpec> = hosts.iter().map(softened).collect();
        self.allow.splice(0..0, hosts);
    }

    /// The hosts towards which secrets are masked, as they are written.
    pub fn masked_hosts(&self) -> Vec<&str> {
        let masks = |entry: &&AllowSpec| match entry {
            AllowSpec::Table(AllowTable { scan: Some(action), .. }) => *action == Action::Mask,
            _ => self.dlp.action == Action::Mask,
        };
        self.allow.iter().filter(masks).map(AllowSpec::host).collect()
    }

    /// Parses the repositories behind the git gate.
    ///
    /// # Errors
    /// One is malformed.
    pub fn git_entries(&self) -> Result<Vec<GitEntry>, GitError> {
        self.git.iter().map(GitRepository::read).collect()
    }

    /// Checks everything.
    ///
    /// # Errors
    /// Something is malformed.
    pub fn check(&self) -> Result<(), SpecError> {
        self.check_engine()?;
        if self.dlp.responses == Action::Mask {
            return Err(SpecError::MaskedResponses);
        }
        named_rules::check(&self.dlp).map_err(SpecError::Dlp)?;
        self.check_services()?;
        for entry in &self.allow {
            let read = entry.read().map_err(SpecError::Allow)?;
            self.check_reachable(&read).map_err(|why| SpecError::Unreachable(entry.host().to_owned(), why))?;
        }
        self.policy(BTreeMap::new()).and(self.proxy().map(drop)).and(self.no_proxy().map(drop))
    }

    /// Refuses an entry for a host that is never reached, whatever is allowed.
    pub(super) fn check_reachable(&self, entry: &Allow) -> Result<(), Reason> {
        let addresses = Policy { ip_allow: self.ip_allow.clone(), ..Policy::default() };
        entry.single_host().map_or(Ok(()), |host| check_host(&addresses, host))
    }

    /// The service of the user's machine that an entry of the allowlist names, with its name as a host.
    pub(super) fn service_of(&self, entry: &Allow) -> Option<(&HostService, Host)> {
        let Host::Name(name) = entry.single_host()? else { return None };
        let service = self.host_services.iter().find(|service| service.name == *name)?;
        Some((service, Host::Name(name.clone())))
    }

    /// Refuses entries for services of the user's machine that would restrict nothing.
    fn check_services(&self) -> Result<(), SpecError> {
        for entry in &self.allow {
            let read = entry.read().map_err(SpecError::Allow)?;
            let Some((service, host)) = self.service_of(&read) else { continue };
            if entry.is_tunnel() || !read.is_whole() || read.match_level(&host, service.port, None) < MatchLevel::All {
                let why = format!(
                    "the entry of egress.allow for {} has no effect: all of {} is allowed; `scan` alone counts, and \
                     egress.deny takes methods and paths",
                    entry.host(),
                    service.authority()
                );
                return Err(SpecError::HostService(why));
            }
        }
        Ok(())
    }

    /// Checks the engine: its image, and what it cannot do.
    fn check_engine(&self) -> Result<(), SpecError> {
        let bad = |why: String| Err(SpecError::Engine(why));
        match (self.engine, &self.image) {
            (EgressEngine::Bottler, None) => return Ok(()),
            (EgressEngine::Bottler, Some(_)) => {
                return bad("image: bottler's own egress has none; the image is for `engine: pipelock`".into());
            }
            (EgressEngine::Pipelock, None) => {
                return bad("engine: pipelock needs `image: NAME@sha256:…`, the image that has the program".into());
            }
            // The program sees every request, and holds the CA's key: a tag could lead to another one tomorrow.
            (EgressEngine::Pipelock, Some(image)) if !is_pinned(image) => {
                return bad(format!("image: {image:?} may change: name it by its digest, NAME@sha256:… or sha256:…"));
            }
            (EgressEngine::Pipelock, Some(_)) => {}
        }
        if self.mode == Mode::Audit {
            return bad("mode: audit is not for `engine: pipelock`, whose allowlist is always enforced".into());
        }
        if self.upstream_proxy.is_some() {
            return bad("upstream_proxy is not for `engine: pipelock`, which connects to destinations itself".into());
        }
        Ok(())
    }

    /// How requests to a host would get out, at one of its ports; `host` as in an entry of the allowlist.
    ///
    /// # Errors
    /// The host or an entry is malformed.
    pub fn reach(&self, host: &str) -> Result<Reach, EntryError> {
        let wanted: Rule = host.parse()?;
        let mut found = Reach::Not;
        for entry in &self.allow {
            if entry.read()?.meets(&wanted) {
                if entry.is_tunnel() {
                    return Ok(Reach::Tunnel);
                }
                found = Reach::Inspected;
            }
        }
        Ok(found)
    }

    /// The preset by which alone a request is allowed; `None` if an entry of no preset allows it, or none does.
    pub fn preset_of(&self, intent: &Intent) -> Option<&PresetTag> {
        let fits = |entry: &&AllowSpec| {
            let level = entry.read().map(|read| read.match_level(&intent.host, intent.port, intent.request()));
            level == Ok(MatchLevel::All)
        };
        if intent.form == Form::Tcp || self.allow.iter().filter(fits).any(|entry| entry.preset().is_none()) {
            return None;
        }
        self.allow.iter().find(fits)?.preset()
    }

    /// Parses the TCP destinations, in order; behind them the services of the user's machine, which are reached as such, too.
    ///
    /// # Errors
    /// One is not `host:port` or has a port that needs a gate, or there are too many.
    pub fn tcp_targets(&self) -> Result<Vec<TcpTarget>, SpecError> {
        HostService::check_all(&self.host_services).map_err(SpecError::HostService)?;
        let services: Vec<String> = self.host_services.iter().map(HostService::authority).collect();
        let has_service = |host: &str| self.host_services.iter().any(|service| service.name == host);
        let targets = self.tcp.iter().chain(&services).enumerate();
        targets
            .map(|(index, entry)| {
                let bad = |why: String| match self.tcp.get(index) {
                    Some(_) => SpecError::Tcp { entry: entry.clone(), why },
                    None => SpecError::HostService(format!("{entry:?}: {why}")),
                };
                if index == MAX_TCP {
                    return Err(bad(format!("there are {MAX_TCP} at most")));
                }
                let (host, port) = entry.rsplit_once(':').ok_or_else(|| bad("it is not host:port".into()))?;
                if index < self.tcp.len() && has_service(host) {
                    return Err(bad("a service of host_services has this name".into()));
                }
                let host = Host::parse(host).map_err(|error: HostError| bad(error.to_string()))?;
                let port = port.parse().ok().filter(|&port| port > 0);
                let port = port.ok_or_else(|| bad("the port is not a number from 1 to 65535".into()))?;
                match host {
                    _ if GATED.contains(&port) => Err(bad("SSH and git are not forwarded".into())),
                    Host::Name(_) => Ok(TcpTarget { host, port }),
                    _ => Err(bad("name a host: the agent reaches it under its name".into())),
                }
            })
            .collect()
    }

    /// Parses the address of the upstream proxy: whether it expects TLS, its host, its port.
    ///
    /// # Errors
    /// It is malformed, or contains credentials.
    pub fn proxy(&self) -> Result<Option<(bool, Host, u16)>, SpecError> {
        let Some(proxy) = &self.upstream_proxy else { return Ok(None) };
        let bad = || SpecError::Proxy(proxy.url.clone());
        let url = url::Url::parse(&proxy.url).map_err(|_| bad())?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(SpecError::ProxyCredentials);
        }
        let tls = match url.scheme() {
            "http" => false,
            "https" => true,
            _ => return Err(bad()),
        };
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(bad());
        }
        let host = Host::parse(url.host_str().ok_or_else(bad)?).map_err(|_| bad())?;
        Ok(Some((tls, host, url.port().unwrap_or(if tls { 443 } else { 80 }))))
    }

    /// Parses the hosts that are reached without the proxy.
    ///
    /// # Errors
    /// One is malformed.
    pub fn no_proxy(&self) -> Result<Vec<Rule>, SpecError> {
        let hosts = self.upstream_proxy.iter().flat_map(|proxy| &proxy.no_proxy);
        hosts.map(|host| Rule::parse_deny(host)).collect::<Result<_, _>>().map_err(SpecError::NoProxy)
    }
}

/// Whether an image is named by its digest or its id.
fn is_pinned(image: &str) -> bool {
    let digest = image.strip_prefix("sha256:").or_else(|| image.split_once("@sha256:").map(|(_, digest)| digest));
    digest.is_some_and(|digest| digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_reached_inspected_in_a_tunnel_or_not() {
        let spec: EgressSpec = serde_yaml::from_str(
            "{allow: [a.com, '*.b.com', 'c.com:8443', {host: d.com, tls: tunnel}, {host: e.com, methods: [GET]}]}",
        )
        .unwrap();
        for (host, expected) in [
            ("a.com", Reach::Inspected),
            ("A.com.", Reach::Inspected),
            ("x.a.com", Reach::Not),
            ("x.b.com", Reach::Inspected),
            ("*.x.b.com", Reach::Inspected),
            ("b.com", Reach::Not),
            ("c.com", Reach::Not),
            ("c.com:8443", Reach::Inspected),
            ("a.com:443", Reach::Inspected),
            ("a.com:8443", Reach::Not),
            ("d.com", Reach::Tunnel),
            ("e.com", Reach::Inspected),
        ] {
            assert_eq!(spec.reach(host).unwrap(), expected, "{host}");
        }
        assert!(spec.reach("a b").is_err());
    }

    #[test]
    fn promise_15_so_many_destinations_of_plain_tcp_are_named() {
        let check = |count: usize| {
            let tcp = (0..count).map(|number| format!("db{number}.example.com:5432")).collect();
            EgressSpec { tcp, ..EgressSpec::default() }.check().map_err(|error| error.to_string())
        };
        assert_eq!(check(MAX_TCP), Ok(()));
        let error = check(MAX_TCP + 1).unwrap_err();
        assert!(error.contains("db32.example.com") && error.contains("there are 32 at most"), "{error}");
    }

    #[test]
    fn mistakes_are_told_with_their_section() {
        let of = |text: &str| -> Result<(), String> {
            let spec: EgressSpec = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
            spec.check().map_err(|error| error.to_string())
        };
        for (text, expected) in [
            ("allow: [example.com]\ndeny: ['*.github.io']\ntcp: [db.example.com:5432]\nmode: audit", ""),
            ("allow: ['*.com']", "allow: "),
            ("allow: [{host: a.com, method: [GET]}]", "unknown field `method`"),
            ("allow: [{methods: [GET]}]", "missing field `host`"),
            ("allow: [5]", "a host, or a table with a host"),
            ("deny: ['a b']", "deny: "),
            ("tcp: [db.example.com]", "not host:port"),
            ("tcp: [git.example.com:22]", "are not forwarded"),
            ("tcp: ['1.2.3.4:80']", "name a host"),
            ("upstream_proxy: {url: 'http://proxy:3128'}", ""),
            ("upstream_proxy: {url: 'http://me:pass@proxy:3128'}", "credentials"),
            ("upstream_proxy: {url: 'socks5://proxy:1080'}", "is not http://host:port"),
            ("upstream_proxy: {url: 'http://proxy:3128', no_proxy: ['*']}", "no_proxy: "),
            ("mode: off", "unknown variant `off`"),
            ("dlp: {action: warn, actions: {github-token: block}, responses: warn}", ""),
            ("{dlp: {action: mask, actions: {jwt: mask}}, allow: [{host: a.com, scan: mask}]}", ""),
            ("dlp: {responses: mask}", "`mask` is for requests"),
            (
                "dlp: {actions: {github_token: warn}}",
                "there is no rule \"github_token\" (did you mean \"github-token\"?)",
            ),
            ("dlp: {allow: ['github-token:0123456789abcdef', 'known-secret:0123456789abcdef']}", ""),
            ("dlp: {allow: ['github-token']}", "is no fingerprint"),
            ("dlp: {allow: ['nothing:0123456789abcdef']}", "there is no rule \"nothing\""),
            ("{host_services: [{name: m, port: 80}], allow: [{host: m, scan: mask}]}", ""),
            ("{host_services: [{name: m, port: 81}], allow: [m]}", "has no effect"),
            ("{host_services: [{name: m, port: 80}], allow: [{host: m, methods: [GET]}]}", "has no effect"),
            ("{host_services: [{name: m, port: 80}], tcp: ['m:81']}", "has this name"),
            ("allow: [{host: a.com, tls: tunnel, scan: mask}]", "nothing can be masked in a tunnel"),
        ] {
            let got = of(text).err().unwrap_or_default();
            assert!(got.contains(expected) && got.is_empty() == expected.is_empty(), "{text}: {got:?}");
        }
    }

    #[test]
    fn pipelock_needs_a_pinned_image_and_refuses_what_it_cannot_do() {
        let id = format!("sha256:{}", "0123456789abcdef".repeat(4));
        let with = |image: Option<&str>| EgressSpec {
            engine: EgressEngine::Pipelock,
            image: image.map(str::to_owned),
            ..EgressSpec::default()
        };
        for image in [id.clone(), format!("ghcr.io/a/pipelock@{id}")] {
            assert_eq!(with(Some(&image)).check(), Ok(()), "{image}");
        }
        let why = |spec: EgressSpec| spec.check().unwrap_err().to_string();
        for image in ["pipelock", "pipelock:2.3", "pipelock@sha256:abc", "sha256:", &id[..70], &id.replace('0', "g")] {
            assert!(why(with(Some(image))).contains("by its digest"), "{image}");
        }
        assert!(why(with(None)).contains("needs `image"));
        assert!(why(EgressSpec { image: Some(id.clone()), ..EgressSpec::default() }).contains("engine: pipelock"));
        assert!(why(EgressSpec { mode: Mode::Audit, ..with(Some(&id)) }).contains("mode: audit"));
        let proxy = UpstreamProxy { url: "http://p:1".into(), no_proxy: Vec::new(), connect: Connect::Name };
        assert!(why(EgressSpec { upstream_proxy: Some(proxy), ..with(Some(&id)) }).contains("upstream_proxy"));
    }
}
