//! Intent → decision: the single gate for every form of request.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::allow::MatchLevel;
use super::intent::{Form, Intent};
use super::reason::Reason;
use super::{Allow, CANARY, Deny, FORBIDDEN, GitAccess, GitRequest, Mode, Sibling, TcpTarget, Tls};
use crate::net::{Class, Host, PathError, ambiguity, classify, folded};
use crate::scan::Action;

/// What is allowed and denied, and the bottle's own sidecars.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// Whether what is not allowed is refused.
    pub mode: Mode,
    /// What is allowed.
    pub allow: Vec<Allow>,
    /// What is allowed for one request each, with the number of its grant.
    pub once: Vec<(u64, Allow)>,
    /// What is denied, whatever is allowed.
    pub deny: Vec<Deny>,
    /// Destinations of plain TCP.
    pub tcp: Vec<TcpTarget>,
    /// Private ranges that the user allows.
    pub ip_allow: Vec<IpNet>,
    /// Addresses of the engine's host, which are never allowed.
    pub own_host: Vec<IpAddr>,
    /// The bottle's own sidecars and services of the user's machine by name. They are reached only by name.
    pub sidecars: BTreeMap<String, Sibling>,
    /// Repositories behind the git gate.
    pub git: GitAccess,
}

/// The destination of an allowed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// None: egress responds itself.
    Canary,
    /// A sidecar of the bottle, or a service of the user's machine.
    Sidecar(Sibling),
    /// None yet: TLS is taken off, and each request inside is judged.
    Inside,
    /// The git gate, with the request's target there.
    Gate(String),
    /// The addresses of the host, once each has passed [`check_addresses`].
    Resolve(Host, u16),
}

impl Policy {
    /// Whether the user allows an address that is not public. Metadata services and translated addresses are never allowed.
    fn allows_private(&self, address: IpAddr, class: Class) -> bool {
        let may_be = matches!(class, Class::Private | Class::Shared | Class::Reserved);
        // "This network" (RFC 791, section 3.2) is the connecting machine itself.
        let is_own = address.is_unspecified() || matches!(address, IpAddr::V4(address) if address.octets()[0] == 0);
        may_be && !is_own && self.ip_allow.iter().any(|range| range.contains(&address))
    }

    /// The action for a secret in a request, if matching entries set it: the strictest of them.
    pub fn scan(&self, intent: &Intent) -> Option<Action> {
        if let GitAccess::Upstream(_) = self.git
            && self.git.request(intent).is_some()
        {
            // The gate has inspected every object; a pack shows nothing to a scanner of bytes.
            return Some(Action::Off);
        }
        self.fitting(&intent.host, intent.port, intent.request()).filter_map(Allow::scan).max()
    }

    /// The handling of TLS for a host. A tunnel only if a matching entry says so, none contradicts, and no denial
    /// applies to the host.
    pub fn tls(&self, host: &Host, port: u16) -> Tls {
        let mut modes = self.fitting(host, port, None).filter_map(Allow::tls).peekable();
        let looked_at = self.deny.iter().any(|entry| entry.covers_host(host, port));
        let tunnel = modes.peek().is_some() && modes.all(|tls| tls == Tls::Tunnel);
        if tunnel && !looked_at { Tls::Tunnel } else { Tls::Intercept }
    }

    fn fitting<'a>(
        &'a self,
        host: &'a Host,
        port: u16,
        request: Option<(&'a str, &'a str)>,
    ) -> impl Iterator<Item = &'a Allow> {
        self.entries().filter(move |entry| entry.match_level(host, port, request) == MatchLevel::All)
    }

    fn entries(&self) -> impl Iterator<Item = &Allow> {
        self.allow.iter().chain(self.once.iter().map(|(_, entry)| entry))
    }

    /// Why somebody may have thought that a host is allowed: an entry for its subdomains, which does not have the host itself.
    pub fn note(&self, reason: &Reason) -> Option<String> {
        let Reason::HostNotAllowed(host) = reason else { return None };
        let rule = self.entries().find_map(|entry| entry.only_below(host))?;
        Some(format!("\"{rule}\" does not include {host} itself"))
    }

    /// The grants for one request that alone allow this one; none if it is allowed anyway.
    pub fn granted_once(&self, intent: &Intent) -> Vec<u64> {
        let fits = |entry: &Allow| entry.match_level(&intent.host, intent.port, intent.request()) == MatchLevel::All;
        // A request for a repository needs no grant.
        let is_git = !matches!(self.git.request(intent), None | Some(GitRequest::Connect));
        let lasting = is_git || intent.form == Form::Tcp || self.mode == Mode::Audit || self.allow.iter().any(fits);
        if lasting {
            Vec::new()
        } else {
            self.once.iter().filter(|(_, entry)| fits(entry)).map(|(id, _)| *id).collect()
        }
    }
}

