//! Intent → decision: the single gate for every form of request.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::allow::MatchLevel;
use super::intent::{Form, Intent};
use super::{Allow, CANARY, Deny, FORBIDDEN, GitAccess, GitRequest, Mode, Preset, Sibling, TcpTarget, Tls};
use crate::credential::{Bound, LimitReached, Violation};
use crate::net::{Class, Host, HostError, PathError, ambiguity, classify, folded};
use crate::scan::{Action, DecodeError, Exhausted, Finding};

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

/// Why a request is refused. The code is stable; the sentence and the hint are for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// No rule matches the host.
    #[error("{0} is not on this bottle's allowlist")]
    HostNotAllowed(Host),
    /// A rule of the denylist matches.
    #[error("{0} is on this bottle's denylist, by {1}")]
    Denied(Host, String),
    /// A rule matches the host, but not the port.
    #[error("port {1} of {0} is not on this bottle's allowlist")]
    PortNotAllowed(Host, u16),
    /// A sidecar or a service of the user's machine is at another port.
    #[error("{0} is at port {2}, not at {1}")]
    OtherPort(Host, u16, u16),
    /// The address, or one that the name resolves to, is not public.
    #[error("{}", not_public(host, *address, *class))]
    AddressNotPublic {
        /// The requested host.
        host: Host,
        /// The address that was decisive.
        address: IpAddr,
        /// The class of the address.
        class: Class,
    },
    /// The address, or one that the name resolves to, is this host's.
    #[error("{}", of_this_host(host, *address))]
    AddressOfHost {
        /// The requested host.
        host: Host,
        /// The address that was decisive.
        address: IpAddr,
    },
    /// A name of this host or of a metadata service, wherever it resolves.
    #[error("{0} is a name of {1}")]
    NameNotPublic(Host, &'static str),
    /// The name has no address.
    #[error("{0} has no address: {1}")]
    NameUnresolved(Host, String),
    /// The host is malformed.
    #[error("the host cannot be parsed: {0}")]
    BadHost(#[from] HostError),
    /// The request is malformed, or in a form that egress does not accept.
    #[error("the request is not accepted: {0}")]
    BadRequest(&'static str),
    /// A push to a repository that is not behind the git gate.
    #[error("a push to {0} goes through the git gate only, and this repository is not declared there")]
    PushNotGated(Host),
    /// The request target and the `Host` header differ.
    #[error("the request is for {0}, its Host header says {1:?}")]
    HostMismatch(Host, String),
    /// The host is allowed, but not with this method.
    #[error("{0} {1} is not on this bottle's allowlist")]
    MethodNotAllowed(String, Host),
    /// The host is allowed, but not with this path.
    #[error("the path {1} of {0} is not on this bottle's allowlist")]
    PathNotAllowed(Host, String),
    /// The path is malformed or ambiguous.
    #[error("the path is not accepted: {0}")]
    BadPath(#[from] PathError),
    /// What follows `CONNECT` is not TLS, or not for the host of the `CONNECT`.
    #[error("what follows CONNECT to {0} is not TLS for that host: {1}")]
    NotTls(Host, &'static str),
    /// The request contains a secret.
    #[error("the request contains what must not leave: {0} in its {1}")]
    SecretFound(Finding, &'static str),
    /// A secret that was masked: the request is sent without it.
    #[error("{0} was masked")]
    SecretMasked(Finding),
    /// A placeholder that is not in its slot, or a credential that is not the host's.
    #[error("{0}")]
    Credential(Violation),
    /// Cookies that the host has not handed out.
    #[error(
        "cookies that {0} did not hand out to this bottle are left out, because the bottle has a credential for it"
    )]
    CookiesLeftOut(Host),
    /// A placeholder where no credential stands: it is sent as it is.
    #[error("the request holds the placeholder of a credential in its {0}, where it is not replaced")]
    PlaceholderPassed(&'static str),
    /// What inspects requests behind egress refuses this one, in its own words.
    #[error("Pipelock refuses it: {0}")]
    Inspector(String),
    /// The body cannot be decoded, so it cannot be scanned.
    #[error("the body cannot be inspected: {0}")]
    NotDecoded(DecodeError),
    /// The scan takes too much work.
    #[error("the request cannot be inspected: {0}")]
    TooMuchWork(Exhausted),
    /// A limit of egress is reached.
    #[error("egress is at its limit, and no other request ended in time")]
    Busy,
    /// The body stalled.
    #[error("the body did not continue in time")]
    Stalled,
    /// The client did not read the response, while many others waited.
    #[error("the response was not read, and there were too many like it")]
    Unread,
    /// As many requests with a credential as there may be.
    #[error("{0}")]
    LimitReached(LimitReached),
    /// The destination cannot be reached.
    #[error("{0} cannot be reached: {1}")]
    Unreachable(Host, String),
}

fn not_public(host: &Host, address: IpAddr, class: Class) -> String {
    match host {
        Host::Name(name) => format!("{name} resolves to {address}, {class}"),
        literal => format!("{literal} is {class}"),
    }
}

fn of_this_host(host: &Host, address: IpAddr) -> String {
    match host {
        Host::Name(name) => format!("{name} resolves to {address}, an address of this host"),
        literal => format!("{literal} is an address of this host"),
    }
}

impl From<DecodeError> for Reason {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Exhausted(exhausted) => Self::TooMuchWork(exhausted),
            error => Self::NotDecoded(error),
        }
    }
}

impl Reason {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::HostNotAllowed(_) => "host_not_allowed",
            Self::Denied(..) => "denied",
            Self::PortNotAllowed(..) | Self::OtherPort(..) => "port_not_allowed",
            Self::AddressNotPublic { .. } | Self::AddressOfHost { .. } | Self::NameNotPublic(..) => {
                "address_not_public"
            }
            Self::NameUnresolved(..) => "name_unresolved",
            Self::BadHost(_) => "bad_host",
            Self::BadRequest(_) => "bad_request",
            Self::PushNotGated(_) => "push_not_gated",
            Self::HostMismatch(..) => "host_mismatch",
            Self::MethodNotAllowed(..) => "method_not_allowed",
            Self::PathNotAllowed(..) => "path_not_allowed",
            Self::BadPath(_) => "bad_path",
            Self::NotTls(..) => "not_tls",
            Self::SecretFound(..) => "secret_found",
            Self::SecretMasked(_) => "secret_masked",
            Self::Credential(Violation::Misplaced { .. }) => "placeholder_misplaced",
            Self::Credential(Violation::Foreign { .. } | Violation::Twice { .. }) => "foreign_credential",
            Self::Credential(Violation::NotSigned { .. }) => "not_signed",
            Self::CookiesLeftOut(_) => "cookies_left_out",
            Self::PlaceholderPassed(_) => "placeholder_passed",
            Self::Inspector(_) => "pipelock_refused",
            Self::NotDecoded(_) => "not_decoded",
            Self::TooMuchWork(_) => "too_much_work",
            Self::Busy => "busy",
            Self::Stalled => "stalled",
            Self::Unread => "unread",
            Self::LimitReached(_) => "limit_reached",
            Self::Unreachable(..) => "unreachable",
        }
    }

    /// How to fix it.
    pub fn hint(&self) -> Cow<'static, str> {
        match self {
            Self::HostNotAllowed(host) => match presets(host).as_slice() {
                [] => self.fixed_hint().into(),
                names => {
                    let names = names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(" or ");
                    format!("add {names} (for reading), or the host, to egress.allow of the bottle").into()
                }
            },
            other => other.fixed_hint().into(),
        }
    }

    fn fixed_hint(&self) -> &'static str {
        match self {
            Self::HostNotAllowed(_) => "add the host to egress.allow of the bottle",
            Self::Denied(..) => "remove the entry from egress.deny of the bottle",
            Self::PortNotAllowed(..) => "add host:port to egress.allow of the bottle",
            Self::OtherPort(..) => "use that port: the name has no other",
            Self::AddressNotPublic { .. } => {
                "private addresses are refused; run the service as a sidecar, or allow its range with --allow-ip"
            }
            Self::AddressOfHost { .. } | Self::NameNotPublic(..) => {
                "declare the service in host_services of the bottle, or run it as a sidecar"
            }
            Self::NameUnresolved(..) => "check the spelling of the host",
            Self::BadHost(_) => "use a host name or an address",
            Self::BadRequest(_) => "send CONNECT host:port, or an absolute http:// URL",
            Self::PushNotGated(_) => {
                "leave the work committed, and the operator brings it out with `bottler pull`; or add the repository to `git` of the bottle"
            }
            Self::MethodNotAllowed(..) => "add the method to the host's entry in egress.allow of the bottle",
            Self::PathNotAllowed(..) => "add the path to the host's entry in egress.allow of the bottle",
            Self::BadPath(_) => {
                "send a plain path: no empty or dot segments, parameters, backslashes or double escapes"
            }
            Self::NotTls(..) => "speak TLS with the host's name in it after CONNECT",
            Self::SecretFound(..) => {
                "take the secret out of the request; to allow it for a host, set `scan: off` in the host's egress.allow \
                 entry, or `scan: mask` to send plain text without it; if it is not a secret, add its fingerprint to egress.dlp.allow"
            }
            Self::Credential(Violation::Misplaced { .. }) => {
                "send the placeholder where the credential is declared, to its host and inside TLS; for another place, add \
                 it to the credential's hosts in the manifest"
            }
            Self::Credential(Violation::Foreign { .. }) => {
                "send the placeholder of the bottle's credential; of the tokens that a host hands out itself, only those of \
                 OCI registries are accepted at a host that has a credential, and none of Git LFS"
            }
            Self::Credential(Violation::Twice { .. }) => "send the placeholder once",
            Self::Credential(Violation::NotSigned { .. }) => {
                "sign the request by AWS' Signature Version 4, with the placeholders, in the header Authorization"
            }
            Self::SecretMasked(_) | Self::CookiesLeftOut(_) | Self::PlaceholderPassed(_) => {
                "this is only for information"
            }
            Self::Inspector(_) => {
                "take what it names out of the request; where Pipelock shall not look, set `scan: off` in the host's \
                 egress.allow entry, before the launch"
            }
            Self::NotDecoded(_) => {
                "send the body unencoded, or well-formed with gzip, deflate, br or zstd, and at most 8 MiB"
            }
            Self::TooMuchWork(_) => "send it with fewer nested encodings, or in smaller requests",
            Self::Busy => "send fewer or smaller requests at a time, and retry this one",
            Self::Stalled => "send the body without a pause of more than a minute",
            Self::Unread => "read the responses, or close them",
            Self::LimitReached(_) => "raise the `limits` of the credential, or of the bottle, in the manifest",
            Self::HostMismatch(..) => "send one host in the request target and the Host header",
            Self::Unreachable(..) => "the destination is down or refuses; bottler did not refuse this",
        }
    }
}