/// The decision about an intent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Allowed.
    Allow(Destination),
    /// Allowed because nothing is enforced, with the reason why it would be refused.
    Audit(Destination, Reason),
    /// Refused.
    Refuse(Reason),
}

/// Decides about an intent. [`check_addresses`] decides about addresses, once they are known. Where a parameter of the
/// query names another method, as Rails, Symfony, Laravel and others take it, that one must be allowed as well.
pub fn authorize(policy: &Policy, intent: &Intent) -> Decision {
    if let Some(method) = intent.method_of_query() {
        let other = Intent { method: method.to_ascii_uppercase(), ..intent.clone() };
        if let refused @ Decision::Refuse(_) = authorize_method(policy, &other) {
            return refused;
        }
    }
    authorize_method(policy, intent)
}

fn authorize_method(policy: &Policy, intent: &Intent) -> Decision {
    let git = policy.git.request(intent);
    if let Err(reason) = check_form(intent, git.is_some()) {
        return Decision::Refuse(reason);
    }
    if let Host::Name(name) = &intent.host {
        if name == CANARY {
            return Decision::Allow(Destination::Canary);
        }
        if let Some(sibling) = policy.sidecars.get(name) {
            return match check_denied(policy, intent) {
                Err(reason) => Decision::Refuse(reason),
                Ok(()) if sibling.port == intent.port => Decision::Allow(Destination::Sidecar(sibling.clone())),
                Ok(()) => Decision::Refuse(Reason::OtherPort(intent.host.clone(), intent.port, sibling.port)),
            };
        }
    }
    if let Host::Name(name) = &intent.host
        && FORBIDDEN.contains(&name.as_str())
    {
        return Decision::Refuse(Reason::HostNotAllowed(intent.host.clone()));
    }
    if let Err(reason) = check_host(policy, &intent.host) {
        return Decision::Refuse(reason);
    }
    if let Err(reason) = check_denied(policy, intent) {
        return Decision::Refuse(reason);
    }
    let destination = Destination::Resolve(intent.host.clone(), intent.port);
    match git {
        Some(GitRequest::HandOver(target)) => return Decision::Allow(Destination::Gate(target)),
        Some(GitRequest::Ssh | GitRequest::Upstream) => return Decision::Allow(destination),
        Some(GitRequest::Connect) | None => {}
    }
    match allowed(policy, intent, intent.request()) {
        Ok(()) => Decision::Allow(destination),
        Err(_) if git == Some(GitRequest::Connect) => Decision::Allow(Destination::Inside),
        Err(reason) if policy.mode == Mode::Audit && intent.form != Form::Tcp => Decision::Audit(destination, reason),
        Err(reason) => Decision::Refuse(reason),
    }
}

/// Refuses what the denylist has. Of plain TCP nothing shows the method and the path, so that any entry for the host counts.
fn check_denied(policy: &Policy, intent: &Intent) -> Result<(), Reason> {
    let request = intent.request();
    let denies = |entry: &&Deny| match intent.form {
        Form::Tcp => entry.covers_host(&intent.host, intent.port),
        _ => entry.matches(&intent.host, intent.port, request),
    };
    if let Some(entry) = policy.deny.iter().find(denies) {
        return Err(Reason::Denied(intent.host.clone(), entry.rule().to_string()));
    }
    // A path that could bypass a denial is refused.
    if let Some((_, path)) = request
        && policy.deny.iter().any(|entry| entry.checks_paths(&intent.host, intent.port, request))
        && let Some(unclear) = ambiguity(path)
    {
        return Err(PathError::Ambiguous(unclear).into());
    }
    Ok(())
}

fn allowed(policy: &Policy, intent: &Intent, request: Option<(&str, &str)>) -> Result<(), Reason> {
    let host = || intent.host.clone();
    if intent.form == Form::Tcp {
        let named = policy.tcp.iter().any(|target| target.host == intent.host && target.port == intent.port);
        return if named { Ok(()) } else { Err(Reason::HostNotAllowed(host())) };
    }
    let best = policy.entries().map(|entry| entry.match_level(&intent.host, intent.port, request)).max();
    Err(match best.unwrap_or(MatchLevel::Not) {
        MatchLevel::All => return Ok(()),
        MatchLevel::Method => {
            let path = request.map(|(_, path)| path).unwrap_or_default();
            if let Some(what) = ambiguity(path) {
                return Err(PathError::Ambiguous(what).into());
            }
            Reason::PathNotAllowed(host(), path.chars().take(200).collect())
        }
        MatchLevel::Port => Reason::MethodNotAllowed(intent.method.clone(), host()),
        MatchLevel::Host => Reason::PortNotAllowed(host(), intent.port),
        MatchLevel::Not => Reason::HostNotAllowed(host()),
    })
}

/// Refuses what is never forwarded: TRACE, which echoes headers, and a push, which only the git gate may forward (git's
/// http-protocol.txt: `git-receive-pack` at the path's end, or as `service` of the discovery before it).
fn check_form(intent: &Intent, is_git: bool) -> Result<(), Reason> {
    if intent.method == "TRACE" {
        return Err(Reason::BadRequest("TRACE is not forwarded"));
    }
    let whole = intent.path.as_deref().unwrap_or_default();
    let path = whole.split_once('?').map_or(whole, |(path, _)| path);
    let is = |text: &str, name: &str| text.trim().eq_ignore_ascii_case(name);
    let pushes = folded(path).ends_with("/git-receive-pack")
        || intent.query().any(|(name, value)| is(&name, "service") && is(&value, "git-receive-pack"));
    if pushes && !is_git { Err(Reason::PushNotGated(intent.host.clone())) } else { Ok(()) }
}

/// Names of this host and of metadata services, by engines, resolvers and clouds: the docker and podman documentation,
/// RFC 6761 section 6.3, and the clouds' documentation.
const FORBIDDEN_NAMES: [(&str, &str); 9] = [
    ("localhost", "this host"),
    ("host.docker.internal", "this host"),
    ("gateway.docker.internal", "this host"),
    ("docker.for.mac.localhost", "this host"),
    ("host.containers.internal", "this host"),
    ("host.lima.internal", "this host"),
    ("metadata", "a metadata service"),
    ("metadata.google.internal", "a metadata service"),
    ("instance-data.ec2.internal", "a metadata service"),
];

pub(super) fn check_host(policy: &Policy, host: &Host) -> Result<(), Reason> {
    match host {
        Host::Name(name) => match FORBIDDEN_NAMES.iter().find(|(never, _)| name == never) {
            Some((_, what)) => Err(Reason::NameNotPublic(host.clone(), what)),
            None if name.ends_with(".localhost") => Err(Reason::NameNotPublic(host.clone(), "this host")),
            None => Ok(()),
        },
        Host::V4(address) => check_addresses(policy, host, &[(*address).into()]),
        Host::V6(address) => check_addresses(policy, host, &[(*address).into()]),
    }
}

/// Refuses a host if *one* of its addresses is not public: a name with both kinds is an attack or a mistake.
///
/// # Errors
/// [`Reason::AddressNotPublic`] or [`Reason::AddressOfHost`] with the first such address.
pub fn check_addresses(policy: &Policy, host: &Host, addresses: &[IpAddr]) -> Result<(), Reason> {
    for &address in addresses {
        let class = classify(address);
        if class != Class::Public && !policy.allows_private(address, class) {
            return Err(Reason::AddressNotPublic { host: host.clone(), address, class });
        }
        if policy.own_host.contains(&address.to_canonical()) {
            return Err(Reason::AddressOfHost { host: host.clone(), address });
        }
    }
    Ok(())
}

/// Refuses an upstream proxy on this host, a metadata service or a translated address. Private addresses are allowed.
///
/// # Errors
/// [`Reason::AddressNotPublic`] with the first such address.
pub fn check_proxy(host: &Host, addresses: &[IpAddr]) -> Result<(), Reason> {
    let all = ["0.0.0.0/0", "::/0"].map(|range| range.parse().expect("it is a range"));
    check_addresses(&Policy { ip_allow: all.into(), ..Policy::default() }, host, addresses)
}

/// Promise 4: the server name of TLS (RFC 6066, section 3) is the host of the `CONNECT`. An address has none.
///
/// # Errors
/// [`Reason::NotTls`]
pub fn check_server_name(host: &Host, named: Option<&str>) -> Result<(), Reason> {
    match (host, named) {
        (Host::Name(_), None) => Err(Reason::NotTls(host.clone(), "it names no host")),
        (Host::V4(_) | Host::V6(_), None) => Ok(()),
        (_, Some(name)) if Host::parse(name).as_ref() == Ok(host) => Ok(()),
        (_, Some(_)) => Err(Reason::NotTls(host.clone(), "it names another host")),
    }
}