impl Reason {
    /// How to fix it in a running bottle. It repeats nothing of the request but the host, because the reader may paste
    /// it into a shell.
    pub fn advice(&self, bottle: &str) -> String {
        let allow = |host: &Host, port: &str, more: &str| {
            // A shell would interpret the brackets of an IPv6 address.
            let quote = if matches!(host, Host::V6(_)) { "'" } else { "" };
            format!("the operator can allow it: `bottler policy allow {bottle} {quote}{host}{port}{quote}{more}`")
        };
        match self {
            Self::HostNotAllowed(host) => match presets(host).as_slice() {
                [] => allow(host, "", ""),
                [name, ..] => {
                    let more = format!("`, or for reading `bottler policy allow {bottle} {name}");
                    allow(host, "", &more)
                }
            },
            Self::PortNotAllowed(host, port) => allow(host, &format!(":{port}"), ""),
            // Only what a shell takes for a word.
            Self::MethodNotAllowed(method, host) if method.bytes().all(|byte| byte.is_ascii_uppercase()) => {
                allow(host, "", &format!(" --method {method}"))
            }
            Self::MethodNotAllowed(_, host) => allow(host, "", " --method METHOD"),
            Self::PathNotAllowed(host, _) => allow(host, "", " --path PATH"),
            Self::LimitReached(reached) => raise(reached, bottle),
            Self::Denied(host, _) => format!(
                "the operator can lift a denial that was made by `bottler policy deny` with `bottler policy deny {bottle} {host} --undo`; \
                 one of the manifest, in egress.deny of the bottle"
            ),
            other => other.fixed_hint().to_owned(),
        }
    }
}

/// The names of the presets that have a host.
fn presets(host: &Host) -> Vec<&'static str> {
    Preset::holding(host).map(|preset| preset.name).collect()
}

/// How to raise a limit: the command, and the manifest's key.
fn raise(reached: &LimitReached, bottle: &str) -> String {
    let wait = reached.wait().map_or_else(String::new, |wait| format!("the next one is allowed in {wait}s; "));
    let options = match reached.bound {
        Bound::Total(_) => "--total N",
        Bound::Rate(..) => "--requests N --per TIME",
        Bound::Concurrent(_) => "--concurrent N",
    };
    let (credential, whose) = match &reached.credential {
        Some(name) => (format!(" {name}"), format!("the credential {name}")),
        None => (String::new(), "the bottle".to_owned()),
    };
    format!(
        "{wait}the operator can raise it: `bottler policy limit {bottle}{credential} {options}`, or `limits` of {whose} in \
         the manifest"
    )
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
